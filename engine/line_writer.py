"""The lines of a prediction, JSON of each photograph: printed as it comes, read again; and a single one in words."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, InstanceOf
from typing_extensions import NotRequired, TypedDict

from engine.arrivals import Arrival, FileRecord
from engine.calibration import Calibration
from engine.predicted import Prediction, Row
from utils.errors import UserError
from utils.json_files import validate
from utils.names import counted, shown

logger = logging.getLogger(__name__)

LINES = "scores.jsonl"
SUMMARY = "%s predicted%s; %d could not be"


class LineWriter(AbstractContextManager):
    """Prints a line for each photograph, and writes nothing else."""

    done: Mapping[str, FileRecord | None] = {}  # by path, the files that are answered already

    def __init__(self, calibration: Calibration | None, threshold: float | None) -> None:
        self.calibration = calibration
        self.pixel_threshold = threshold if calibration is None else calibration.pixel_threshold
        self.predicted = self.anomalous = self.failed = 0

    def __exit__(self, *error: Any) -> None:
        """Leave nothing to be done."""

    def known(self, arrival: Arrival) -> Row | None:
        """Give what is known of a photograph already: nothing, as nothing is kept."""

    def write(self, arrival: Arrival, found: Prediction | UserError | Row) -> None:
        """Print what is said of a photograph, or why it could not be predicted."""
        if isinstance(found, Prediction):
            found = found.row(self.calibration, self.pixel_threshold)
            self.predicted += 1
            self.anomalous += found.get("is_anomalous", False)
        elif isinstance(found, UserError):
            logger.warning("%s", found)
            found = {"error": str(found)}
            self.failed += 1
        print_line({"image_path": str(arrival.path), **found, "file": arrival.file})

    def flush(self) -> None:
        """Wait until all is written, which it is."""

    def finish(self) -> int:
        """Log a summary; 1 if a photograph could not be predicted, else 0."""
        log_summary(self.predicted, self.anomalous if self.calibration else None, self.failed)
        return int(self.failed > 0)


def log_summary(predicted: int, anomalous: int | None, failed: int) -> None:
    """Log how many photographs were predicted, are anomalous (None: it is not known) and could not be read."""
    of_them = "" if anomalous is None else f", {anomalous} of them anomalous"
    logger.info(SUMMARY, counted(predicted, "image"), of_them, failed)


def print_line(row: Row) -> None:
    """Print JSON at once."""
    try:
        print(json.dumps(row, allow_nan=False), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it would be tried once more at the end
        raise UserError(f"cannot write to standard output: {error.strerror}") from error


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


def read_rows(path: Path) -> dict[str, Row]:
    """Read the images that were done: a line cut short, and images that failed, are to be tried again."""
    rows = {}
    for line in path.read_bytes().splitlines():
        with suppress(UserError, ValueError, RecursionError):
            row = validate(json.loads(line), _Row, LINES)
            rows[row["image_path"]] = row
    return rows


def in_words(row: Row) -> str:
    """Say in two lines what was found on one photograph, and where to look."""
    path, scores = row["image_path"], f"text probability {row['text_prob']:.4g}, map maximum {row['map_max']:.4g}"
    verdict = "no verdict without normal images (--normal_dir)"
    if "score" in row:
        kind = "anomalous" if row["is_anomalous"] else "normal"
        verdict = f"{kind}, score {row['score']:.3g} (anomalous above 0), p-value {row['p_value']:.2g}"
    places = [
        f"x {one['x']} to {one['x'] + one['width']}, y {one['y']} to {one['y'] + one['height']}"
        for one in row.get("regions", ())
    ]
    where = f"marked: {'; '.join(places)}" if places else "nothing is marked" if "regions" in row else ""
    if "peak_x" in row:
        where += f"{'; ' if where else ''}highest at x {row['peak_x']}, y {row['peak_y']}"
    return shown(f"{path}: {verdict}; {scores}\n  {where}", keep="\n")
