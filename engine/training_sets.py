"""The data sets to train and to validate on."""

import logging
from dataclasses import replace
from itertools import groupby

from data.few_shot import draw
from datasets.image_set import ImageSet
from datasets.registry import get_spec
from engine.data_sets import named_in, read_test_split
from engine.fingerprints import Fingerprints, known_images
from engine.training_options import TrainingOptions, ValidationOptions
from utils.errors import UserError

logger = logging.getLogger(__name__)


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
