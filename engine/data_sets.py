"""The test splits of the data sets that options name, read from their folders, and batches of them."""

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

from data.build import default_threshold, ensure_meta, known_problems
from data.checks import incompleteness
from data.layouts import LAYOUTS
from datasets.image_set import ImageSet
from datasets.images import MAX_PIXELS
from datasets.intensity import find_range
from datasets.layout_options import PATTERNS, LayoutOptions
from datasets.loader import AnomalyDataset, ErrorRaisingLoader, collate_readable, in_batches_of_one_class, make_loader
from datasets.meta import find_meta, read_about, read_meta, read_phrases
from datasets.registry import DatasetSpec, Published, get_specs
from engine.options import TestOptions
from engine.training_options import SDPPlusTrainingOptions
from models.backbone import Backbone
from utils.arguments import Options
from utils.distributed import first_of_machine_first, from_main, is_main, rank, world_size
from utils.errors import UserError, some_of
from utils.files import nfc

logger = logging.getLogger(__name__)

Named = tuple[DatasetSpec, Path | None, Path | None]  # a data set, its folder and its list, as options name them


def read_data_sets(options: Options) -> tuple[dict[int, ImageSet], dict[int, UserError]]:
    """Read the test splits of the data sets to test on, by their places; of several, some may fail, which say why.

    Each of several needs have but some of the classes that are chosen; one that has none is left out. Images are looked
    for where the options say how they are read.
    """
    classes, intensity = getattr(options, "classes", None), getattr(options, "intensity", None)
    if len(set(options.dataset)) < len(options.dataset):
        raise UserError("--dataset names one data set twice: test it in two runs")
    several, found, failed = len(options.dataset) > 1, {}, {}
    for place, parts in enumerate(named_in(options)):
        try:
            found[place] = read_test_split(*parts, classes, intensity, options, partly=several)
        except UserError as error:
            if not several or world_size() > 1:  # of several processes, others cannot go on after it
                raise
            failed[place] = error
    if not failed:
        check_phrases(options, found.values())
    names = {nfc(entry.cls_name) for images in found.values() for entry in images.entries}
    unknown = [name for name in classes or () if nfc(name) not in names]
    if unknown and not failed:
        raise UserError(f"--classes: none of the data sets has a class {unknown[0]} in its test split")
    for images in (images for images in found.values() if not images.entries):
        logger.warning("%s is left out: it has none of the --classes", images.root)
    return {place: images for place, images in found.items() if images.entries}, failed


def check_phrases(options: Options, data_sets: Iterable[ImageSet]) -> None:
    """Refuse the options' `phrases`, if there are any, where one is for a class that none of the data sets has."""
    if (path := getattr(options, "phrases", None)) is not None:
        names = [name for images in data_sets for name in (*images.phrases(), *images.spec.own_phrases)]
        read_phrases(path, dict.fromkeys(names))


def named_in(
    options: Options, name: str = "dataset", folder: str = "data_path", meta: str = "meta", protocol: str = "protocol"
) -> list[Named]:
    """List the data sets that the options of these names name; a program may lack the latter two."""
    names, places = getattr(options, name), []
    for option, what in ((folder, "folders"), (meta, "lists")):
        paths = getattr(options, option, None) or [None] * len(names)
        if len(paths) != len(names):
            found = f"--{name} names {len(names)} data sets, --{option} {len(paths)} {what}"
            raise UserError(f"{found}: give one for each, in the same order")
        places.append(paths)
    return [*zip(get_specs(names, getattr(options, protocol, None)), *places, strict=True)]


