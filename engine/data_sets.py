"""Command-line options of the data set, and what they stand for."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.build import PROJECT, ensure_meta
from data.common import completeness, is_complete
from datasets.images import load_rgb
from datasets.loader import ErrorRaisingLoader, make_loader
from datasets.meta import Entry, read_meta
from datasets.registry import REGISTRY, DatasetSpec, canonical_name, get_spec
from datasets.transforms import resize_rgb
from utils.arguments import non_negative_int, positive_int
from utils.distributed import first_of_machine_first, is_main, rank, world_size
from utils.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSet:
    """The images a method is tested on, those of a class one after another."""

    spec: DatasetSpec
    root: Path
    entries: list[Entry]

    @property
    def phrases(self) -> dict[str, str]:
        """What each class is called in CLIP-AD's prompts."""
        return {name: self.spec.phrase(name) for name in dict.fromkeys(e.cls_name for e in self.entries)}

    @property
    def described_phrases(self) -> dict[str, str]:
        """What each class is called in DP-CLIP's prompts."""
        return {name: self.spec.phrase(name, described=True) for name in self.phrases}

    def read_image(self, entry: Entry, image_size: int) -> np.ndarray:
        """An image as the model is given it, before normalisation: uint8 RGB [S, S, 3]."""
        return resize_rgb(load_rgb(self.root / entry.img_path), image_size)


def add_data_options(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the options that choose a data set and how it is read; for `default` see `add_data_set_options`."""
    group = parser.add_argument_group("data")
    add_data_set_options(group, default)
    add_reading_options(group)


def add_reading_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of how images are read: how many at once, and by how many processes."""
    group.add_argument("--batch_size", type=positive_int, default=8, help="images a batch (default: %(default)s)")
    add_worker_option(group)


def add_data_set_options(group: argparse._ArgumentGroup, default: str | None = None) -> None:
    """Add the options that choose a data set to a group; it must be named unless `default` says what else it is."""
    group.add_argument(
        "--dataset",
        required=default is None,
        type=canonical_name,
        choices=REGISTRY,
        metavar="NAME",
        help=f"one of {', '.join(REGISTRY)}; folder is for images of your own"
        + ("" if default is None else f" (default: {default})"),
    )
    group.add_argument("--data_path", type=Path, help="the data set's folder (default: data/NAME)")
    group.add_argument(
        "--meta",
        type=Path,
        help="the list of its images, as meta.json or as JSON lines (.jsonl) with image_path, label, class_name and "
        "mask_path, relative to the folder; default: the folder's meta.json, which is built if there is none",
    )
    group.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="test these classes only (default: all of the data set)"
    )


def add_data_sets_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose one data set or several, and how they are read."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        required=True,
        nargs="+",
        type=canonical_name,
        choices=REGISTRY,
        metavar="NAME",
        help=f"one or several of {', '.join(REGISTRY)}; folder is for images of your own",
    )
    group.add_argument(
        "--data_path", nargs="+", type=Path, metavar="DIR", help="their folders, in the same order (default: data/NAME)"
    )
    group.add_argument(
        "--meta",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the lists of their images, in the same order, as meta.json or .jsonl; default: each folder's meta.json, "
        "which is built if there is none",
    )
    group.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="test these classes only (default: all of the data set)"
    )
    group.add_argument("--batch_size", type=positive_int, default=8, help="images a batch (default: %(default)s)")
    add_worker_option(group)


def add_worker_option(group: argparse._ArgumentGroup) -> None:
    """Add the option of how many processes read ahead."""
    group.add_argument(
        "--num_workers",
        type=non_negative_int,
        default=2,
        help="processes that read images ahead; 0 reads in the main one (default: %(default)s)",
    )


def evaluation_set_from_options(args: argparse.Namespace) -> EvaluationSet:
    """Read the test split that the options name, building its meta.json if there is none."""
    spec = get_spec(args.dataset)
    root = args.data_path or PROJECT / spec.folder
    return read_evaluation_set(spec, root, args.meta, args.classes)


