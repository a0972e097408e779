"""What an earlier run left of a prediction, read to go on with it."""

import contextlib
import json
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, InstanceOf, with_config
from typing_extensions import NotRequired, TypedDict

from utils.arguments import as_given
from utils.errors import UserError
from utils.json_files import read_json, validate
from utils.pictures import ColourScale

LINES, SETTINGS = "scores.jsonl", "predict.json"
FREE = ("environment", "git_commit")  # settings that may differ where a prediction is resumed
SCALE = "colour_scale"  # of the overlays, beside the settings
Row = dict[str, Any]  # by key, as JSON has it


class _Row(TypedDict):
    """What is read again of an image that was predicted."""

    image_path: InstanceOf[str]  # whatever bytes it stands for
    text_prob: FiniteFloat
    map_max: FiniteFloat
    score: NotRequired[FiniteFloat]
    p_value: NotRequired[FiniteFloat]
    is_anomalous: NotRequired[bool]
    regions: NotRequired[list[dict[str, int | FiniteFloat]]]
    error: NotRequired[None]
    file: NotRequired[dict[str, int] | None]  # what it was of, see `file_record`


@with_config({"extra": "allow"})
class _Settings(TypedDict):
    colour_scale: NotRequired[ColourScale]


def read_settings(path: Path, settings: Row) -> Row:
    """Read the settings of an earlier run, which must be those of this one."""
    try:
        before = read_json(path, _Settings)
    except UserError as error:
        raise UserError(f"{error}; nothing can go on here: delete the folder, or choose another") from error
    for key, value in settings.items():
        if key not in FREE and before.get(key) != value:
            mismatch = f"{key} {as_given(before.get(key))}, and this run has {as_given(value)}"
            if key == "calibration":  # with the scores of all its images
                mismatch = "another calibration than this run"
            raise UserError(f"{path} has {mismatch}: give the same, or choose another --save_path")
    return before


def file_record(path: Path) -> dict[str, int] | None:
    """What tells that a file is another than it was; None where there is none."""
    with contextlib.suppress(OSError):
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
