"""What predictions say on standard output: JSON of each photograph that comes, or words on a single one."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from engine.arrivals import Arrival
from engine.calibration import Calibration
from engine.earlier_prediction import FileRecord, Row
from engine.predicted import Prediction
from utils.errors import UserError
from utils.names import counted, shown

logger = logging.getLogger(__name__)

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
