"""The options of evaluate.py, see `engine.options`."""

from dataclasses import fields
from pathlib import Path

from datasets import images
from datasets.layout_options import PATTERNS
from engine.options import (
    DATA_SET,
    INTENSITY,
    MAX_PIXELS,
    NAME,
    WORKERS,
    DataSetName,
    DataSetOptions,
    MeasureOptions,
    SeedOptions,
)
from utils.arguments import Intensity, Options, PositiveInt, Side, WorkerCount, flag, option
from utils.background import free_cores


class TaskOptions(Options):
    """What is to be done, one of these."""

    exclusive = True
    maps: Path | None = option("measure the maps in this folder", metavar="FOLDER")
    compare: tuple[Path, Path] | None = option(
        "paired differences of two runs' measures: of images from their scores.csv, of pixels if both saved their maps",
        nargs=2,
        metavar=("A", "B"),
    )
    published: Path | None = option(
        "write published.md into a finished run's folder: its measures beside the published ones", metavar="RUN"
    )
    collect: tuple[Path, ...] | None = option(
        "print a table of all runs below these folders, or in these files of rows (results/README.md)", metavar="FOLDER"
    )


class SavedMapOptions(Options):
    """How maps are read, and what is written."""

    map_size: Side | None = option(
        "side in pixels of a square that maps and masks are resized to, bilinear; default: each map's, one for a class"
    )
    num_workers: WorkerCount = option(WORKERS, free_cores())
    scores: Path | None = option("image scores, a CSV of image_path and score; default: the maps' maxima")
    report: bool = flag("write report.html, the page of all images, maps, scores and curves; reads the images for it")
    intensity: Intensity = option(INTENSITY, "full", metavar="auto|full|LO,HI")
    max_pixels: PositiveInt = option(MAX_PIXELS, images.MAX_PIXELS, metavar="N")
    save_path: Path | None = option(
        "folder for the results (default: results/evaluate/NAME, with --compare results/compare, with --collect none)"
    )
    overwrite: bool = flag("replace results of other settings in --save_path, which are refused otherwise")


class EvaluationOptions(TaskOptions, DataSetOptions, SavedMapOptions, MeasureOptions, SeedOptions):
    """The options of evaluate.py."""

    dataset: DataSetName | None = option(DATA_SET.format("folder, with --compare that of run A"), **NAME)

    def mistake(self) -> str | None:
        idle = () if self.maps else ("scores", "legacy_pro", "classes", "report", *PATTERNS)
        if self.published or self.collect:  # where all is known
            free = ("save_path",) if self.collect else ()
            idle = [one.name for one in fields(self) if one not in fields(TaskOptions) and one.name not in free]
        given = self.first_given(one.name for one in fields(self) if one.name in idle)
        return f"--{given} goes with --maps" if given else super().mistake()
