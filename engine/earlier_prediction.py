"""What an earlier run left of a prediction, read to go on with it."""

import contextlib
import json
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, InstanceOf, with_config
from typing_extensions import NotRequired, TypedDict

from engine.calibration import Calibration, difference
from utils.errors import UserError
from utils.json_files import read_json, validate
from utils.pictures import ColourScale

LINES, SETTINGS = "scores.jsonl", "predict.json"
FREE = ("environment", "git_commit")  # settings that may differ where a prediction is resumed
SCALE = "colour_scale"  # of the overlays, beside the settings
Row = dict[str, Any]  # by key, as JSON has it
FileRecord = dict[str, int]  # what tells that a file is another than it was


class _Row(TypedDict):
    """What is read again of an image that was predicted."""

    image_path: InstanceOf[str]  # whatever bytes it stands for
    text_prob: FiniteFloat
    map_max: FiniteFloat
    peak_x: NotRequired[int]
    peak_y: NotRequired[int]
    score: NotRequired[FiniteFloat]
    p_value: NotRequired[FiniteFloat]
    is_anomalous: NotRequired[bool]
    regions: NotRequired[list[dict[str, int | FiniteFloat]]]
    error: NotRequired[None]
    file: NotRequired[FileRecord | None]  # what it was of, see `file_record`


@with_config({"extra": "allow"})
class Settings(TypedDict):
    """What is read again of the settings, beside those that are compared."""

    colour_scale: NotRequired[ColourScale]
    calibration: NotRequired[Calibration | None]


def read_settings(path: Path, settings: Row, calibration: Calibration | None) -> Settings:
    """Read the settings of an earlier run, which must be those of this one, and the calibration of the same images."""
    try:
        before = read_json(path, Settings)
    except UserError as error:
        raise UserError(f"{error}; nothing can go on here: delete the folder, or choose another") from error
    found = difference(before, {key: value for key, value in settings.items() if key not in FREE})
    earlier = before.get("calibration")
    same = earlier.agrees_with(calibration) if earlier and calibration else earlier is calibration
    if not found and not same:
        found = "another calibration than this run"
    if found:
        raise UserError(f"{path} has {found}: give the same, or choose another --save_path")
    return before


def file_record(path: Path) -> FileRecord | None:
    """Look at a file's size and time; None where there is none."""
    with contextlib.suppress(OSError, ValueError):  # no name that a file can have
        found = path.stat()
        return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}
    return None


def read_rows(path: Path) -> dict[str, Row]:
    """Read the images that were done: a line cut short, and images that failed, are to be tried again."""
    rows = {}
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(UserError, ValueError, RecursionError):
            row = validate(json.loads(line), _Row, LINES)
            rows[row["image_path"]] = row
    return rows
