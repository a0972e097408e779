"""Measure anomaly maps that lie on the disk, and compare two finished runs by their scores and maps."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.found import read_csv
from datasets.image_set import ImageSet
from datasets.loader import ErrorRaisingLoader, in_batches, make_loader
from datasets.registry import get_spec
from datasets.saved_maps import SavedMapDataset, SavedMaps, find_maps, swapped_sides
from engine.data_sets import read_test_split
from engine.earlier_results import check_settings, folder_name, mask_threshold_of
from engine.evaluation import evaluate, evaluate_and_report
from engine.evaluation_options import EvaluationOptions
from engine.saved_runs import Kinds, SavedRun, check_same_images, finite_number, ground_truth_of, read_scores
from engine.seeds import compare_seeds, seed_runs, title_of
from utils.arguments import plain_record
from utils.distributed import is_main, rank, world_size
from utils.errors import UserError
from utils.evaluation_types import ClassResult, ImageScore
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import IMAGE_MEASURES, measure_class
from utils.results import compare_results, write_comparison
from utils.runtime import Stopwatch, locked, start_log

logger = logging.getLogger(__name__)

PICTURE_SIZE = 512  # of an image on the page, in pixels
MAXIMUM_IS_SCORE = "an image's score is its map's maximum, as no scores were given"
DRAWS = 1000  # of a comparison, unless the options say otherwise
CPU = torch.device("cpu")


def measure_maps(options: EvaluationOptions) -> None:
    """Measure the maps in the folder `--maps`, and write what a run writes."""
    spec = get_spec(options.dataset or "folder", options.protocol)
    name = spec.name
    folder = options.save_path or Path("results/evaluate", folder_name(spec, options.data_path))
    options, stopwatch = replace(options, dataset=name, save_path=folder), Stopwatch()
    with locked(folder):
        start_log(folder / "evaluate.log", append=not options.overwrite)
        with stopwatch("data set"):
            intensity = options.intensity if options.report else None
            images = read_test_split(spec, options.data_path, options.meta, options.classes, intensity, options)
            loader, problems = _map_loader(images, options.maps, options)
            scores = None if options.scores is None else read_scores(options.scores, images.entries)
        of = {"dataset": name, "protocol": spec.protocol}
        arguments = plain_record(options) | of | {"data_path": str(images.root.resolve())}
        arguments |= {"maps": str(options.maps.resolve()), "mask_threshold": images.spec.mask_threshold}
        description = {"method": "saved maps", **of, "arguments": arguments}
        if is_main() and not options.overwrite:
            check_settings(folder / "results.json", description)
        evaluate_and_report(
            SavedMaps(),
            lambda _: loader,
            images,
            options,
            title=f"The maps of {options.maps} on {spec.label}",
            description=description,
            device=CPU,
            stopwatch=stopwatch,
            to_picture=(lambda image: images.read_image(image.sample, PICTURE_SIZE)) if options.report else None,
            image_scores=scores,
            notes=[*problems, *([MAXIMUM_IS_SCORE] if scores is None else [])],
            made_with=f"measured from the maps in {options.maps}",
        )


def _map_loader(images: ImageSet, maps: Path, options: EvaluationOptions) -> tuple[ErrorRaisingLoader, list[str]]:
    """Load the maps of a data set, or this process's share of them, one by one; and say what looks wrong with them."""
    dataset = SavedMapDataset(images, find_maps(maps, images.entries), options.map_size)
    problems = swapped_sides(images, dataset.maps) if is_main() else []
    for problem in problems:
        logger.warning("%s", problem)
    batches = in_batches(range(len(dataset)), 1)[rank() :: world_size()]
    return make_loader(dataset, batches, options.num_workers), problems


def compare_runs(options: EvaluationOptions) -> None:
    """Compare the two runs that the options name, and write and log the tables.

    The image measures need the runs' scores.csv. The pixel measures need the maps of both as well, and the masks of
    the data set that the options, or else the first run's results.json, name. Of a test of several seeds, see
    `compare_seeds`, their measures are those in their results.json.
    """
    folder = options.save_path or Path("results/compare")
    with locked(folder):
        start_log(folder / "compare.log", append=not options.overwrite)
        arguments = plain_record(options)
        if is_main() and not options.overwrite:
            check_settings(folder / "compare.json", {"arguments": arguments})
        runs_of = {"A": seed_runs(options.compare[0]), "B": seed_runs(options.compare[1])}
        (a, *_), (b, *_) = runs_of.values()
        for one in (one for runs in runs_of.values() for one in runs):
            check_same_images(a.folder, a.kinds, one.folder, one.kinds)
        if max(map(len, runs_of.values())) > 1:
            comparison, intervals, notes = compare_seeds(*runs_of.values(), options)
        else:
            bootstrap = Bootstrap(options.bootstrap or DRAWS, options.confidence, options.seed)
            results, notes = _measure(a, b, options, bootstrap)
            comparison = compare_results(*results, bootstrap) if is_main() else {}
            comparison |= {"bootstrap": asdict(bootstrap)}
            intervals = f"{bootstrap}, the same draws for both runs"
        if not is_main():
            return
        about = {}
        for (name, runs), path in zip(runs_of.items(), options.compare, strict=True):
            said = {
                key: runs[0].content.get(key) for key in ("method", "dataset", "git_commit", "weights", "arguments")
            }
            about[name] = {"title": title_of(runs), "folder": str(path), **said}
        comparison["arguments"] = arguments
        text = write_comparison(folder, comparison, about, intervals, notes)
        logger.info("the comparison:\n%s", text.rstrip())
        logger.info("the comparison is in %s", folder)


