"""The options of evaluations without a model, see `engine.options`."""

from dataclasses import dataclass
from pathlib import Path

from engine.options import DATA_SET, NAME, WORKERS, DataSetName, DataSetOptions, MeasureOptions, SeedOptions
from utils.arguments import NonNegativeInt, Options, PositiveInt, flag, option

ONLY_WITH_MAPS = ("scores", "legacy_pro", "classes", "report")


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class SavedMapOptions(Options):
    """How maps are read, and what is written."""

    map_size: PositiveInt | None = option(
        "side in pixels of a square that maps and masks are resized to, bilinear; default: each map's, one for a class"
    )
    num_workers: NonNegativeInt = option(WORKERS, 2)
    scores: Path | None = option("image scores, a CSV of image_path and score; default: the maps' maxima")
    report: bool = flag("write report.html, the page of all images, maps, scores and curves; reads the images for it")
    save_path: Path | None = option(
        "folder for the results (default: results/evaluate/NAME, with --compare results/compare)"
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(TaskOptions, DataSetOptions, SavedMapOptions, MeasureOptions, SeedOptions):
    """The options of evaluate.py."""

    dataset: DataSetName | None = option(DATA_SET.format("folder, with --compare that of run A"), **NAME)

    def mistake(self) -> str | None:
        """Say which option would do nothing."""
        given = [name for name in ONLY_WITH_MAPS if getattr(self, name)]
        return f"--{given[0]} goes with --maps" if given and not self.maps else None
