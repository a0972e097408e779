"""Measure anomaly maps that lie on the disk."""

from dataclasses import replace
from pathlib import Path

import torch

from datasets.loader import in_batches, make_loader
from datasets.registry import get_spec
from datasets.saved_maps import SavedMapDataset, SavedMaps, find_maps
from engine.data_sets import read_test_split
from engine.evaluation_options import EvaluationOptions
from engine.options import bootstrap_of
from engine.saved_runs import read_scores
from page.page import HtmlReport
from utils.arguments import plain_record
from utils.distributed import rank, world_size
from utils.evaluation_types import Writer
from utils.lock import locked
from utils.report import evaluate_and_report
from utils.results import ResultsWriter, Run, origin
from utils.runtime import start_log
from utils.stopwatch import Stopwatch

PICTURE_SIZE = 512  # of an image on the page, in pixels
MAXIMUM_IS_SCORE = "an image's score is its map's maximum, as no scores were given"


def measure_maps(options: EvaluationOptions) -> None:
    """Measure the maps in the folder `--maps`, and write what a run writes.

    Raises:
        UserError: a map, a mask or the scores cannot be read, or do not fit.
    """
    name = options.dataset or "folder"
    folder = options.save_path or Path("results/evaluate", name)
    with locked(folder):
        start_log(folder / "evaluate.log")
        _measure(replace(options, dataset=name, save_path=folder))


def _measure(options: EvaluationOptions) -> None:
    stopwatch = Stopwatch()
    with stopwatch("data set"):
        images = read_test_split(get_spec(options.dataset), options.data_path, options.meta, options.classes)
        maps = find_maps(options.maps, images.entries)
        scores = None if options.scores is None else read_scores(options.scores, images.entries)
    batches = in_batches(range(len(maps)), 1)[rank() :: world_size()]
    device = torch.device("cpu")
    run = Run(
        folder=options.save_path,
        title=f"The maps of {options.maps} on {options.dataset}",
        images=len(images.entries),
        classes=len(images.phrases()),
        bootstrap=bootstrap_of(options, options.seed),
        remarks=[MAXIMUM_IS_SCORE] if scores is None else [],
        description={
            "method": "saved maps",
            "dataset": options.dataset,
            "arguments": plain_record(options),
            **origin(device),
        },
    )
    writers: list[Writer] = [ResultsWriter(run, device, stopwatch)]
    if options.report:
        writers.append(HtmlReport(run, lambda image: images.read_image(image.sample, PICTURE_SIZE)))
    evaluate_and_report(
        SavedMaps(),
        make_loader(SavedMapDataset(images, maps, options.map_size), batches, options.num_workers),
        images.entries,
        run,
        writers,
        device=device,
        stopwatch=stopwatch,
        image_scores=scores,
        legacy_pro=options.legacy_pro,
    )
