"""What a run left in its folder: results.json, scores.csv, and the maps if they were saved."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.found import read_csv
from datasets.image_set import ImageSet
from datasets.meta import Entry
from datasets.registry import get_spec
from engine.data_sets import read_test_split
from utils.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedImage:
    """A row of scores.csv; `label` is 0, 1, or None where it is not known."""

    image_path: str
    class_name: str
    label: int | None
    score: float


@dataclass(frozen=True)
class SavedRun:
    """A finished run.

    Attributes:
        folder: where it lies.
        content: of its results.json.
        images: the rows of its scores.csv, by image.
    """

    folder: Path
    content: Mapping[str, Any]
    images: Mapping[str, SavedImage]

    @property
    def maps(self) -> Path | None:
        """The folder of its maps, those that `evaluate.py` measured elsewhere; None if it saved none or they are gone.

        Without `--save_maps` those of an earlier run may lie in its folder.
        """
        arguments = self.content.get("arguments", {})
        own = self.folder / "maps" if arguments.get("save_maps") else None
        maps = Path(arguments["maps"]) if arguments.get("maps") else own
        return maps if maps is not None and maps.is_dir() else None

    @property
    def title(self) -> str:
        """Method and data set."""
        return f"{self.content.get('method')} on {self.content.get('dataset')}"


def read_run(folder: Path) -> SavedRun:
    """Read a run's results.

    Raises:
        UserError: the folder has no results, broken ones, or those of a run that is not finished.
    """
    path = folder / "results.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder} is no folder of a run: cannot read {path} ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("classes"), dict):
        raise UserError(f"{path} is not what a run writes: it has no 'classes'")
    if content.get("complete") is not True:
        raise UserError(f"the run in {folder} is not finished: run it again to its end")
    images: dict[str, SavedImage] = {}
    table = folder / "scores.csv"
    for line, (image, name, label, score) in read_csv(table, ["image_path", "class_name", "label", "score"]):
        if label not in ("", "0", "1"):
            raise UserError(f"{table}, line {line}: the label '{label}' is not 0, 1 or empty")
        where = f"{table}, line {line}"
        images[image] = SavedImage(image, name, int(label) if label else None, parse_score(score, where))
    return SavedRun(folder, content, images)


def check_same_images(a: SavedRun, b: SavedRun) -> None:
    """Refuse two runs that are not on the same images with the same labels; the first that differs is named.

    Raises:
        UserError: an image is in one run alone, or has another class or label there.
    """
    for here, there in ((a, b), (b, a)):
        if missing := [image for image in here.images if image not in there.images]:
            raise UserError(
                f"the runs are on different images: {missing[0]} is in {here.folder}, not in {there.folder}"
            )
    for image, row in a.images.items():
        other = b.images[image]
        if (row.class_name, row.label) != (other.class_name, other.label):
            raise UserError(
                f"the runs disagree on {image}: class {row.class_name} and label {row.label} in {a.folder}, "
                f"class {other.class_name} and label {other.label} in {b.folder}"
            )


def ground_truth_of(run: SavedRun, dataset: str | None, data_path: Path | None, meta: Path | None) -> ImageSet | None:
    """The images a run was on, with their masks: those that its results.json names, or that are named here.

    Returns:
        None if the folder that results.json names is no longer there.

    Raises:
        UserError: the folder named here is not there, or a folder has not just the images of the run.
    """
    recorded: dict[str, Any] = run.content.get("arguments", {}) if dataset is None else {}
    spec = get_spec(dataset or str(run.content.get("dataset")))
    root = data_path or Path(recorded.get("data_path") or spec.folder)
    if not root.is_dir():
        if data_path is not None:
            raise UserError(f"--data_path {data_path}: there is no such folder")
        return None
    meta = meta or (Path(recorded["meta"]) if recorded.get("meta") else None)
    classes = list(dict.fromkeys(image.class_name for image in run.images.values()))
    images = read_test_split(spec, root, meta, classes)
    entries = {entry.img_path: entry for entry in images.entries}
    for image, row in run.images.items():
        if image not in entries or entries[image].anomaly != row.label:
            raise UserError(f"{root} does not have the image {image} of {run.folder}, or with another label")
    if extra := [image for image in entries if image not in run.images]:
        raise UserError(f"{root} has the image {extra[0]}, which is not in {run.folder}")
    return images


def read_scores(path: Path, entries: Sequence[Entry]) -> dict[str, float]:
    """The score of each image, by its path; rows of other images are warned of.

    Args:
        path: a CSV file with a header and the columns `image_path` and `score`.
        entries: the images that need a score.

    Raises:
        UserError: the file cannot be read, a score is no finite number, or an image has none or two.
    """
    scores: dict[str, float] = {}
    for line, (image, text) in read_csv(path, ["image_path", "score"]):
        if image in scores:
            raise UserError(f"{path}, line {line}: the image {image} has a score already")
        scores[image] = parse_score(text, f"{path}, line {line}")
    wanted = {entry.img_path: None for entry in entries}
    if missing := [image for image in wanted if image not in scores]:
        raise UserError(
            f"{path} has no score for {len(missing)} of {len(entries)} images, the first of them {missing[0]}"
        )
    if extra := [image for image in scores if image not in wanted]:
        logger.warning("scores in %s that are of no image: %d, the first of them %s", path, len(extra), extra[0])
    return {image: scores[image] for image in wanted}


def parse_score(text: str, where: str) -> float:
    """A finite number.

    Raises:
        UserError: it is none; the message begins with `where`.
    """
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{where}: '{text}' is not a finite number")
    return score