def evaluation_sets_from_options(args: argparse.Namespace) -> list[EvaluationSet]:
    """Read the test splits of the data sets that the options name, see `add_data_sets_options`.

    Raises:
        UserError: a data set cannot be read, is named twice, or there are not as many folders or lists as names.
    """
    if len(set(args.dataset)) < len(args.dataset):
        raise UserError("--dataset names one data set twice: test it in two runs")
    return read_evaluation_sets(args.dataset, args.data_path, args.meta, args.classes)


def read_evaluation_sets(
    names: Sequence[str],
    folders: Sequence[Path] | None,
    lists: Sequence[Path] | None,
    classes: Sequence[str] | None,
    options: Sequence[str] = ("dataset", "data_path", "meta", "classes"),
) -> list[EvaluationSet]:
    """The test splits of several data sets.

    Args:
        names: of the data sets.
        folders: theirs; None for the usual ones.
        lists: of their images; None for the folders' own.
        classes: which to take, of a single data set; None for all.
        options: what the four are called on the command line, for the messages.

    Raises:
        UserError: see `evaluation_sets_from_options`.
    """
    for values, option, what in ((folders, options[1], "folders"), (lists, options[2], "lists")):
        if values is not None and len(values) != len(names):
            raise UserError(
                f"--{options[0]} names {len(names)} data sets, --{option} {len(values)} {what}: give one for each, in "
                "the same order"
            )
    if classes and len(names) > 1:
        raise UserError(f"--{options[3]} goes with one --{options[0]} only")
    specs = [get_spec(name) for name in names]
    roots = folders or [PROJECT / spec.folder for spec in specs]
    files = lists or [None] * len(specs)
    return [
        read_evaluation_set(spec, root, file, classes) for spec, root, file in zip(specs, roots, files, strict=True)
    ]


def read_evaluation_set(
    spec: DatasetSpec, root: Path, meta_file: Path | None = None, classes: Sequence[str] | None = None
) -> EvaluationSet:
    """The test split of a data set, or some classes of it; one that is not as published is warned of.

    Args:
        spec: the data set.
        root: its folder.
        meta_file: the list of its images; None for the folder's own, which is built if there is none.
        classes: which to take; None for all.

    Raises:
        UserError: the data set cannot be read, or has no such class.
    """
    with first_of_machine_first():
        path = meta_file or ensure_meta(spec, root)
    meta = read_meta(path, root)
    if meta_file is None and is_main() and not is_complete(meta, spec.published):
        logger.warning("%s has %s", root, completeness(meta, spec.published))
    test = meta["test"]
    if classes is not None:
        unknown = sorted(set(classes) - set(test))
        if unknown:
            raise UserError(f"{path} has no class {unknown[0]} in its test split; it has {', '.join(test)}")
        test = {name: entries for name, entries in test.items() if name in classes}
    return EvaluationSet(spec, root, [entry for entries in test.values() for entry in entries])


def loader_from_options(
    args: argparse.Namespace, images: EvaluationSet, image_size: int, *, pin_memory: bool
) -> ErrorRaisingLoader:
    """Batches of the test set, or this process's share of them."""
    return make_loader(
        images.entries,
        images.root,
        image_size,
        args.batch_size,
        args.num_workers,
        mask_threshold=images.spec.mask_threshold,
        share=slice(rank(), None, world_size()),
        pin_memory=pin_memory,
        seed=args.seed,
    )


def fill_in_from_data_set(args: argparse.Namespace, spec: DatasetSpec) -> None:
    """Fill in, in place, the options of prompts and maps whose default is the data set's."""
    defaults = {
        "prompts": spec.domain,
        "dbscan_eps": spec.dbscan_eps,
        "dbscan_min_samples": spec.dbscan_min_samples,
        "smoothing": spec.smoothing,
    }
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
