"""The options of evaluations without a model, see `engine.options`."""

from dataclasses import dataclass
from pathlib import Path

from engine.options import DATA_SET, NAME, DataSetName, DataSetOptions, MeasureOptions, SeedOptions, WorkerOptions
from utils.arguments import Options, PositiveInt, flag, option

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
    """How maps are read and shown."""

    title = "maps"
    map_size: PositiveInt | None = option(
        "side of a square in pixels to resize every map to, bilinear; default: its own, the same within a class"
    )
    scores: Path | None = option("image scores, a CSV of image_path and score; default: the maps' maxima")
    report: bool = flag("write report.html, the page of all images, maps, scores and curves; reads the images for it")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(TaskOptions, DataSetOptions, WorkerOptions, SavedMapOptions, MeasureOptions, SeedOptions):
    """The options of evaluate.py."""

    dataset: DataSetName | None = option(DATA_SET.format("folder, with --compare that of run A"), **NAME)
    save_path: Path | None = option(
        "folder for the results (default: results/evaluate/NAME, with --compare results/compare)"
    )

    def mistake(self) -> str | None:
        """Say which option would do nothing."""
        given = [name for name in ONLY_WITH_MAPS if getattr(self, name)]
        return f"--{given[0]} goes with --maps" if given and not self.maps else None