def _measure(
    a: SavedRun, b: SavedRun, options: EvaluationOptions, bootstrap: Bootstrap
) -> tuple[list[list[ClassResult]], list[str]]:
    """Measure two runs class by class, by their scores alone where maps or masks are missing; notes say so."""
    notes = [f"no pixel measures: {run.folder} has no maps (--save_maps)" for run in (a, b) if run.maps is None]
    thresholds = [mask_threshold_of(run.content) for run in (a, b)]
    if not notes and options.mask_threshold is None and thresholds[0] != thresholds[1]:
        values = f"{thresholds[0]} in {a.folder}, {thresholds[1]} in {b.folder}"
        raise UserError(f"the runs' masks are anomalous above different values, {values}: choose with --mask_threshold")
    images = None if notes else ground_truth_of(a, options)
    if images is None:
        notes = notes or ["no pixel measures: the data set is not where A found it (say where with --data_path)"]
        return [_from_scores(run, a.kinds, bootstrap) for run in (a, b)], notes
    images = replace(images, max_pixels=options.max_pixels)
    results, notes = [], list(images.notes)
    for run in (a, b):
        loader, problems = _map_loader(images, run.maps, options)
        notes += (f"{run.folder}: {problem}" for problem in problems)
        known = {"image_scores": run.scores, "bootstrap": bootstrap}
        results.append(evaluate(SavedMaps(), loader, images.entries, device=CPU, stopwatch=Stopwatch(), **known))
        if options.map_size == run.content.get("arguments", {}).get("map_size"):
            _refuse_other_maps(run, results[-1])
    for first, second in zip(*results, strict=True):
        if first.map_shape != second.map_shape:
            here, there = (_size(result.map_shape) for result in (first, second))
            sizes = f"{here} in {a.folder}, {there} in {b.folder}"
            raise UserError(f"the maps of class {first.name} are {sizes}: bring them to one size with --map_size")
    notes += (f"{result.name}: {note}" for result in results[0] for note in result.notes)
    return results, list(dict.fromkeys(notes))


def _refuse_other_maps(run: SavedRun, results: Sequence[ClassResult]) -> None:
    """Refuse maps that are not those a run was measured on, as their maxima in its scores.csv tell."""
    table, highest = run.folder / "scores.csv", {}
    for line, (image, text) in read_csv(table, ["image_path", "map_max"]):
        highest[image] = finite_number(text, f"{table}, line {line}")
    for image in (image for result in results for image in result.images):
        before = highest[image.image_path]
        if np.float32(before) != np.float32(image.map_max):  # as a spreadsheet may have rounded them
            what = f"the map of {image.image_path} in {run.maps} has the maximum {image.map_max}, in {table} {before}"
            raise UserError(f"{what}: measure {run.folder} again, or bring back the maps that it was measured on")


def _size(shape: tuple[Any, ...]) -> str:
    return " x ".join(map(str, shape)) if isinstance(shape[0], int) else "of several sizes"


def _from_scores(run: SavedRun, kinds: Kinds, bootstrap: Bootstrap) -> list[ClassResult]:
    """Measure a run by its scores alone, on images in the order of `kinds`."""
    classes: dict[str, list[ImageScore]] = {}
    for image, (name, label) in kinds.items():
        classes.setdefault(name, []).append(ImageScore(image, name, label, run.scores[image]))
    no_maps = np.empty((0, 1, 1), np.float32)
    results = []
    for images in classes.values():
        has_mask = np.zeros(len(images), bool)
        found = measure_class(images, no_maps, no_maps.astype(bool), has_mask, bootstrap=bootstrap)
        results.append(replace(found, measures={key: found.measures[key] for key in IMAGE_MEASURES}, notes=[]))
    return results
