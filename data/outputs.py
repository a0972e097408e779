"""Evaluate a detector and leave everything a run leaves: log, table, JSON, scores, page, maps and pictures."""

import argparse
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from page.page import HtmlReport
from utils.arguments import percentage, positive_int
from utils.distributed import is_main, world_size
from utils.evaluation import evaluate
from utils.evaluation_types import Batch, ClassResult, Detector, ImageMap, Sample
from utils.measures.bootstrap import Bootstrap
from utils.picture_files import PictureWriter, map_writer
from utils.results import notes, results_table, write_results
from utils.runtime import environment, git_commit, peak_memory_mib
from utils.stopwatch import Stopwatch

PAGE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a run writes beside its log.

    Attributes:
        folder: where to.
        legacy_pro: add the column of PRO by 200 thresholds.
        save_maps: write every map as `maps/<img_path>.npy`.
        visualization: write a picture of every image to `imgs/`.
        report: write the page `report.html`.
        bootstrap: add confidence intervals.
    """

    folder: Path
    legacy_pro: bool = False
    save_maps: bool = False
    visualization: bool = False
    report: bool = False
    bootstrap: Bootstrap | None = None


def add_output_options(parser: argparse.ArgumentParser, default_folder: str) -> None:
    """Add the options that decide what is written, and where."""
    group = parser.add_argument_group("output")
    group.add_argument("--save_path", type=Path, help=f"folder for the results (default: {default_folder})")
    group.add_argument("--save_maps", action="store_true", help="write every anomaly map as maps/<img_path>.npy")
    group.add_argument(
        "--visualization",
        action="store_true",
        help="write every image beside its map and its ground truth to imgs/, and some on a contact sheet",
    )
    group.add_argument(
        "--no_report",
        action="store_true",
        help="leave out report.html, the page of all images, maps, scores and curves",
    )
    group.add_argument(
        "--compare_published",
        action="store_true",
        help="write published.md, with the measures beside those the method was published with",
    )
    add_measure_options(parser)


def add_measure_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what is measured."""
    group = parser.add_argument_group("measures")
    group.add_argument(
        "--legacy_pro", action="store_true", help="add a column with PRO by 200 thresholds, as older tables have it"
    )
    group.add_argument(
        "--bootstrap",
        type=positive_int,
        metavar="DRAWS",
        help="give every measure a confidence interval, from this many draws of the images (1000 is usual)",
    )
    group.add_argument(
        "--confidence",
        type=percentage,
        default=95.0,
        metavar="PERCENT",
        help="confidence of the intervals (default: %(default)g)",
    )


def bootstrap_from_options(args: argparse.Namespace) -> Bootstrap | None:
    """How intervals are to be made, None if they are not asked for."""
    return None if args.bootstrap is None else Bootstrap(args.bootstrap, args.confidence, args.seed)


def evaluate_and_report(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    *,
    device: torch.device,
    stopwatch: Stopwatch,
    outputs: Outputs,
    title: str,
    description: dict[str, Any],
    read_image: Callable[[Sample], np.ndarray] | None = None,
    to_picture: Callable[[ImageMap], np.ndarray] | None = None,
    image_scores: Mapping[str, float] | None = None,
    remarks: Sequence[str] = (),
) -> list[ClassResult]:
    """Run the evaluation loop and write its results, anew with each class; the table is logged as well.

    Of several processes, the main one writes and has the results, the others have none.

    Args:
        detector, loader, samples, device, stopwatch, image_scores: see `evaluate`.
        outputs: what is written, and where.
        title: heading of the table.
        description: method, arguments and so on, stored in results.json beside what is measured here.
        read_image: gives an image as the detector sees it, uint8 RGB [S, S, 3]; needed for pictures only.
        to_picture: gives such an image, of any size, of what the detector was given; needed for the page only.
        remarks: what is to be said below the table of the whole of it.
    """
    logger = logging.getLogger(__name__)
    if outputs.bootstrap is not None:
        remarks = [*remarks, f"in brackets: {outputs.bootstrap}"]
    if is_main():
        for name in ("results.json", "results.md", "scores.csv", "published.md", "contact_sheet.png", PAGE):
            (outputs.folder / name).unlink(missing_ok=True)  # of an earlier run
    page = HtmlReport(len(samples), to_picture) if outputs.report else None
    write_map = map_writer(outputs.folder / "maps") if outputs.save_maps else None
    pictures = PictureWriter(outputs.folder, read_image) if outputs.visualization else None
    classes = len({sample.cls_name for sample in samples})
    origin = {
        "command": shlex.join(sys.orig_argv),
        "environment": environment(device),
        "git_commit": git_commit(Path(__file__).parent),
    }
    results: list[ClassResult] = []

    def on_map(seen: ImageMap) -> None:
        for take in filter(None, (page and page.add_image, write_map)):
            take(seen)

    def heading() -> str:
        left = classes - len(results)
        return f"{title} ({left} of {classes} classes are missing: the run is not finished)" if left else title

    def write() -> None:
        """Write what is known by now: a run that is stopped leaves the classes it finished."""
        done = sum(len(result.images) for result in results)
        seconds = dict(stopwatch.seconds)
        measured = {
            "complete": len(results) == classes,
            "images": done,
            "images_per_second": done / stopwatch.until_predicted,
            "seconds": seconds,
            "processes": world_size(),
            "peak_memory_mib": peak_memory_mib(device),
        }
        about = {**description, **measured, **origin}
        write_results(outputs.folder, heading(), results, about, remarks, outputs.bootstrap)

    try:
        with logging_redirect_tqdm():
            for result in evaluate(
                detector,
                loader,
                samples,
                device=device,
                stopwatch=stopwatch,
                image_scores=image_scores,
                legacy_pro=outputs.legacy_pro,
                bootstrap=outputs.bootstrap,
                on_map=on_map if page or write_map else None,
                on_class=pictures,
            ):
                if page is not None:
                    with stopwatch("output"):
                        page.end_class(result)
                results.append(result)
                write()
    finally:  # once, as it is large, and with the finished classes of a run that is stopped
        if page is not None and results:
            with stopwatch("output"):
                about = {**description, **origin}
                page.write(outputs.folder / PAGE, heading(), about, remarks, bootstrap=outputs.bootstrap)
    if not is_main():
        return results
    logger.info("%s\n%s", title, results_table(results, outputs.bootstrap))
    for note in [*remarks, *notes(results)]:
        logger.info("note: %s", note)
    seconds = stopwatch.seconds
    logger.info(
        "%d images, %.1f a second (%s)",
        len(samples),
        len(samples) / stopwatch.until_predicted,
        ", ".join(f"{part} {value:.1f} s" for part, value in seconds.items()),
    )
    logger.info("results are in %s", outputs.folder)
    if page is not None:
        logger.info("to look at them, open %s in a browser", outputs.folder / PAGE)
    if pictures is not None:
        logger.info(
            "a picture of every image is in %s, some of them on %s", outputs.folder / "imgs", pictures.write_sheet()
        )
    return results
