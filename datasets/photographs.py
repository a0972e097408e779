"""Photographs of which nothing is known but the file: read for prediction, those that cannot be read put aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.images import load_rgb
from datasets.transforms import image_transform
from utils.errors import UserError

PICTURE_SIDE = 1024  # pixels, of what is shown


@dataclass(frozen=True)
class Photograph:
    """An image as the model takes it.

    Attributes:
        image: normalised, float32 [3, S, S].
        picture: the photograph itself, no larger than `PICTURE_SIDE` pixels, uint8 RGB [h, w, 3]; a tensor, since
            tensors reach the main process by shared memory. Arrays go through a pipe, and a worker with a full pipe
            lives on for ever when the main process is killed.
        size: width and height of the file's image in pixels.
    """

    image: torch.Tensor
    picture: torch.Tensor
    size: tuple[int, int]


class PhotographDataset(Dataset):
    """Reads images when asked for; one that cannot be read gives its error in place.

    Args:
        paths: the files.
        image_size: side S of the model's input in pixels.
    """

    def __init__(self, paths: Sequence[Path], image_size: int) -> None:
        self.paths = list(paths)
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Photograph | UserError]:
        try:
            image = load_rgb(self.paths[index])
            prepared, size = image_transform(image, self.image_size), image.size
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            return index, Photograph(prepared, torch.from_numpy(np.array(image)), size)
        except UserError as error:
            return index, error
