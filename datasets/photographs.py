"""Photographs of which nothing is known but the file: found by what a user names, and read for prediction."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.images import IMAGE_SUFFIXES, Range, load_rgb
from datasets.transforms import image_transform
from utils.errors import UserError

FROM_STDIN = "-"
PICTURE_SIDE = 1024  # pixels, of what is shown


def find_photographs(inputs: Sequence[str], listed: Iterable[str]) -> list[Path]:
    """The images that the inputs stand for, each once, in the order of the inputs.

    Inputs are files of any name; folders, whose images (by suffix, in subfolders too) are taken by name; patterns like
    `parts/**/*.png`; or "-", which stands for the lines `listed`, a file each.

    Files that are not there are taken over, for the results to say so, if others are; if none is, or an input stands
    for nothing, that is a `UserError`.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        if text == FROM_STDIN:
            paths = [Path(line.rstrip("\r\n")) for line in listed if line.strip()]
        elif (path := Path(text)).is_dir():
            files = (Path(parent, name) for parent, _, names in os.walk(path) for name in names if name[0] != ".")
            paths = sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)
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


@dataclass(frozen=True)
class Photograph:
    """An image as the model takes it, and as it is shown.

    Both are tensors, which reach the main process by shared memory. Arrays go through a pipe, and a worker with a full
    pipe lives on for ever when the main process is killed.
    """

    image: torch.Tensor  # normalised, float32 [3, S, S]
    picture: torch.Tensor  # no larger than `PICTURE_SIDE` pixels, uint8 RGB [h, w, 3]
    size: tuple[int, int]  # width and height of the file's image in pixels


@dataclass(frozen=True)
class PhotographDataset(Dataset):
    """The files `paths` for a model's input of `image_size` pixels a side; one that cannot be read gives its error."""

    paths: Sequence[Path]
    image_size: int
    intensity: Range | None = None  # see `load_rgb`

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Photograph | UserError]:
        try:
            image = load_rgb(self.paths[index], self.intensity)
            prepared, size = image_transform(image, self.image_size), image.size
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            return index, Photograph(prepared, torch.from_numpy(np.array(image)), size)
        except UserError as error:
            return index, error
