"""The data sets to train and to validate on, and which images they are, by the content of their files.

Folders may be moved, and copies are recognised.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Any, TypeVar

from data.few_shot import draw
from datasets.image_set import ImageSet
from datasets.images import mask_files
from datasets.meta import Entry
from datasets.registry import get_spec
from engine.data_sets import named_in, read_test_split
from engine.training_options import TrainingOptions, ValidationOptions
from models.adapter_checkpoint import AdapterCheckpoint
from utils.distributed import shared_out
from utils.errors import UserError
from utils.files import sha256_of
from utils.runtime import progress

logger = logging.getLogger(__name__)

READERS = 4  # threads that read files
COLUMNS = ("img_path", "cls_name", "anomaly", "mask_sha256", "bytes", "sha256")  # what is known of each image
Fingerprints = Mapping[str, Sequence[Any]]  # column -> its value for each image, in the order of the training
T = TypeVar("T")


def read_training_sets(options: TrainingOptions) -> list[ImageSet]:
    """Read the data sets to train on."""
    named = named_in(options, "train_dataset", "train_dataset_dir", "train_meta", "train_protocol")
    if options.train_classes and len(named) > 1:
        raise UserError("--train_classes goes with one --train_dataset only")
    parts = [read_test_split(*one, options.train_classes, options.intensity, options) for one in named]
    if len({part.root.resolve() for part in parts}) < len(parts):
        raise UserError("--train_dataset_dir names one folder twice")
    return [_trainable(part, options) for part in parts]


def _trainable(images: ImageSet, options: TrainingOptions) -> ImageSet:
    """Choose images with known truth: normal, and anomalous with a mask; a few if `--shot` says so."""
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


def read_validation_set(options: ValidationOptions, training: Fingerprints) -> ImageSet | None:
    """Read the data set to validate on, which may hold no image that is trained on; None where none is named."""
    if options.test_dataset is None:
        return None
    spec = get_spec(options.test_dataset, options.test_protocol)
    settings = {"classes": options.test_classes, "intensity": options.intensity, "options": options}
    images = read_test_split(spec, options.test_dataset_dir, **settings)
    if both := known_images(images, training):
        raise UserError(
            f"{images.root / both[0].img_path}, or a copy of it, would be trained on and validated on; choose another "
            "--test_dataset, or other --train_classes and --test_classes"
        )
    return images


def for_each_image(read: Callable[[ImageSet, Entry], T], sets: Sequence[ImageSet], description: str) -> list[T]:
    """Call what reads files for every image of data sets, in threads, and shared out among the processes."""
    entries = [(images, entry) for images in sets for entry in images.entries]

    def read_all(indices: Sequence[int]) -> list[T]:
        with ThreadPoolExecutor(READERS) as readers:
            found = readers.map(lambda index: read(*entries[index]), indices)
            return list(progress(found, total=len(indices), unit="image", desc=description))

    return shared_out(read_all, len(entries))


def fingerprints(sets: Sequence[ImageSet]) -> Fingerprints:
    """Read what a training on data sets depends on: names, labels, and the content of images and masks."""

    def read(images: ImageSet, entry: Entry) -> tuple[Any, ...]:
        path, has_mask = images.root / entry.img_path, entry.anomaly != 0 and entry.mask_path
        mask = " ".join(map(sha256_of, mask_files(images.root / entry.mask_path))) if has_mask else ""
        return entry.img_path, entry.cls_name, entry.anomaly, mask, path.stat().st_size, sha256_of(path)

    rows = for_each_image(read, sets, "fingerprints")
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


def known_images(images: ImageSet, record: Fingerprints) -> list[Entry]:
    """Find the images of a data set whose files have the content of one in the record, whatever they are called.

    Only files of the size of one are read; one that cannot be is not known.
    """
    sizes, digests = set(record["bytes"]), set(record["sha256"])

    def is_known(images: ImageSet, entry: Entry) -> bool:
        path = images.root / entry.img_path
        with suppress(OSError):
            return path.stat().st_size in sizes and sha256_of(path) in digests
        return False

    found = for_each_image(is_known, [images], "comparing")
    return [entry for entry, known in zip(images.entries, found, strict=True) if known]


def seen_in_training(checkpoints: Iterable[AdapterCheckpoint], images: ImageSet) -> list[str]:
    """Say how many of a data set's images checkpoints were trained on, and which files do not record theirs."""
    said, name, count = [], images.spec.name, len(images.entries)
    records: list[Fingerprints] = []
    for checkpoint in checkpoints:
        if checkpoint.images is None:
            said.append(f"{checkpoint.path} does not record its images: whether it was trained on {name} is not known")
        elif checkpoint.images not in records:  # all epochs of a training have the same
            records.append(checkpoint.images)
    for seen in filter(None, (len(known_images(images, record)) for record in records)):
        what = name if seen == count else f"{name} ({seen} of {count} images)"
        said.append(f"{what} is what the checkpoint was trained on: its figures say nothing of unseen data")
    return said
