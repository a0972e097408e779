"""Photographs of which nothing is known but the file: found by what a user names, and read for prediction."""

import glob
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.image_files import IMAGE_SUFFIXES, is_result, passed_over
from datasets.images import MAX_PIXELS, ImageSource, Range, load_rgb
from datasets.transforms import PICTURE_SIDE, as_array, image_transform
from utils.errors import UserError
from utils.files import matches, visible_files

logger = logging.getLogger(__name__)

FROM_STDIN = "-"


def find_photographs(inputs: Sequence[str], listed: Iterable[str]) -> list[Path]:
    """Find the images that the inputs stand for, each once, in the order of the inputs.

    Inputs are files of any name; folders, whose images (by suffix, in subfolders too) are taken by name; patterns like
    `parts/**/*.png`; or "-", which stands for the lines `listed`, a file each. What is hidden is passed over in folders
    and patterns; what a run wrote, in lines as well.

    Files that are not there, and folders that cannot be listed, are taken over, for the results to say so, if others
    are; if none is, or an input stands for nothing, that is a `UserError`.
    """
    found: dict[str, Path] = {}  # by absolute path, so that a file counts once whatever it is called
    for text in inputs:
        path = Path(text)
        if text == FROM_STDIN:
            paths = [Path(line.rstrip("\r\n")) for line in listed if line.strip()]
        elif os.path.isdir(path):  # noqa: PTH112 - which any name may be asked
            paths = sorted(_images_in(path))
        elif os.path.exists(path) or not glob.has_magic(text):  # noqa: PTH110
            paths = [path]
        else:
            paths = [one for one in sorted(matches(text)) if one.is_file()]
        paths = [one for one in paths if one == path or not is_result(one)]  # what is named is meant
        if not paths:
            known = f"known are {', '.join(sorted(IMAGE_SUFFIXES))}, and what runs wrote is passed over"
            raise UserError(f"there are no images in {text}: {known}")
        for path in paths:
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - links stay
    if not any(map(os.path.exists, found.values())):
        raise UserError(f"there is no file or folder {next(iter(found.values()))}")
    return list(found.values())


def _images_in(folder: Path) -> list[Path]:
    unlisted: list[Path] = []
    files = list(visible_files(folder, lambda error: unlisted.append(Path(error.filename))))
    if said := passed_over(files):
        logger.warning("in %s, %s", folder, said)
    return [*unlisted, *(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)]


def output_name(path: str | Path, folder: Path) -> str:
    """Name an image's results, relative, with `/`: its path below a folder; of one outside, below `_`."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - links stay
    return (whole.relative_to(folder) if whole.is_relative_to(folder) else Path("_", *whole.parts[1:])).as_posix()


def common_folder(folders: Iterable[str | Path]) -> Path:
    """Find the deepest folder that all folders are or lie in, as an absolute path."""
    return Path(os.path.commonpath(map(os.path.abspath, folders)))  # links stay


@dataclass(frozen=True)
class Photograph:
    """An image at the size that the model takes, and as it is shown."""

    image: torch.Tensor  # uint8 [3, S, S], to be normalised
    picture: torch.Tensor  # no larger than `PICTURE_SIDE` pixels, uint8 RGB [h, w, 3]
    size: tuple[int, int]  # width and height of the file's image in pixels
    pixels: torch.Tensor | None = None  # uint8 RGB [H, W, 3], to cut tiles from


@dataclass(frozen=True)
class PhotographDataset(Dataset):
    """Images for a model's input of `image_size` pixels a side; one that cannot be read gives its error."""

    sources: Sequence[ImageSource]
    image_size: int
    intensity: Range | None = None  # see `load_rgb`, as the next
    max_pixels: int = MAX_PIXELS
    tiled: bool = False  # whether `pixels` are given

    def __len__(self) -> int:
        return len(self.sources)

    def place(self, index: int) -> ImageSource:
        """Say where an item's image is."""
        return self.sources[index]

    def __getitem__(self, index: int) -> tuple[int, Photograph | UserError]:
        try:
            source = self.sources[index]
            if isinstance(source, str | Path) and os.path.isdir(source):  # noqa: PTH112
                os.listdir(source)  # noqa: PTH208 - which says why it cannot be listed
            image = load_rgb(source, self.intensity, self.max_pixels)
            prepared, size = image_transform(image, self.image_size), image.size
            pixels = torch.from_numpy(as_array(image)) if self.tiled else None
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            return index, Photograph(prepared, torch.from_numpy(np.array(image)), size, pixels)
        except UserError as error:
            return index, error
        except OSError as error:
            return index, UserError(f"cannot list {error.filename}: {error.strerror}")
