"""The images of one data set, to be tested or trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets.images import MAX_PIXELS, Range, load_mask, load_rgb
from datasets.meta import Entry
from datasets.registry import DatasetSpec, Published
from datasets.transforms import PICTURE_SIDE, mask_transform, resize_rgb


@dataclass(frozen=True)
class ImageSet:
    """Images of a data set, those of a class one after another; `root` is the folder that their paths start from."""

    spec: DatasetSpec
    root: Path
    entries: list[Entry]
    whole: Published | None = None  # size of the test split that these are (a part) of, as published where it was
    notes: list[str] = field(default_factory=list)  # what a reader of the results must know of the images
    intensity: Range | None = None  # the values that are black and white; None: as the files have it
    max_pixels: int = MAX_PIXELS  # images and masks of more are refused
    listed_by: Mapping[str, str | int] = field(default_factory=dict)  # the patterns that its list was built by
    train: Mapping[str, Sequence[Entry]] = field(default_factory=dict)  # the training split, by class

    def phrases(self, *, described: bool = False, called: str | None = None) -> dict[str, str]:
        """Give what each class is called in the prompts: `called`, else see `DatasetSpec.phrase`."""
        names = dict.fromkeys(entry.cls_name for entry in self.entries)
        return {name: called or self.spec.phrase(name, described=described) for name in names}

    def load(self, entry: Entry) -> Image.Image:
        """Read an image as RGB, at its own size."""
        return load_rgb(self.root / entry.img_path, self.intensity, self.max_pixels)

    def read_image(self, entry: Entry, image_size: int | None) -> np.ndarray:
        """Read an image as the model is given it, before normalisation: uint8 RGB [S, S, 3].

        Without a size its aspect is kept, and no side is longer than `PICTURE_SIDE` pixels.
        """
        image = self.load(entry)
        if image_size is not None:
            return resize_rgb(image, image_size)
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        return np.array(image)

    def read_mask(self, entry: Entry, size: tuple[int, int], *, nearest: bool = False) -> torch.Tensor | None:
        """Read an image's mask, bool [H, W] of the height and width `size`, see `mask_transform`; None if unknown.

        A normal image's is empty, and not read. An anomalous or unlabelled image without a mask file has none known.
        """
        if entry.anomaly == 0:
            return torch.zeros(size, dtype=torch.bool)
        if not entry.mask_path:
            return None
        mask = load_mask(self.root / entry.mask_path, self.spec.mask_threshold, self.max_pixels)
        return mask_transform(mask, size, nearest=nearest)
