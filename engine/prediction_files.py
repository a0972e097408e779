"""Files of a prediction that can be resumed: settings, a line of JSON for each image, a small picture of each."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from page.thumbnails import Thumbnail
from utils.arguments import as_given
from utils.errors import UserError
from utils.files import atomic_open, write_text

LINES, SETTINGS = "scores.jsonl", "predict.json"
FREE = ("environment", "git_commit")  # settings that may differ where a prediction is resumed
Row = dict[str, Any]


def holds_prediction(folder: Path) -> bool:
    """Whether a prediction was begun there."""
    return (folder / LINES).exists()


def read_settings(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of an earlier run, which must be those of this one."""
    path = folder / SETTINGS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        damage = f"{path} is missing or damaged, so that its prediction cannot be gone on with"
        raise UserError(f"{damage}; delete the folder")
    for key, value in settings.items():
        if key not in FREE and before.get(key) != value:
            mismatch = f"{key} {as_given(before.get(key))}, and this run has {as_given(value)}"
            if key == "calibration":  # with the scores of all its images
                mismatch = "another calibration than this run"
            raise UserError(f"{path} has {mismatch}: give the same, or choose another --save_path")
    return before


def read_rows(folder: Path) -> dict[str, Row]:
    """Read the images that were done: a line cut short, and images that failed, are to be tried again."""
    rows = {}
    for line in (folder / LINES).read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("image_path"), str) and row.get("error") is None:
            rows[row["image_path"]] = row
    return rows


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Write all rows, in the place of those that are there."""
    write_text(folder / LINES, "".join(map(_line, rows)))


def append_row(folder: Path, row: Row) -> None:
    """Append an image's row, to be found even if the run ends here."""
    path = folder / LINES
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def write_thumbnail(folder: Path, name: str, thumbnail: Thumbnail) -> None:
    """Keep an image's small picture for the page of a later run."""
    buffer = io.BytesIO()
    np.savez(buffer, image=np.frombuffer(thumbnail.image, np.uint8), scores=thumbnail.scores.astype(np.float16))
    with atomic_open(_thumbnail_path(folder, name), "wb") as file:
        file.write(buffer.getvalue())


def read_thumbnail(folder: Path, name: str) -> Thumbnail | None:
    """Read an image's small picture; None where it is gone or damaged."""
    try:
        with np.load(_thumbnail_path(folder, name), allow_pickle=False) as content:
            return Thumbnail(content["image"].tobytes(), content["scores"].astype(np.float32), None)
    except Exception:  # a damaged file makes the reader stumble in many ways
        return None


def _thumbnail_path(folder: Path, name: str) -> Path:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
    return folder / ".thumbnails" / f"{digest}.npz"