def read_test_split(
    spec: DatasetSpec,
    root: Path | None,
    meta_file: Path | None = None,
    classes: Sequence[str] | None = None,
    intensity: str | None = None,
    options: Options | None = None,
    *,
    partly: bool = False,
) -> ImageSet:
    """Read the test split of a data set, or some classes of it; one that is not whole is warned of.

    Args:
        root: its folder; None for the usual one.
        meta_file: the list of its images; None for the folder's own, which is built if there is none.
        classes: which to take; None for all.
        intensity: the option, see `find_range`; None where images are not read.
        options: the program's, which may have `LayoutOptions`, `phrases` and `max_pixels`.
        partly: whether classes that it lacks are passed over.
    """
    root = root or spec.folder
    is_said = meta_file is None and find_meta(root, spec.meta_name) is None  # by the builder
    given = {one.name: getattr(options, one.name, None) for one in fields(LayoutOptions)}
    own, phrases_file = LayoutOptions(**given), getattr(options, "phrases", None)
    spec = spec.with_threshold(own.mask_threshold)
    patterns = own.patterns() if spec.name == "folder" else {}
    if patterns and meta_file:
        raise UserError(f"--{next(iter(patterns))} finds images that {meta_file} lists: give one of the two")
    with first_of_machine_first():
        path = meta_file or ensure_meta(spec, root, patterns)
    meta, about = read_meta(path, root), read_about(path, spec)
    if about.by_patterns and spec.name != "folder":
        raise UserError(f"{path} was built by patterns, for --dataset folder: delete it, or give --dataset folder")
    threshold = about.options.get("mask_threshold", default_threshold(spec))
    if own.mask_threshold is None:
        spec = spec.with_threshold(threshold)
    elif LAYOUTS[spec.label].by_masks and spec.mask_threshold != threshold and meta_file is None:
        raise UserError(f"{path} has the labels of masks above {threshold}: delete it, and it is built for others")
    phrases = about.phrases if phrases_file is None else read_phrases(phrases_file)
    spec = replace(spec, own_phrases={name: phrase for name, phrase in phrases.items() if name in meta["test"]})
    if meta_file is None and is_main() and (lack := incompleteness(meta, spec.published)):
        logger.warning("%s has %s", root, lack)
    test = meta["test"]
    chosen, names = set(map(nfc, classes or test)), set(map(nfc, test))
    unknown = sorted(chosen - names)
    if unknown and not partly:
        raise UserError(f"{path} has no class {unknown[0]} in its test split; it has {', '.join(test)}")
    whole = spec.published or Published.count(len(test), [entry.anomaly for group in test.values() for entry in group])
    entries = [entry for name in test if nfc(name) in chosen for entry in test[name]]
    if not getattr(options, "skip_broken", False):
        images = [] if intensity is None else [entry.img_path for entry in entries]
        masks = [entry.mask_path for entry in entries if entry.mask_path]
        refuse_absent(root, [*images, *masks], f"{path} lists files")  # before any work
    problems = known_problems(spec, root, path, entries) if is_main() else []
    for problem in () if is_said else problems:
        logger.warning("%s", problem)
    paths = [] if intensity is None else [root / entry.img_path for entry in entries]
    max_pixels = getattr(options, "max_pixels", MAX_PIXELS)
    shown, notes = from_main(lambda: find_range(intensity or "full", paths, max_pixels))
    for note in notes if is_main() else ():
        logger.warning("in %s, %s", root, note)
    if spec.mask_threshold != default_threshold(spec):
        problems.append(f"masks begin above {spec.mask_threshold} of 255")
    labels = [entry.anomaly for entry in entries]
    counts = (labels.count(label) for label in (0, 1, None))
    logger.info("%s: %d normal, %d anomalous and %d unlabelled images", root, *counts)
    listed_by = {name: value for name, value in about.options.items() if name in PATTERNS}
    return ImageSet(spec, root, entries, whole, [*problems, *notes], shown, max_pixels, listed_by, meta["train"])


def refuse_absent(root: Path, names: Sequence[str], what: str) -> None:
    """Refuse files, which a message says `what` they are, if any is not in the folder `root` or may not be read."""
    with ThreadPoolExecutor() as pool:  # as a network's file system takes its time
        usable = pool.map(lambda name: os.access(root / name, os.R_OK), names)
        absent = [name for name, is_usable in zip(names, usable, strict=True) if not is_usable]
    if absent:
        what = f"{what} that are not in {root}, or may not be read ({len(absent)}): {some_of(absent)}"
        raise UserError(f"{what}; restore them, or take them off the list")


def evaluation_loader(
    images: ImageSet, backbone: Backbone, reading: TestOptions | SDPPlusTrainingOptions
) -> ErrorRaisingLoader:
    """Batches of a test set for a backbone, or this process's share of them; of one image each to cut tiles from.

    With --skip_broken they are `PartialBatch`es, and images that cannot be read end nothing.
    """
    tiled = reading.tile is not None
    dataset = AnomalyDataset(images, backbone.image_size, tiled)
    batches = in_batches_of_one_class(images.entries, 1 if tiled else reading.batch_size)[rank() :: world_size()]
    pin_memory = backbone.device.type == "cuda" and not tiled
    options = {"pin_memory": pin_memory, "seed": reading.seed, "prefetch_factor": 1 if tiled else None}
    if getattr(reading, "skip_broken", False):
        options["collate_fn"] = collate_readable
    return make_loader(dataset, batches, reading.num_workers, **options)
