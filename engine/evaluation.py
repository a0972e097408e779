"""The one evaluation loop: loader -> maps and scores -> measures, class by class, for any detector; and its report."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.image_set import ImageSet
from datasets.loader import Batch, PartialBatch
from datasets.meta import Entry
from engine.class_maps import Measuring, collect_class, predict_images
from engine.earlier_results import ClassKeeper, remove_results
from engine.evaluation_options import EvaluationOptions
from engine.options import TestOptions
from engine.origin import run_on
from engine.rows import row_lines
from engine.tiling import tiling_of
from models.tiles import Tiling
from page.page import HtmlReport
from utils.background import free_cores
from utils.distributed import from_main, in_turn, is_main
from utils.errors import UserError
from utils.evaluation_types import ClassResult, Detector, ImageMap, Sample, Writer
from utils.measures.bootstrap import Bootstrap
from utils.names import shown
from utils.results import ResultsWriter, Run, results_table
from utils.runtime import Stopwatch, progress

logger = logging.getLogger(__name__)

MOST_CLASSES = 4  # measured at once: a class takes 6 ms an image of one core, and a GPU's prediction a few


def evaluate_and_report(
    detector: Detector,
    load: Callable[[list[Entry]], Iterable[Batch | PartialBatch]],
    images: ImageSet,
    options: TestOptions | EvaluationOptions,
    *,
    title: str,
    description: Mapping[str, Any],
    device: torch.device,
    stopwatch: Stopwatch,
    to_picture: Callable[[ImageMap], np.ndarray] | None,
    writers: Sequence[Writer] = (),
    image_scores: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    made_with: str,
) -> tuple[Run, list[ClassResult]]:
    """Run the evaluation loop (see `evaluate`), write to the options' `save_path`, log and return the results.

    Of several processes, the main one writes and has the results, the others have none.

    Args:
        load: gives the loader of the images that are to be done, in the order of `images`.
        description: how the measures come about; the command and the environment are added.
        to_picture: see `HtmlReport`; None for no page.
        notes: what to say below the table, after the notes on the images.
        made_with: see `Run`.
    """
    bootstrap = options.bootstrap and Bootstrap(options.bootstrap, options.confidence, options.seed)
    about = {"title": title, "description": description, "made_with": made_with, "notes": notes}
    run = run_on(images, folder=options.save_path, device=device, bootstrap=bootstrap, **about)
    resume = getattr(options, "resume", False) and (run.folder / "results.json").exists()
    if is_main() and not resume:
        remove_results(run.folder)
    page = [] if to_picture is None else [HtmlReport(run, to_picture)]
    writers = [ResultsWriter(run, device, stopwatch, row_lines), *page, *writers]
    keeper = ClassKeeper(run.folder, images, writers)
    results = keeper.restore() if is_main() and resume else []
    done = from_main(lambda: {result.name for result in results})
    todo = [entry for entry in images.entries if entry.cls_name not in done]
    if done:
        logger.info("kept what an earlier run found of %s", ", ".join(sorted(done)))
    running = {"device": device, "stopwatch": stopwatch, "image_scores": image_scores}
    if isinstance(options, TestOptions):
        running |= {"tiling": tiling_of(options), "batch_size": options.batch_size}
    no_maps = getattr(detector, "no_maps", None)
    measuring = {"legacy_pro": options.legacy_pro, "bootstrap": run.bootstrap, "no_maps": no_maps}
    try:
        if todo:
            results += evaluate(detector, load(todo), todo, writers=[*writers, keeper], **running, **measuring)
    finally:  # the classes that a run finished before it was stopped are written as well
        with stopwatch("output"):
            messages = [writer.finish() for writer in writers]
    if not is_main():
        return run, results
    logger.info("%s\n%s", run.title, results_table(results, run.bootstrap))
    for note in run.notes_on(results):
        logger.info("note: %s", note)
    seconds = ", ".join(f"{part} {value:.1f} s" for part, value in stopwatch.items())
    total = stopwatch.total()
    logger.info("%d images in %.1f s, %.1f a second (%s)", len(todo), total, len(todo) / total, seconds)
    for message in filter(None, messages):
        logger.info("%s", message)
    return run, results


def evaluate(
    detector: Detector,
    loader: Iterable[Batch | PartialBatch],
    samples: Sequence[Sample],
    *,
    device: torch.device,
    stopwatch: Stopwatch,
    writers: Sequence[Writer] = (),
    image_scores: Mapping[str, float] | None = None,
    tiling: Tiling | None = None,
    batch_size: int = 1,
    **measuring: Any,
) -> list[ClassResult]:
    """Run a detector over images and measure it class by class, each in a thread while the next ones are predicted.

    Several processes share the batches: each predicts its own, and the main one measures, writes and has the results.

    Args:
        loader: batches of `samples`, in their order; of several processes, the one of rank r of n gives every n-th
            batch from the r-th on.
        samples: the images, those of a class one after another.
        stopwatch: is given the seconds of loading, prediction, output and waiting for the measures, and, where there
            are several processes, of waiting for the others' predictions.
        writers: are given each image and each class, but not the end; the caller calls `finish`.
        image_scores: scores known beforehand, by `img_path`, in the place of the detector's.
        tiling: how pictures are cut into tiles, of which so many are a batch; None to predict them whole.
        measuring: what to measure of each class, see `measure_class`.

    Raises:
        UserError: a detector gave a value that is not finite, or a map of another size than its mask.
    """
    image_writers = [writer for writer in writers if writer.needs_images]
    map_writers = [writer for writer in writers if writer.needs_maps]
    batches = predict_images(detector, loader, samples, device, stopwatch, tiling, batch_size, bool(image_writers))
    batches = in_turn(batches, UserError, partial(stopwatch, "waiting"))
    predicted = (image for batch in batches for image in batch)
    # Writers of maps take one class after the other.
    at_once = 1 if map_writers else min(MOST_CLASSES, max(1, free_cores()))
    with (
        Measuring(writers, stopwatch, at_once, measuring) as classes,
        logging_redirect_tqdm(),
        progress(predicted, total=len(samples), unit="image", desc="evaluating") as bar,
    ):
        images = classes.beside(bar)
        for name, group in groupby(samples if is_main() else (), key=lambda sample: sample.cls_name):
            maps = collect_class(list(group), images, bool(map_writers), image_writers, stopwatch)
            bar.set_postfix_str(shown(name))
            if image_scores is None:
                scores = detector.image_scores(maps.text_prob, maps.map_max, maps.map_min)
            else:
                scores = np.array([image_scores[sample.img_path] for sample in maps.samples])
            classes.make_room(maps)
            with stopwatch("output"):
                for writer in map_writers:
                    if not writer.maps_in_thread:
                        writer.class_maps(maps, scores)
            classes.start(name, maps, scores)
            del maps  # which the thread lets go of when it has measured them
        next(images, None)  # in this others hand over all of theirs, and the main process sees that none is left
        classes.finish()
    return classes.results
