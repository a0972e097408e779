"""What every test script does around its detector: the log before it, the evaluation and the results after it."""

import argparse
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from data.options import EvaluationSet, loader_from_options
from data.output_options import bootstrap_from_options
from data.published import published_numbers, read_facts, write_published
from datasets.transforms import image_from_tensor
from models.backbone import Backbone
from models.fidelity import Fidelity
from page.page import HtmlReport
from utils.arguments import seed
from utils.distributed import is_main
from utils.evaluation_types import ClassResult, Detector, Writer
from utils.lock import locked
from utils.pictures import MapWriter, PictureWriter
from utils.report import evaluate_and_report
from utils.results import ResultsWriter, Run, origin
from utils.runtime import seed_everything, start_log
from utils.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


def add_seed_option(parser: argparse.ArgumentParser, default: int = 42) -> None:
    """Add the option of the seed."""
    parser.add_argument("--seed", type=seed, default=default, help="seed of all random numbers (default: %(default)s)")


@contextmanager
def start_test(args: argparse.Namespace, default_folder: Path) -> Iterator[None]:
    """Decide where the results go, start the log, and seed.

    Other runs are kept out of that folder while the block lasts.

    Raises:
        UserError: another run is writing there, or the folder cannot be written to.
    """
    args.save_path = args.save_path or default_folder
    with locked(args.save_path):
        start_log(args.save_path / "test.log")
        seed_everything(args.seed)
        yield


def check_published(args: argparse.Namespace, method: str, datasets: Iterable[str]) -> None:
    """Look whether there are the numbers that `--compare_published` asks for, before any work is done.

    Raises:
        UserError: they are not known of the method or of a data set.
    """
    if args.compare_published:
        for dataset in datasets:
            published_numbers(read_facts(), method, dataset)


def evaluate_detector(
    args: argparse.Namespace,
    detector: Detector,
    backbone: Backbone,
    images: EvaluationSet,
    *,
    method: str,
    fidelity: Fidelity,
    stopwatch: Stopwatch,
    further: Mapping[str, Any] | None = None,
) -> list[ClassResult]:
    """Evaluate a detector on the images of a data set, as the options say, and write its results.

    Args:
        args: the run's resolved options.
        detector: the method, made from `backbone`.
        backbone: the frozen CLIP.
        images: what to test on.
        method: what the detector is called.
        fidelity: its switches.
        stopwatch: which measured what was done before.
        further: what else to record in results.json.
    """
    run = Run(
        folder=args.save_path,
        title=f"{method} on {args.dataset}",
        images=len(images.entries),
        classes=len(images.phrases),
        bootstrap=bootstrap_from_options(args),
        description={
            "method": method,
            "dataset": args.dataset,
            "arguments": {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()},
            "fidelity": {"name": args.fidelity, **asdict(fidelity)},
            "backbone": {
                "name": backbone.name,
                "image_size": backbone.image_size,
                "features_list": backbone.features_list,
                "activation": backbone.activation,
            },
            "weights": {
                "path": str(backbone.weights.path),
                "sha256": backbone.weights.sha256,
                "tag": backbone.weights.tag,
            },
            **(further or {}),
            **origin(backbone.device),
        },
    )
    writers: list[Writer] = [ResultsWriter(run, backbone.device, stopwatch)]
    if not args.no_report:
        writers.append(HtmlReport(run, lambda image: image_from_tensor(image.image)))
    if args.save_maps:
        writers.append(MapWriter(args.save_path / "maps"))
    if args.visualization:
        writers.append(PictureWriter(args.save_path, partial(images.read_image, image_size=backbone.image_size)))
    results = evaluate_and_report(
        detector,
        loader_from_options(args, images, backbone.image_size, pin_memory=backbone.device.type == "cuda"),
        images.entries,
        run,
        writers,
        device=backbone.device,
        stopwatch=stopwatch,
        legacy_pro=args.legacy_pro,
    )
    if args.compare_published and is_main():
        logger.info("the published numbers are in %s", write_published(args.save_path))
    return results
