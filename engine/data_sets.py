"""The test splits of the data sets that options name, read from their folders."""

import logging
from collections.abc import Sequence
from pathlib import Path

from data.build import ensure_meta
from data.checks import incompleteness
from datasets.image_set import ImageSet
from datasets.loader import AnomalyDataset, ErrorRaisingLoader, in_batches_of_one_class, make_loader
from datasets.meta import read_meta
from datasets.registry import DatasetSpec, get_spec
from engine.options import DataSetsOptions, ReadingOptions
from models.backbone import Backbone
from utils.distributed import first_of_machine_first, is_main, rank, world_size
from utils.errors import UserError

logger = logging.getLogger(__name__)


def read_data_sets(options: DataSetsOptions) -> list[ImageSet]:
    """Read the test splits of the data sets to test on.

    Raises:
        UserError: a data set cannot be read, is named twice, or there are not as many folders or lists as names.
    """
    if len(set(options.dataset)) < len(options.dataset):
        raise UserError("--dataset names one data set twice: test it in two runs")
    return read_test_splits(options.dataset, options.data_path, options.meta, options.classes)


def read_test_splits(
    names: Sequence[str],
    folders: Sequence[Path] | None,
    lists: Sequence[Path] | None,
    classes: Sequence[str] | None,
    called: Sequence[str] = ("dataset", "data_path", "meta", "classes"),
) -> list[ImageSet]:
    """Read the test splits of several data sets, see `read_test_split`; `called` are the options of the first four.

    Raises:
        UserError: a data set cannot be read, or there are not as many folders or lists as names.
    """
    for values, option, what in ((folders, called[1], "folders"), (lists, called[2], "lists")):
        if values is not None and len(values) != len(names):
            raise UserError(
                f"--{called[0]} names {len(names)} data sets, --{option} {len(values)} {what}: give one for each, in "
                "the same order"
            )
    if classes and len(names) > 1:
        raise UserError(f"--{called[3]} goes with one --{called[0]} only")
    roots, files = folders or [None] * len(names), lists or [None] * len(names)
    return [
        read_test_split(get_spec(name), root, file, classes)
        for name, root, file in zip(names, roots, files, strict=True)
    ]


def read_test_split(
    spec: DatasetSpec, root: Path | None, meta_file: Path | None = None, classes: Sequence[str] | None = None
) -> ImageSet:
    """Read the test split of a data set, or some classes of it; one that is not as published is warned of.

    Args:
        root: its folder; None for the usual one.
        meta_file: the list of its images; None for the folder's own, which is built if there is none.
        classes: which to take; None for all.

    Raises:
        UserError: the data set cannot be read, or has no such class.
    """
    root = root or spec.folder
    with first_of_machine_first():
        path = meta_file or ensure_meta(spec, root)
    meta = read_meta(path, root)
    if meta_file is None and is_main() and (lack := incompleteness(meta, spec.published)):
        logger.warning("%s has %s", root, lack)
    test = meta["test"]
    if classes is not None:
        unknown = sorted(set(classes) - set(test))
        if unknown:
            raise UserError(f"{path} has no class {unknown[0]} in its test split; it has {', '.join(test)}")
        test = {name: entries for name, entries in test.items() if name in classes}
    return ImageSet(spec, root, [entry for entries in test.values() for entry in entries])


def evaluation_loader(images: ImageSet, backbone: Backbone, reading: ReadingOptions, seed: int) -> ErrorRaisingLoader:
    """Batches of a test set for a backbone, or this process's share of them; `seed` is that of the workers."""
    dataset = AnomalyDataset(images, backbone.image_size)
    batches = in_batches_of_one_class(images.entries, reading.batch_size)[rank() :: world_size()]
    pin_memory = backbone.device.type == "cuda"
    return make_loader(dataset, batches, reading.num_workers, pin_memory=pin_memory, seed=seed)
