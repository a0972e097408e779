"""Command-line options of the images to train on and to validate on, and what they stand for."""

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from torch.utils.data import ConcatDataset

from data.build import PROJECT
from data.few_shot import draw
from datasets.loader import AnomalyDataset
from datasets.meta import Entry
from datasets.registry import REGISTRY, canonical_name, get_spec
from datasets.training_images import TrainingImages
from engine.data_sets import EvaluationSet, read_evaluation_set, read_evaluation_sets
from utils.arguments import non_negative_int, positive_int
from utils.distributed import rank, world_size
from utils.errors import UserError

logger = logging.getLogger(__name__)


class Indexed(Protocol):
    """A batch that knows which images it holds."""

    indices: list[int]


BatchT = TypeVar("BatchT", bound=Indexed)


@dataclass(frozen=True)
class TrainingSet:
    """The images of one data set or several, one after another.

    Attributes:
        parts: the data sets.
    """

    parts: list[EvaluationSet]

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
        return ConcatDataset(
            AnomalyDataset(part.entries, part.root, image_size, mask_threshold=part.spec.mask_threshold)
            for part in self.parts
        )

    def augmented(self, image_size: int, seed: int, epoch: int, *, augmented: bool = True) -> ConcatDataset:
        """The images and masks as DP-CLIP is trained on them in an epoch, see `TrainingImages`."""
        firsts = [0, *accumulate(len(part.entries) for part in self.parts)]
        return ConcatDataset(
            TrainingImages(
                part.entries,
                part.root,
                image_size,
                mask_threshold=part.spec.mask_threshold,
                first=first,
                augmented=augmented,
                seed=seed,
                epoch=epoch,
            )
            for part, first in zip(self.parts, firsts[:-1], strict=True)
        )

    def place(self, index: int) -> tuple[EvaluationSet, Entry]:
        """The data set of an image, and its entry there."""
        ends = list(accumulate(len(part.entries) for part in self.parts))
        number = int(np.searchsorted(ends, index, side="right"))
        part = self.parts[number]
        return part, part.entries[index - ends[number]]


def add_training_data_options(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Add the options that choose the images to train on."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--train_dataset",
        required=True,
        nargs="+",
        type=canonical_name,
        choices=REGISTRY,
        metavar="NAME",
        help=f"data sets whose test split is trained on: {', '.join(REGISTRY)}",
    )
    group.add_argument(
        "--train_dataset_dir",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="their folders, in the same order (default: data/NAME)",
    )
    group.add_argument(
        "--train_classes", nargs="+", metavar="CLASS", help="train on these classes only (default: all of the data set)"
    )
    group.add_argument(
        "--train_meta",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the lists of their images, in the same order, as meta.json or .jsonl (default: each folder's meta.json)",
    )
    group.add_argument(
        "--shot",
        type=positive_int,
        metavar="K",
        help="few-shot: train on K normal and K anomalous images of each class, drawn by --seed as data/few_shot.py "
        "draws them (default: on all)",
    )
    group.add_argument(
        "--batch_size", type=positive_int, default=batch_size, help="images a batch and process (default: %(default)s)"
    )
    group.add_argument(
        "--num_workers",
        type=non_negative_int,
        default=2,
        help="processes that read images ahead; 0 reads in the main one (default: %(default)s)",
    )


def add_validation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the images to validate on."""
    group = parser.add_argument_group("validation")
    group.add_argument(
        "--test_dataset",
        type=canonical_name,
        choices=REGISTRY,
        metavar="NAME",
        help="data set to validate on after every checkpoint, none of whose images may be trained on (default: none)",
    )
    group.add_argument("--test_dataset_dir", type=Path, help="its folder (default: data/NAME)")
    group.add_argument("--test_classes", nargs="+", metavar="CLASS", help="validate on these classes only")


def training_set_from_options(args: argparse.Namespace) -> TrainingSet:
    """Read the data sets to train on.

    Raises:
        UserError: there are not as many folders as names, or a data set cannot be read or trained on.
    """
    parts = read_evaluation_sets(
        args.train_dataset,
        args.train_dataset_dir,
        args.train_meta,
        args.train_classes,
        ("train_dataset", "train_dataset_dir", "train_meta", "train_classes"),
    )
    if len({part.root.resolve() for part in parts}) < len(parts):
        raise UserError("--train_dataset_dir names one folder twice")
    parts = [_with_masks(part) for part in parts]
    return TrainingSet([_few(part, args.shot, args.seed) if args.shot else part for part in parts])


def validation_set_from_options(args: argparse.Namespace, training: TrainingSet) -> EvaluationSet | None:
    """Read the data set to validate on; None where none is named.

    Raises:
        UserError: it cannot be read, or holds images that are trained on.
    """
    if args.test_dataset is None:
        return None
    spec = get_spec(args.test_dataset)
    root = args.test_dataset_dir or PROJECT / spec.folder
    images = read_evaluation_set(spec, root, classes=args.test_classes)
    trained_on = {(part.root.resolve(), entry.img_path) for part in training.parts for entry in part.entries}
    both = next((e.img_path for e in images.entries if (root.resolve(), e.img_path) in trained_on), None)
    if both is not None:
        raise UserError(
            f"{root / both} would be trained on and validated on; choose another --test_dataset, or other "
            "--train_classes and --test_classes"
        )
    return images


def _with_masks(images: EvaluationSet) -> EvaluationSet:
    """The images whose ground truth is known: normal ones, and anomalous ones with a mask; others are counted."""
    known = [entry for entry in images.entries if entry.anomaly == 0 or (entry.anomaly == 1 and entry.mask_path)]
    if not any(entry.mask_path for entry in known):
        raise UserError(f"{images.root} has no masks to train on; choose a --train_dataset with masks")
    if len(known) < len(images.entries):
        unknown = len(images.entries) - len(known)
        logger.warning("left out of the training for want of a label or a mask: %d images in %s", unknown, images.root)
    return EvaluationSet(images.spec, images.root, known)


def _few(images: EvaluationSet, shot: int, seed: int) -> EvaluationSet:
    """A few images of each class and label."""
    classes: dict[str, list[Entry]] = {}
    for entry in images.entries:
        classes.setdefault(entry.cls_name, []).append(entry)
    drawn = draw(classes, shot, seed)
    return EvaluationSet(images.spec, images.root, [entry for entries in drawn.values() for entry in entries])


def shared_steps(batches: Iterable[BatchT], count: int, batch_size: int) -> Iterator[tuple[BatchT | None, float]]:
    """The steps of an epoch, in which every process takes `batch_size` images, or as many as there are.

    Args:
        batches: of this process's images, which are every n-th of the epoch's from its rank on.
        count: number of images of all processes.
        batch_size: images of a batch.

    Yields:
        This process's part of a step, None where the last step has no image for it, and what share of the step's
        images that is.
    """
    batches = iter(batches)
    together = batch_size * world_size()  # see `step_count`
    for first in range(0, count, together):
        part = next(batches, None)
        yield part, 0.0 if part is None else len(part.indices) / min(together, count - first)


def step_count(count: int, batch_size: int) -> int:
    """Number of the steps of an epoch of `count` images, of which each process takes `batch_size` a step."""
    return -(-count // (batch_size * world_size()))


def epoch_order(count: int, seed: int, epoch: int, *, shuffled: bool) -> Sequence[int]:
    """The order in which an epoch, counted from 1, takes the images; of several processes, this one's."""
    order = np.random.default_rng([seed, epoch]).permutation(count).tolist() if shuffled else range(count)
    return order[rank() :: world_size()]
