"""Compare two finished runs on the same images, from their files."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.image_set import ImageSet
from datasets.loader import in_batches, make_loader
from datasets.saved_maps import SavedMapDataset, SavedMaps, find_maps
from engine.evaluation_options import EvaluationOptions
from engine.saved_runs import SavedRun, check_same_images, ground_truth_of, read_run
from utils.comparison import compare_results, write_comparison
from utils.errors import UserError
from utils.evaluation import evaluate
from utils.evaluation_types import ClassResult
from utils.lock import locked
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import IMAGE_MEASURES, measure_class
from utils.runtime import start_log
from utils.stopwatch import Stopwatch

logger = logging.getLogger(__name__)

DRAWS = 1000


def compare_runs(options: EvaluationOptions) -> None:
    """Compare the two runs that the options name, and write and log the tables.

    The image measures need the runs' scores.csv. The pixel measures need the maps of both as well, and the masks of
    the data set that the options, or else the first run's results.json, name.

    Raises:
        UserError: a folder without a finished run, runs on different images, or maps of different sizes.
    """
    folder = options.save_path or Path("results/compare")
    with locked(folder):
        start_log(folder / "compare.log")
        _compare(options, folder, Bootstrap(options.bootstrap or DRAWS, options.confidence, options.seed))


def _compare(options: EvaluationOptions, folder: Path, bootstrap: Bootstrap) -> None:
    a, b = (read_run(run) for run in options.compare)
    check_same_images(a, b)
    notes = [f"no pixel measures: {run.folder} has no maps (--save_maps)" for run in (a, b) if run.maps is None]
    images = None if notes else ground_truth_of(a, options.dataset, options.data_path, options.meta)
    if images is None:
        notes = notes or ["no pixel measures: the data set is not where A found it (say where with --data_path)"]
        results = [_from_scores(run, a, bootstrap) for run in (a, b)]
    else:
        with logging_redirect_tqdm():
            results = _from_maps((a, b), images, bootstrap, options.map_size, options.num_workers)
        notes = list(dict.fromkeys(f"{result.name}: {note}" for result in results[0] for note in result.notes))
    about = {
        name: {
            "title": run.title,
            "folder": str(run.folder),
            **{key: run.content.get(key) for key in ("method", "dataset", "git_commit", "weights", "arguments")},
        }
        for name, run in (("A", a), ("B", b))
    }
    comparison = compare_results(*results, bootstrap)
    text = write_comparison(folder, comparison, about, bootstrap, notes)
    logger.info("%s", text.rstrip())
    logger.info("the comparison is in %s", folder)


def _from_scores(run: SavedRun, order: SavedRun, bootstrap: Bootstrap) -> list[ClassResult]:
    """The image measures, from the scores alone; images are taken in the order of another run on the same ones."""
    classes: dict[str, list[str]] = {}
    for image in order.images.values():
        classes.setdefault(image.class_name, []).append(image.image_path)
    results = []
    for name, paths in classes.items():
        images = [run.images[path] for path in paths]
        scores = np.array([image.score for image in images])
        nothing = np.empty((0, 1, 1))
        measures, _, draws, _ = measure_class(
            name,
            [image.label for image in images],
            scores,
            nothing.astype(np.float32),
            nothing.astype(bool),
            np.zeros(len(images), bool),
            bootstrap=bootstrap,
        )
        results.append(ClassResult(name, [], {key: measures[key] for key in IMAGE_MEASURES}, [], draws))
    return results


def _from_maps(
    runs: Sequence[SavedRun], images: ImageSet, bootstrap: Bootstrap, map_size: int | None, num_workers: int
) -> list[list[ClassResult]]:
    results = []
    for run in runs:
        dataset = SavedMapDataset(images, find_maps(run.maps, images.entries), map_size)
        found = evaluate(
            SavedMaps(),
            make_loader(dataset, in_batches(range(len(dataset)), 1), num_workers),
            images.entries,
            device=torch.device("cpu"),
            stopwatch=Stopwatch(),
            image_scores={image: row.score for image, row in run.images.items()},
            bootstrap=bootstrap,
        )
        results.append(list(found))
    for a, b in zip(*results, strict=True):
        if a.map_shape != b.map_shape:
            said = [" x ".join(map(str, result.map_shape)) for result in (a, b)]
            raise UserError(
                f"the maps of class {a.name} are {said[0]} in {runs[0].folder}, {said[1]} in {runs[1].folder}: "
                "bring them to one size with --map_size"
            )
    return results
