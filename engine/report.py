"""Evaluate a detector on a data set and leave everything that a run leaves, each by a writer of its own."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.image_set import ImageSet
from engine.evaluation import evaluate
from engine.evaluation_options import EvaluationOptions
from engine.options import TestOptions, bootstrap_of
from page.page import HtmlReport
from utils.distributed import is_main
from utils.evaluation_types import Batch, ClassResult, Detector, ImageMap, Writer
from utils.results import ResultsWriter, Run, notes, origin, results_table
from utils.stopwatch import Stopwatch

OF_AN_EARLIER_RUN = ("results.json", "results.md", "scores.csv", "published.md", "contact_sheet.png", "report.html")
logger = logging.getLogger(__name__)


def evaluate_and_report(
    detector: Detector,
    loader: Iterable[Batch],
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
    remarks: Sequence[str] = (),
) -> list[ClassResult]:
    """Run the evaluation loop (see `evaluate`), write to the options' `save_path`, log and return the results.

    Of several processes, the main one writes and has the results, the others have none.

    Args:
        description: how the measures come about; the command and the environment are added.
        to_picture: see `HtmlReport`; None for no page.
        writers: what else is to be written.
    """
    run = Run(
        folder=options.save_path,
        title=title,
        images=len(images.entries),
        classes=len(images.phrases()),
        description={**description, **origin(device)},
        remarks=remarks,
        bootstrap=bootstrap_of(options, options.seed),
    )
    if is_main():
        for name in OF_AN_EARLIER_RUN:
            (run.folder / name).unlink(missing_ok=True)
    page = [] if to_picture is None else [HtmlReport(run, to_picture)]
    writers = [ResultsWriter(run, device, stopwatch), *page, *writers]
    evaluation = evaluate(
        detector,
        loader,
        images.entries,
        device=device,
        stopwatch=stopwatch,
        writers=writers,
        image_scores=image_scores,
        legacy_pro=options.legacy_pro,
        bootstrap=run.bootstrap,
    )
    try:
        with logging_redirect_tqdm():
            results = list(evaluation)
    finally:  # the classes that a run finished before it was stopped are written as well
        with stopwatch("output"):
            messages = [writer.finish() for writer in writers]
    if not is_main():
        return results
    logger.info("%s\n%s", run.title, results_table(results, run.bootstrap))
    for note in [*run.notes, *notes(results)]:
        logger.info("note: %s", note)
    seconds = ", ".join(f"{part} {value:.1f} s" for part, value in stopwatch.seconds.items())
    logger.info("%d images, %.1f a second (%s)", run.images, run.images / stopwatch.until_predicted, seconds)
    for message in filter(None, messages):
        logger.info("%s", message)
    return results
