"""The images DP-CLIP is trained on: augmented anew in each epoch, whatever the batch and the worker."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset

from datasets.augmentation import Augmentation
from datasets.images import load_mask, load_rgb
from datasets.loader import Item
from datasets.meta import Entry
from datasets.transforms import image_transform, nearest_mask_transform
from utils.errors import UserError


class TrainingImages(Dataset):
    """Images and masks of a data set as they are trained on in one epoch.

    Args:
        entries: what to read; each normal or with a mask.
        root: the data set's folder.
        image_size: side S of the images in pixels.
        mask_threshold: see `load_mask`.
        first: number of the first image, where several data sets are counted through.
        augmented: whether to augment.
        seed, epoch: of the augmentation, which depends on these and the image's number.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        root: Path,
        image_size: int,
        *,
        mask_threshold: int,
        first: int,
        augmented: bool,
        seed: int,
        epoch: int,
    ) -> None:
        self.entries = list(entries)
        self.root = root
        self.image_size = image_size
        self.mask_threshold = mask_threshold
        self.first = first
        self.augmented = augmented
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Item | UserError:
        """An item, its index counted from `first`; what a user can mend is returned, see `AnomalyDataset`."""
        entry = self.entries[index]
        number = self.first + index
        augmentation = Augmentation.draw(self.seed, self.epoch, number) if self.augmented else Augmentation()
        try:
            colours = augmentation.recolour(load_rgb(self.root / entry.img_path))
            image = augmentation.move(image_transform(colours, self.image_size))
            return Item(image, self._mask(entry, augmentation), number, entry)
        except UserError as error:
            return error

    def _mask(self, entry: Entry, augmentation: Augmentation) -> torch.Tensor:
        if entry.anomaly == 0:
            return torch.zeros(self.image_size, self.image_size, dtype=torch.bool)
        mask = load_mask(self.root / entry.mask_path, self.mask_threshold)
        pixels = nearest_mask_transform(mask, self.image_size)
        return augmentation.move(pixels[None].float())[0] != 0
