"""The test splits of the data sets that options name, read from their folders, to test, train and validate on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path

from torch.utils.data import ConcatDataset

from data.build import ensure_meta
from data.checks import incompleteness
from data.few_shot import draw
from datasets.image_set import ImageSet
from datasets.loader import AnomalyDataset, ErrorRaisingLoader, in_batches_of_one_class, make_loader
from datasets.meta import Entry, read_meta
from datasets.registry import DatasetSpec, get_spec
from datasets.training_images import TrainingImages
from engine.options import DataSetsOptions, ReadingOptions, TrainingDataOptions, ValidationOptions
from models.backbone import Backbone
from utils.arguments import Options
from utils.distributed import first_of_machine_first, is_main, rank, world_size
from utils.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """The images of data sets, one after another."""

    parts: list[ImageSet]

    @cached_property
    def images(self) -> list[tuple[ImageSet, Entry]]:
        """Each image's data set, and its entry there."""
        return [(part, entry) for part in self.parts for entry in part.entries]

    def file(self, index: int) -> Path:
        """The file of an image."""
        part, entry = self.images[index]
        return part.root / entry.img_path

    def dataset(self, image_size: int) -> ConcatDataset:
        """The images and masks, read when asked for."""
        return ConcatDataset(AnomalyDataset(part, image_size) for part in self.parts)

    def augmented(self, image_size: int, seed: int, epoch: int, *, augmented: bool) -> ConcatDataset:
        """The images and masks as DP-CLIP is trained on them in an epoch, see `TrainingImages`."""
        firsts = accumulate((len(part.entries) for part in self.parts), initial=0)
        return ConcatDataset(
            TrainingImages(images=part, image_size=image_size, first=first, augmented=augmented, seed=seed, epoch=epoch)
            for part, first in zip(self.parts, firsts, strict=False)
        )


def read_data_sets(options: DataSetsOptions) -> list[ImageSet]:
    """Read the test splits of the data sets to test on."""
    if len(set(options.dataset)) < len(options.dataset):
        raise UserError("--dataset names one data set twice: test it in two runs")
    return _read_test_splits(options, "dataset", "data_path", "meta", "classes")


def read_training_set(options: TrainingDataOptions, seed: int) -> TrainingSet:
    """Read the data sets to train on; a few of their images if `--shot` says so, drawn by `seed`."""
    parts = _read_test_splits(options, "train_dataset", "train_dataset_dir", "train_meta", "train_classes")
    if len({part.root.resolve() for part in parts}) < len(parts):
        raise UserError("--train_dataset_dir names one folder twice")
    parts = [_with_masks(part) for part in parts]
    return TrainingSet([_few(part, options.shot, seed) if options.shot else part for part in parts])


def read_validation_set(options: ValidationOptions, training: TrainingSet) -> ImageSet | None:
    """Read the data set to validate on, which may hold no image that is trained on; None where none is named."""
    if options.test_dataset is None:
        return None
    images = read_test_split(get_spec(options.test_dataset), options.test_dataset_dir, classes=options.test_classes)
    trained_on = {(part.root.resolve(), entry.img_path) for part, entry in training.images}
    both = next((e.img_path for e in images.entries if (images.root.resolve(), e.img_path) in trained_on), None)
    if both is not None:
        raise UserError(
            f"{images.root / both} would be trained on and validated on; choose another --test_dataset, or other "
            "--train_classes and --test_classes"
        )
    return images


def _read_test_splits(options: Options, dataset: str, folder: str, meta: str, classes: str) -> list[ImageSet]:
    """Read the test splits of several data sets, see `read_test_split`, by the options of these names."""
    names, chosen = getattr(options, dataset), getattr(options, classes)
    places = []
    for option, what in ((folder, "folders"), (meta, "lists")):
        paths = getattr(options, option) or [None] * len(names)
        if len(paths) != len(names):
            raise UserError(
                f"--{dataset} names {len(names)} data sets, --{option} {len(paths)} {what}: give one for each, in the "
                "same order"
            )
        places.append(paths)
    if chosen and len(names) > 1:
        raise UserError(f"--{classes} goes with one --{dataset} only")
    return [read_test_split(get_spec(name), *place, chosen) for name, *place in zip(names, *places, strict=True)]


def read_test_split(
    spec: DatasetSpec, root: Path | None, meta_file: Path | None = None, classes: Sequence[str] | None = None
) -> ImageSet:
    """Read the test split of a data set, or some classes of it; one that is not as published is warned of.

    Args:
        root: its folder; None for the usual one.
        meta_file: the list of its images; None for the folder's own, which is built if there is none.
        classes: which to take; None for all.
    """
    root = root or spec.folder
    with first_of_machine_first():
        path = meta_file or ensure_meta(spec, root)
    meta = read_meta(path, root)
    if meta_file is None and is_main() and (lack := incompleteness(meta, spec.published)):
        logger.warning("%s has %s", root, lack)
    test = meta["test"]
    unknown = sorted(set(classes or ()) - set(test))
    if unknown:
        raise UserError(f"{path} has no class {unknown[0]} in its test split; it has {', '.join(test)}")
    return ImageSet(spec, root, [entry for name in test if name in (classes or test) for entry in test[name]])


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
    return replace(images, entries=list(chain.from_iterable(draw(classes, shot, seed).values())))


def evaluation_loader(images: ImageSet, backbone: Backbone, reading: ReadingOptions, seed: int) -> ErrorRaisingLoader:
    """Batches of a test set for a backbone, or this process's share of them; `seed` is that of the workers."""
    dataset = AnomalyDataset(images, backbone.image_size)
    batches = in_batches_of_one_class(images.entries, reading.batch_size)[rank() :: world_size()]
    pin_memory = backbone.device.type == "cuda"
    return make_loader(dataset, batches, reading.num_workers, pin_memory=pin_memory, seed=seed)
