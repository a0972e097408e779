"""What a prediction leaves: a line of JSON for each image as soon as it is done, and a table of all at the end."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from page.thumbnails import Thumbnail
from utils.arguments import as_given
from utils.errors import UserError
from utils.files import atomic_open, write_json, write_text
from utils.pictures import ColourScale

LINES, TABLE, SETTINGS = "scores.jsonl", "scores.csv", "predict.json"
FREE = ("environment", "git_commit")  # settings that may differ
SCALE = "colour_scale"  # in the settings file
Row = dict[str, Any]


class PredictionFiles:
    """The folder of a prediction that can be interrupted and resumed; see `check_unused` for one that is not.

    Args:
        folder: where to; what an earlier run with the same settings left there is kept.
        settings: what the results depend on.

    Raises:
        UserError: an earlier run had other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = settings
        self.rows: dict[str, Row] = {}
        self.scale: ColourScale | None = None
        if (folder / LINES).exists():
            before = _read_settings(folder / SETTINGS)
            for key, value in settings.items():
                if key not in FREE and before.get(key) != value:
                    raise UserError(
                        f"{folder / SETTINGS} has {_mismatch(key, before.get(key), value)}: give the same, or choose "
                        "another --save_path"
                    )
            self.rows = _whole_rows(folder / LINES)
            self.scale = ColourScale(**before[SCALE]) if before.get(SCALE) is not None else None
        self.keep_scale(self.scale)
        self._write_lines()

    def add(self, row: Row) -> None:
        """Append an image's row, to be found even if the run ends here.

        Raises:
            UserError: the file cannot be written.
        """
        self.rows[row["image_path"]] = row
        path = self.folder / LINES
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error

    def drop(self, names: Iterable[str]) -> None:
        """Forget the rows of images that are to be predicted again."""
        for name in names:
            self.rows.pop(name, None)
        self._write_lines()

    def keep_scale(self, scale: ColourScale | None) -> None:
        """Write the settings, and the colour scale of the overlays for a later run if it is known."""
        self.scale = scale
        write_json(self.folder / SETTINGS, {**self.settings, **({SCALE: asdict(scale)} if scale else {})})

    def keep_thumbnail(self, name: str, thumbnail: Thumbnail) -> None:
        """Keep an image's small picture for the page of a later run."""
        buffer = io.BytesIO()
        np.savez(buffer, image=np.frombuffer(thumbnail.image, np.uint8), scores=thumbnail.scores.astype(np.float16))
        with atomic_open(self._thumbnail_path(name), "wb") as file:
            file.write(buffer.getvalue())

    def thumbnail(self, name: str) -> Thumbnail | None:
        """Read an image's small picture; None where it is gone or damaged."""
        try:
            with np.load(self._thumbnail_path(name), allow_pickle=False) as content:
                return Thumbnail(content["image"].tobytes(), content["scores"].astype(np.float32), None)
        except Exception:  # a damaged file makes the reader stumble in many ways
            return None

    def write_table(self, names: Iterable[str], columns: Sequence[str]) -> None:
        """Write the rows of the named images as a table; lists are counted."""
        with atomic_open(self.folder / TABLE, newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            for name in names:
                cells = self.rows[name].items()
                writer.writerow({key: len(value) if isinstance(value, list) else value for key, value in cells})

    def _write_lines(self) -> None:
        write_text(self.folder / LINES, "".join(map(_line, self.rows.values())))

    def _thumbnail_path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
        return self.folder / ".thumbnails" / f"{digest}.npz"


def check_unused(folder: Path) -> None:
    """Refuse a folder that holds a prediction (a `UserError`), where it is not to be resumed."""
    if (folder / LINES).exists():
        raise UserError(
            f"{folder} holds a prediction already: go on with it by --resume, choose another --save_path, or delete it"
        )


def _mismatch(key: str, before: object, now: object) -> str:
    if isinstance(before, dict) or isinstance(now, dict):  # a calibration, with the scores of all its images
        return f"another {key} than this run"
    return f"{key} {as_given(before)}, and this run has {as_given(now)}"


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _whole_rows(path: Path) -> dict[str, Row]:
    """Read the images that were done: a line cut short, and images that failed, are to be tried again."""
    rows = {}
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("image_path"), str) and row.get("error") is None:
            rows[row["image_path"]] = row
    return rows


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = None
    if not isinstance(settings, dict):
        raise UserError(
            f"{path} is missing or damaged, so that its prediction cannot be gone on with; delete the folder"
        )
    return settings
