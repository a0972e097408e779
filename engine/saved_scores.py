"""Image scores from a CSV file: a run's scores.csv, or one's own."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from data.common import read_csv
from datasets.meta import Entry
from utils.errors import UserError

logger = logging.getLogger(__name__)


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
