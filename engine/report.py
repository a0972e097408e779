"""Evaluate a detector and leave everything a run leaves, each by a writer of its own."""

import logging
from collections.abc import Iterable, Mapping, Sequence

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from engine.evaluation import evaluate
from utils.distributed import is_main
from utils.evaluation_types import Batch, ClassResult, Detector, Sample, Writer
from utils.results import Run, notes, results_table
from utils.stopwatch import Stopwatch

OF_AN_EARLIER_RUN = ("results.json", "results.md", "scores.csv", "published.md", "contact_sheet.png", "report.html")
logger = logging.getLogger(__name__)


def evaluate_and_report(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    run: Run,
    writers: Sequence[Writer],
    *,
    device: torch.device,
    stopwatch: Stopwatch,
    image_scores: Mapping[str, float] | None = None,
    legacy_pro: bool = False,
) -> list[ClassResult]:
    """Run the evaluation loop (see `evaluate`) with writers, log the table, and return the classes' results.

    Of several processes, the main one writes and has the results, the others have none.
    """
    if is_main():
        for name in OF_AN_EARLIER_RUN:
            (run.folder / name).unlink(missing_ok=True)
    options = {"image_scores": image_scores, "legacy_pro": legacy_pro, "bootstrap": run.bootstrap}
    results = []
    try:
        with logging_redirect_tqdm():
            for result in evaluate(
                detector, loader, samples, device=device, stopwatch=stopwatch, writers=writers, **options
            ):
                results.append(result)
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
