"""The test splits of the data sets that options name, read from their folders, to test, train and validate on."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from data.build import ensure_meta, known_problems
from data.checks import incompleteness
from data.few_shot import draw
from datasets.image_set import ImageSet
from datasets.loader import (
    AnomalyDataset,
    ErrorRaisingLoader,
    Numbered,
    collate_readable,
    in_batches_of_one_class,
    make_loader,
)
from datasets.meta import find_meta, read_meta
from datasets.registry import DatasetSpec, Published, get_spec
from engine.fingerprints import Fingerprints, known_images
from engine.options import DataSetsOptions, ReadingOptions, TrainingOptions, ValidationOptions
from models.backbone import Backbone
from utils.arguments import Options
from utils.distributed import first_of_machine_first, is_main, rank, world_size
from utils.errors import UserError
from utils.files import nfc

logger = logging.getLogger(__name__)


def read_data_sets(options: DataSetsOptions) -> list[ImageSet]:
    """Read the test splits of the data sets to test on."""
    if len(set(options.dataset)) < len(options.dataset):
        raise UserError("--dataset names one data set twice: test it in two runs")
    return _read_test_splits(options, "dataset", "data_path", "meta", "classes")


def read_training_sets(options: TrainingOptions) -> list[ImageSet]:
    """Read the data sets to train on."""
    parts = _read_test_splits(options, "train_dataset", "train_dataset_dir", "train_meta", "train_classes")
    if len({part.root.resolve() for part in parts}) < len(parts):
        raise UserError("--train_dataset_dir names one folder twice")
    return [_trainable(part, options) for part in parts]


def read_validation_set(options: ValidationOptions, training: Fingerprints) -> ImageSet | None:
    """Read the data set to validate on, which may hold no image that is trained on; None where none is named."""
    if options.test_dataset is None:
        return None
    images = read_test_split(get_spec(options.test_dataset), options.test_dataset_dir, classes=options.test_classes)
    if both := known_images(images, training):
        raise UserError(
            f"{images.root / both[0].img_path}, or a copy of it, would be trained on and validated on; choose another "
            "--test_dataset, or other --train_classes and --test_classes"
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
    is_said = meta_file is None and find_meta(root) is None  # by the builder
    with first_of_machine_first():
        path = meta_file or ensure_meta(spec, root)
    meta = read_meta(path, root)
    if meta_file is None and is_main() and (lack := incompleteness(meta, spec.published)):
        logger.warning("%s has %s", root, lack)
    test = meta["test"]
    chosen, names = set(map(nfc, classes or test)), set(map(nfc, test))
    unknown = sorted(chosen - names)
    if unknown:
        raise UserError(f"{path} has no class {unknown[0]} in its test split; it has {', '.join(test)}")
    whole = spec.published or Published.count(len(test), [entry.anomaly for group in test.values() for entry in group])
    entries = [entry for name in test if nfc(name) in chosen for entry in test[name]]
    problems = known_problems(spec, root, path, entries) if is_main() else []
    for problem in () if is_said else problems:
        logger.warning("%s", problem)
    return ImageSet(spec, root, entries, whole, problems)


def _trainable(images: ImageSet, options: TrainingOptions) -> ImageSet:
    """The images with known ground truth: normal ones, and anomalous ones with a mask; a few if `--shot` says so."""
    known = [entry for entry in images.entries if entry.anomaly == 0 or (entry.anomaly == 1 and entry.mask_path)]
    if not any(entry.mask_path for entry in known):
        raise UserError(f"{images.root} has no masks to train on; choose a --train_dataset with masks")
    if len(known) < len(images.entries):
        unknown = len(images.entries) - len(known)
        logger.warning("left out of the training for want of a label or a mask: %d images in %s", unknown, images.root)
    if options.shot is not None:
        classes = groupby(known, key=lambda entry: entry.cls_name)
        known = [entry for _, group in classes for entry in draw(group, options.shot, options.seed)]
    return replace(images, entries=known)


def evaluation_loader(
    images: ImageSet, backbone: Backbone, reading: ReadingOptions, seed: int, *, skip_broken: bool = False
) -> ErrorRaisingLoader:
    """Batches of a test set for a backbone, or this process's share of them; `seed` is that of the workers.

    With `skip_broken` they are `PartialBatch`es, and images that cannot be read end nothing.
    """
    dataset = AnomalyDataset(images, backbone.image_size)
    batches = in_batches_of_one_class(images.entries, reading.batch_size)[rank() :: world_size()]
    pin_memory = backbone.device.type == "cuda"
    options = {"pin_memory": pin_memory, "seed": seed}
    if skip_broken:
        dataset, options["collate_fn"] = Numbered(dataset), collate_readable
    return make_loader(dataset, batches, reading.num_workers, **options)
