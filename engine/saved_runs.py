"""What a run left in its folder: results.json, scores.csv, and the maps if they were saved."""

import contextlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import with_config
from typing_extensions import Required, TypedDict

from data.found import read_csv
from datasets.image_set import ImageSet
from datasets.layout_options import LayoutOptions
from datasets.meta import Entry
from datasets.registry import DatasetSpec, get_spec
from engine.data_sets import read_test_split
from engine.options import DataSetOptions
from utils.errors import UserError
from utils.files import nfc
from utils.json_files import read_json

logger = logging.getLogger(__name__)

Kinds = Mapping[str, tuple[str, int | None]]  # image -> class, and label: 0, 1, or None where it is not known


class _AsTested(LayoutOptions):
    """How a run read its data set."""

    skip_broken: bool = False


@with_config({"extra": "allow"})
class Arguments(TypedDict, total=False):
    """The options of a run that are looked at again."""

    data_path: str | None
    meta: str | None
    maps: str | None
    mask_threshold: int | None
    save_maps: bool
    skip_broken: bool
    prompts: str | None


class Intervals(TypedDict, total=False):
    """Those of the means, and those of each class."""

    mean: dict[str, tuple[float, float] | None]
    classes: dict[str, dict[str, tuple[float, float] | None]]


@with_config({"extra": "allow"})
class Description(TypedDict, total=False):
    """How results were made, as results.json and compare.json say it; of which type is what is looked at again."""

    method: str
    dataset: str
    protocol: str | None
    classes: Required[dict[str, dict[str, Any]]]
    finished: bool
    complete: bool  # as `finished` was called before
    arguments: Arguments
    fidelity: dict[str, Any]
    backbone: dict[str, Any]
    weights: dict[str, Any]
    prompts: dict[str, Any]
    checkpoint: dict[str, Any]


@with_config({"extra": "allow"})
class Results(Description, total=False):
    """What a results.json holds."""

    method: Required[str]
    dataset: Required[str]
    mean: Required[dict[str, float | None]]
    intervals: Intervals


@dataclass(frozen=True)
class SavedRun:
    """A finished run."""

    folder: Path
    content: Results  # of its results.json
    kinds: Kinds  # of its images, as its scores.csv has them
    scores: Mapping[str, float]  # of its images

    @property
    def maps(self) -> Path | None:
        """Find the folder of its maps, which `evaluate.py` may have measured elsewhere; None if there is none."""
        arguments = self.content.get("arguments", {})
        maps = Path(arguments.get("maps") or self.folder / "maps")
        is_own = arguments.get("maps") or arguments.get("save_maps")  # else an earlier run may have left them
        return maps if is_own and maps.is_dir() else None

    @property
    def spec(self) -> DatasetSpec:
        """Give the data set that it was on, under its protocol."""
        return get_spec(str(self.content.get("dataset")), self.content.get("protocol"))

    @property
    def title(self) -> str:
        protocol = f" ({self.content['protocol']})" if self.content.get("protocol") else ""
        return f"{self.content.get('method')} on {self.content.get('dataset')}{protocol}"


def read_run(folder: Path) -> SavedRun:
    """Read the results of a finished run."""
    path = folder / "results.json"
    if not path.is_file():
        raise UserError(f"{folder} is no folder of a run: there is no {path}")
    content = read_json(path, Results)
    if not content.get("finished", content.get("complete")):
        raise UserError(f"the run in {folder} is not finished: run it again to its end")
    kinds: dict[str, tuple[str, int | None]] = {}
    scores: dict[str, float] = {}
    table, labels = folder / "scores.csv", {"": None, "0": 0, "1": 1}
    for line, (image, name, label, score) in read_csv(table, ["image_path", "class_name", "label", "score"]):
        where = f"{table}, line {line}"
        if label not in labels:
            raise UserError(f"{where}: the label '{label}' is not 0, 1 or empty")
        kinds[image], scores[image] = (name, labels[label]), finite_number(score, where)
    return SavedRun(folder, content, kinds, scores)


def check_same_images(a: Path, kinds_a: Kinds, b: Path, kinds_b: Kinds) -> None:
    """Refuse two folders, of runs or data sets, that do not have the same images with the same classes and labels."""
    for here, own, there, others in ((a, kinds_a, b, kinds_b), (b, kinds_b, a, kinds_a)):
        if missing := next((image for image in own if image not in others), None):
            raise UserError(f"the images differ: {missing} is in {here}, not in {there}")
    for image, kind in kinds_a.items():
        if kind != kinds_b[image]:
            here, there = ("class {} and label {}".format(*each) for each in (kind, kinds_b[image]))
            raise UserError(f"{a} and {b} disagree on {image}: {here} in the one, {there} in the other")


def ground_truth_of(run: SavedRun, options: DataSetOptions) -> ImageSet | None:
    """Read the images a run was on, with their masks, from what the options name, or else its results.json.

    None if the folder that results.json names is no longer there.
    """
    data_path, own = options.data_path, options.dataset is None
    recorded: dict[str, Any] = run.content.get("arguments", {}) if own else {}
    spec = (run.spec if own else get_spec(options.dataset)).under(options.protocol)
    root = data_path or Path(recorded.get("data_path") or spec.folder)
    if not root.is_dir():
        if data_path is not None:
            raise UserError(f"--data_path {data_path}: there is no such folder")
        return None
    meta = options.meta or (Path(recorded["meta"]) if recorded.get("meta") else None)
    threshold = recorded.get("mask_threshold") if options.mask_threshold is None else options.mask_threshold
    is_partial = run.content.get("arguments", {}).get("skip_broken", False)
    as_tested = _AsTested(mask_threshold=threshold, skip_broken=is_partial)
    images = read_test_split(spec, root, meta, [*{name: None for name, _ in run.kinds.values()}], options=as_tested)
    if is_partial:  # what it left out is in no scores.csv
        images = replace(images, entries=[entry for entry in images.entries if entry.img_path in run.kinds])
    kinds = {entry.img_path: (entry.cls_name, entry.anomaly) for entry in images.entries}
    check_same_images(run.folder, run.kinds, root, kinds)
    return images


def read_scores(path: Path, entries: Sequence[Entry]) -> dict[str, float]:
    """Read each entry's score, by its image's path, from a CSV file with the columns `image_path` and `score`."""
    scores: dict[str, float] = {}
    for line, (image, text) in read_csv(path, ["image_path", "score"]):
        image = nfc(PurePosixPath(image).as_posix())
        if image in scores:
            raise UserError(f"{path}, line {line}: the image {image} has a score already")
        scores[image] = finite_number(text, f"{path}, line {line}")
    wanted = {entry.img_path: nfc(entry.img_path) for entry in entries}
    if missing := [image for image, name in wanted.items() if name not in scores]:
        first = f"{len(missing)} of {len(entries)} images, the first of them {missing[0]}"
        raise UserError(f"{path} has no score for {first}")
    if extra := sorted(scores.keys() - wanted.values()):
        logger.warning("scores in %s that are of no image: %d, the first of them %s", path, len(extra), extra[0])
    return {image: scores[name] for image, name in wanted.items()}


def finite_number(text: str, where: str) -> float:
    """Take a text as a finite number, or raise a `UserError` that says `where` it is."""
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise UserError(f"{where}: '{text}' is not a finite number")
