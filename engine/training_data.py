"""What is trained on: the images of one data set or several, and those to validate on."""

import logging
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset

from data.few_shot import draw
from datasets.image_set import ImageSet
from datasets.loader import AnomalyDataset
from datasets.meta import Entry
from datasets.registry import get_spec
from datasets.training_images import TrainingImages
from engine.data_sets import read_test_split, read_test_splits
from engine.training_options import TrainingDataOptions, ValidationOptions
from utils.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """The images of data sets, one after another."""

    parts: list[ImageSet]

    @property
    def entries(self) -> list[Entry]:
        """All images, in order."""
        return [entry for part in self.parts for entry in part.entries]

    @property
    def classes(self) -> list[tuple[int, str]]:
        """The number of the data set, and the name of the class, of each image."""
        return [(i, entry.cls_name) for i, part in enumerate(self.parts) for entry in part.entries]

    def dataset(self, image_size: int) -> ConcatDataset:
        """The images and masks, read when asked for."""
        return ConcatDataset(AnomalyDataset(part, image_size) for part in self.parts)

    def augmented(self, image_size: int, seed: int, epoch: int, *, augmented: bool = True) -> ConcatDataset:
        """The images and masks as DP-CLIP is trained on them in an epoch, see `TrainingImages`."""
        firsts = [0, *accumulate(len(part.entries) for part in self.parts)]
        return ConcatDataset(
            TrainingImages(images=part, image_size=image_size, first=first, augmented=augmented, seed=seed, epoch=epoch)
            for part, first in zip(self.parts, firsts[:-1], strict=True)
        )

    def place(self, index: int) -> tuple[ImageSet, Entry]:
        """The data set of an image, and its entry there."""
        ends = list(accumulate(len(part.entries) for part in self.parts))
        number = int(np.searchsorted(ends, index, side="right"))
        part = self.parts[number]
        return part, part.entries[index - ends[number]]

    def file(self, index: int) -> Path:
        """The file of an image."""
        part, entry = self.place(index)
        return part.root / entry.img_path


def read_training_set(options: TrainingDataOptions, seed: int) -> TrainingSet:
    """Read the data sets to train on; a few of their images if `--shot` says so, drawn by `seed`.

    Raises:
        UserError: there are not as many folders as names, or a data set cannot be read or trained on.
    """
    parts = read_test_splits(
        options.train_dataset,
        options.train_dataset_dir,
        options.train_meta,
        options.train_classes,
        ("train_dataset", "train_dataset_dir", "train_meta", "train_classes"),
    )
    if len({part.root.resolve() for part in parts}) < len(parts):
        raise UserError("--train_dataset_dir names one folder twice")
    parts = [_with_masks(part) for part in parts]
    return TrainingSet([_few(part, options.shot, seed) if options.shot else part for part in parts])


def read_validation_set(options: ValidationOptions, training: TrainingSet) -> ImageSet | None:
    """Read the data set to validate on; None where none is named.

    Raises:
        UserError: it cannot be read, or holds images that are trained on.
    """
    if options.test_dataset is None:
        return None
    images = read_test_split(get_spec(options.test_dataset), options.test_dataset_dir, classes=options.test_classes)
    trained_on = {(part.root.resolve(), entry.img_path) for part in training.parts for entry in part.entries}
    both = next((e.img_path for e in images.entries if (images.root.resolve(), e.img_path) in trained_on), None)
    if both is not None:
        raise UserError(
            f"{images.root / both} would be trained on and validated on; choose another --test_dataset, or other "
            "--train_classes and --test_classes"
        )
    return images


def _with_masks(images: ImageSet) -> ImageSet:
    """The images whose ground truth is known: normal ones, and anomalous ones with a mask; others are counted."""
    known = [entry for entry in images.entries if entry.anomaly == 0 or (entry.anomaly == 1 and entry.mask_path)]
    if not any(entry.mask_path for entry in known):
        raise UserError(f"{images.root} has no masks to train on; choose a --train_dataset with masks")
    if len(known) < len(images.entries):
        unknown = len(images.entries) - len(known)
        logger.warning("left out of the training for want of a label or a mask: %d images in %s", unknown, images.root)
    return replace(images, entries=known)


def _few(images: ImageSet, shot: int, seed: int) -> ImageSet:
    """A few images of each class and label."""
    classes: dict[str, list[Entry]] = {}
    for entry in images.entries:
        classes.setdefault(entry.cls_name, []).append(entry)
    drawn = draw(classes, shot, seed)
    return replace(images, entries=[entry for entries in drawn.values() for entry in entries])
