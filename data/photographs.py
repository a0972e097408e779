"""The images that a user points at: files, folders, patterns, or a list on standard input."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.files import IMAGE_SUFFIXES
from utils.errors import UserError

FROM_STDIN = "-"


def find_photographs(inputs: Sequence[str], listed: Iterable[str]) -> list[Path]:
    """The images that the inputs stand for, each once, in the order of the inputs.

    Args:
        inputs: files of any name; folders, whose images (by suffix, in subfolders too) are taken by name; patterns
            like `parts/**/*.png`; or "-".
        listed: the lines that "-" stands for, a file each.

    Files that are not there are taken over, for the results to say so, if others are.

    Raises:
        UserError: an input stands for nothing, or no file is there.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        if text == FROM_STDIN:
            paths = [Path(line.rstrip("\r\n")) for line in listed if line.strip()]
        elif (path := Path(text)).is_dir():
            paths = _images_below(path)
        elif path.exists() or not glob.has_magic(text):
            paths = [path]
        else:
            matches = glob.glob(text, recursive=True)  # noqa: PTH207 - Path's takes no absolute pattern
            paths = [path for name in sorted(matches) if (path := Path(name)).is_file()]
        if not paths:
            raise UserError(f"there are no images in {text}: known are {', '.join(sorted(IMAGE_SUFFIXES))}")
        found.update(dict.fromkeys(paths))
    if not any(path.exists() for path in found):
        raise UserError(f"there is no file or folder {next(iter(found))}")
    return list(found)


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for each image's results, relative and with `/`: its path below the folder that all have in common."""
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - links stay
    common = Path(os.path.commonpath([path.parent for path in absolute]))
    return [path.relative_to(common).as_posix() for path in absolute]


def _images_below(folder: Path) -> list[Path]:
    files = (
        Path(parent) / name
        for parent, folders, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
    )
    return sorted(files)
