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
from utils.evaluation_types import ImageScore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedRun:
    """A finished run."""

    folder: Path
    content: Mapping[str, Any]  # of its results.json
    images: Mapping[str, ImageScore]  # the rows of its scores.csv, by image

    @property
    def maps(self) -> Path | None:
        """The folder of its maps, which `evaluate.py` may have measured elsewhere; None if there is none."""
        arguments = self.content.get("arguments", {})
        maps = Path(arguments.get("maps") or self.folder / "maps")
        is_own = arguments.get("maps") or arguments.get("save_maps")  # else an earlier run may have left them
        return maps if is_own and maps.is_dir() else None

    @property
    def title(self) -> str:
        return f"{self.content.get('method')} on {self.content.get('dataset')}"


def read_run(folder: Path) -> SavedRun:
    """Read the results of a finished run."""
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
    images: dict[str, ImageScore] = {}
    table = folder / "scores.csv"
    for line, (image, name, label, score) in read_csv(table, ["image_path", "class_name", "label", "score"]):
        where = f"{table}, line {line}"
        if label not in ("", "0", "1"):
            raise UserError(f"{where}: the label '{label}' is not 0, 1 or empty")
        images[image] = ImageScore(image, name, int(label) if label else None, _finite(score, where))
    return SavedRun(folder, content, images)


def check_same_images(a: SavedRun, b: SavedRun) -> None:
    """Refuse two runs that are not on the same images with the same classes and labels."""
    for here, there in ((a, b), (b, a)):
        if missing := [image for image in here.images if image not in there.images]:
            where = f"{missing[0]} is in {here.folder}, not in {there.folder}"
            raise UserError(f"the runs are on different images: {where}")
    for image, row in a.images.items():
        other = b.images[image]
        if (row.class_name, row.label) != (other.class_name, other.label):
            raise UserError(
                f"the runs disagree on {image}: class {row.class_name} and label {row.label} in {a.folder}, "
                f"class {other.class_name} and label {other.label} in {b.folder}"
            )


def ground_truth_of(run: SavedRun, dataset: str | None, data_path: Path | None, meta: Path | None) -> ImageSet | None:
    """Read the images a run was on, with their masks, from what its results.json names, or what is named here.

    Returns:
        None if the folder that results.json names is no longer there.
    """
    recorded: dict[str, Any] = run.content.get("arguments", {}) if dataset is None else {}
    spec = get_spec(dataset or str(run.content.get("dataset")))
    root = data_path or Path(recorded.get("data_path") or spec.folder)
    if not root.is_dir():
        if data_path is not None:
            raise UserError(f"--data_path {data_path}: there is no such folder")
        return None
    if meta is None and recorded.get("meta"):
        meta = Path(recorded["meta"])
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
    """Read each entry's score, by its image's path, from a CSV file with the columns `image_path` and `score`."""
    scores: dict[str, float] = {}
    for line, (image, text) in read_csv(path, ["image_path", "score"]):
        if image in scores:
            raise UserError(f"{path}, line {line}: the image {image} has a score already")
        scores[image] = _finite(text, f"{path}, line {line}")
    wanted = dict.fromkeys(entry.img_path for entry in entries)
    if missing := [image for image in wanted if image not in scores]:
        first = f"{len(missing)} of {len(entries)} images, the first of them {missing[0]}"
        raise UserError(f"{path} has no score for {first}")
    if extra := [image for image in scores if image not in wanted]:
        logger.warning("scores in %s that are of no image: %d, the first of them %s", path, len(extra), extra[0])
    return {image: scores[image] for image in wanted}


def _finite(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: '{text}' is not a finite number")
    return number
