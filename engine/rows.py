"""The rows of a run: the figures of each class and their mean, each with all that made it, as data for other programs.

They are made of what results.json holds and of nothing else, so that results of earlier versions have rows as well.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from engine.earlier_results import DIGESTS, settings_of
from models.presets import PRESETS, preset_name
from utils.errors import UserError
from utils.json_files import parse_json
from utils.results import Measures, mean_of

FILE = "rows.jsonl"
# Settings that the figures of a row do not depend on, or that are the training's, whose record is compared instead.
NOT_SETTINGS = {
    *("SHA-256 of the checkpoint", "checkpoint", "seed", "shots", "seeds", "bootstrap", "confidence", "legacy_pro")
}


class Row(TypedDict):
    """The figures of a class; results/README.md says what each key means."""

    method: str
    preset: str | None
    model: str | None
    dataset: str
    protocol: str | None
    data_path: str | None
    class_name: str | None
    images: int | None
    trained_on: list[str] | None
    seed: int | None
    epoch: int | None
    shots: int
    shots_seed: int | None
    fidelity: str | None
    rep_vec: NotRequired[str | None]  # rows of version 1.1.0 and before have none
    measures: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    finished: bool
    whole_data_set: bool | None
    notes: list[str]
    command: str | None
    date: str | None
    git_commit: str | None
    git_dirty: bool | None
    weights_sha256: str | None
    checkpoint_sha256: str | None
    settings_sha256: str
    environment: dict[str, str]


@dataclass(frozen=True)
class CollectedRun:
    """A run by its rows; one that compared maps with normal images is one for each draw of these."""

    file: Path
    rows: Mapping[str | None, Row]  # by class, None for the mean

    @property
    def mean(self) -> Row:
        return self.rows[None]

    @property
    def data_set(self) -> str:
        """Name what was tested, as a table calls it."""
        if self.mean["dataset"] == "folder" and self.mean["data_path"]:
            return f"folder {Path(self.mean['data_path']).name}"
        return " ".join(filter(None, (self.mean["dataset"], self.mean["protocol"])))

    @property
    def group(self) -> tuple[str, str, str]:
        """Name what published figures stand below."""
        return self.data_set, self.mean["method"], self.mean["dataset"]

    @property
    def notes(self) -> list[str]:
        """Those on the run, then those on classes, after their names."""
        classes: dict[str, list[str]] = {}
        for name, note in ((name, note) for name, row in self.rows.items() if name for note in row["notes"]):
            classes.setdefault(note, []).append(name)
        return [*self.mean["notes"], *(f"{', '.join(names)}: {note}" for note, names in classes.items())]

    @property
    def test_set(self) -> tuple[object, ...]:
        """Give what runs with comparable figures have in common: images, weights, and how many normal images."""
        mean, images = self.mean, {(str(name), row["images"]) for name, row in self.rows.items()}
        own = mean["data_path"] if mean["dataset"] == "folder" else None
        return self.data_set, own, mean["weights_sha256"], mean["shots"], mean["shots_seed"], frozenset(images)

    @property
    def model(self) -> str:
        return self.mean["preset"] or Path(self.mean["model"] or "-").name


def rows_of(content: Mapping[str, Any]) -> list[Row]:
    """Make the rows of a results.json: of its classes, of their mean, and the same for each draw of `--shots`."""
    arguments, checkpoint = content.get("arguments") or {}, content.get("checkpoint") or {}
    model, commit = (content.get("backbone") or {}).get("name"), content.get("git_commit")
    preset, trained_on = model and preset_name(model), checkpoint.get("train_dataset")
    run = {
        **{key: content.get(key) for key in ("method", "dataset", "protocol", "whole_data_set", "command", "date")},
        "preset": preset if preset in PRESETS else None,
        "model": model,
        "data_path": arguments.get("data_path"),
        "trained_on": [trained_on] if isinstance(trained_on, str) else trained_on,
        "seed": checkpoint.get("seed"),
        "epoch": checkpoint.get("epoch"),
        "fidelity": (content.get("fidelity") or {}).get("name"),
        "rep_vec": arguments.get("rep_vec"),
        "finished": bool(content.get("finished", content.get("complete"))),
        "git_commit": commit and commit.removesuffix("+"),
        "git_dirty": commit and commit.endswith("+"),
        "weights_sha256": (content.get("weights") or {}).get("sha256"),
        "checkpoint_sha256": checkpoint.get("sha256"),
        "settings_sha256": settings_digest(content),
        "environment": content.get("environment") or {},
    }
    return [{**run, **figures} for figures in _figures(content)]


def read_rows(content: Mapping[str, Any], path: Path) -> list[Row]:
    """Make the rows of a results.json that was read from `path`; what no run writes is a `UserError`."""
    try:
        return [parse_json(json.dumps(row), Row, str(path)) for row in rows_of(content)]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(f"{path}: not what a run writes ({reason}); restore it, or run the test again") from error


def _figures(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give what differs between the rows of a run."""
    keys, classes = content["mean"], content["classes"]
    images = {name: own.get("images") for name, own in classes.items()}
    images[None] = None if None in images.values() else sum(images.values())
    notes = {name: own.get("notes", []) for name, own in classes.items()}
    notes[None] = [one for one in content.get("notes", []) if not one.startswith(("made with ", "measured from "))]
    found = {(0, None): {name: {key: own.get(key) for key in keys} for name, own in classes.items()} | {None: keys}}
    limits = content.get("intervals") or {}
    limits = {**limits.get("classes", {}), None: limits.get("mean", {})}  # of what is not drawn
    drawn = (content.get("shots") or {}).get("classes", {})
    for draw in dict.fromkeys(draw for own in drawn.values() for draw in own):
        measures: dict[str | None, Measures] = {name: own[draw] for name, own in drawn.items()}
        found[tuple(map(int, draw.split(", seed ")))] = measures | {None: mean_of([*measures.values()])}
    for (shots, seed), by_class in found.items():
        for name, measures in by_class.items():
            of = {"class_name": name, "images": images[name], "notes": notes[name]}
            own = {"measures": measures, "intervals": {} if shots else limits.get(name, {})}
            yield {**of, "shots": shots, "shots_seed": seed, **own}


def settings_digest(content: Mapping[str, Any]) -> str:
    """Compute a SHA-256 that runs share which differ in nothing but the seed, by which SDP+ or DP-CLIP was trained."""
    settings, training = settings_of(content), content.get("checkpoint") or {}
    left_out = NOT_SETTINGS | {option for key, option in DIGESTS.items() if settings.get(key)}
    if content.get("dataset") != "folder":  # others are the same wherever they lie
        left_out.add("data_path")
    settings = {name: value for name, value in settings.items() if name not in left_out}
    training = {name: value for name, value in training.items() if name not in ("path", "sha256", "seed")}
    return hashlib.sha256(json.dumps([settings, training], sort_keys=True).encode()).hexdigest()


def row_lines(content: Mapping[str, Any]) -> str:
    """Make the text of a file of rows, one a line, as JSON."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows_of(content))
