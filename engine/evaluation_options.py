"""The options of evaluations without a model, see `engine.options`."""

from dataclasses import dataclass
from pathlib import Path

from engine.options import DataSetOptions, MeasureOptions, SeedOptions, WorkerOptions, data_set_option
from utils.arguments import Options, flag, option, positive_int

ONLY_WITH_MAPS = ("scores", "legacy_pro", "classes", "report")


@dataclass(frozen=True, kw_only=True)
class TaskOptions(Options):
    """What is to be done, one of these."""

    exclusive = True
    maps: Path | None = option("measure the maps in this folder", None, type=Path, metavar="FOLDER")
    compare: tuple[Path, Path] | None = option(
        "paired differences of two runs' measures: of images from their scores.csv, of pixels if both saved their maps",
        None,
        nargs=2,
        type=Path,
        metavar=("A", "B"),
    )
    published: Path | None = option(
        "write published.md into a finished run's folder: its measures beside the published ones",
        None,
        type=Path,
        metavar="RUN",
    )


@dataclass(frozen=True, kw_only=True)
class SavedMapOptions(Options):
    """How maps are read and scored."""

    title = "data"
    map_size: int | None = option(
        "side in pixels of a square to resize every map to, bilinear; default: each map's own size, one for a class",
        None,
        type=positive_int,
    )
    scores: Path | None = option(
        "image scores, a CSV file with the columns image_path and score; default: the maps' maxima", None, type=Path
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(TaskOptions, DataSetOptions, WorkerOptions, SavedMapOptions, MeasureOptions, SeedOptions):
    """The options of evaluate.py."""

    dataset: str | None = data_set_option("folder, with --compare that of run A")
    report: bool = flag("write report.html, the page of all images, maps, scores and curves; reads the images for it")
    save_path: Path | None = option(
        "folder for the results (default: results/evaluate/NAME, with --compare results/compare)", None, type=Path
    )

    def mistake(self) -> str | None:
        """Say which option would do nothing."""
        given = [name for name in ONLY_WITH_MAPS if getattr(self, name)]
        return f"--{given[0]} goes with --maps" if given and not self.maps else None
