"""Which values of a data set's images are black and white, where they use another range than their files' own."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datasets.images import WHITE, Depth, Range, value_range
from utils.errors import UserError

logger = logging.getLogger(__name__)

LOOKED_AT = 32  # images, to see whether there is something to warn of
WHITES = (1.0, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16)))  # of the ranges that cameras and programs fill


def find_range(intensity: str, paths: Sequence[Path], where: str | Path) -> Range | None:
    """Find the values that `intensity`, as the option has it, means for the images at `paths`; None for their files'.

    Images that use a sliver of their files' range, or go beyond it, are warned of if nothing else was chosen.
    """
    if intensity == "full":
        for what, remedy in unused_ranges(paths):
            logger.warning("%s: %s; %s", where, what, remedy)
        return None
    if intensity != "auto":
        low, high = map(float, intensity.split(","))
        return low, high
    used = {depth: filled(*values) for depth, values in _values_by_depth(paths).items()}
    if len(used) > 1:
        raise UserError(f"--intensity auto: the images of {where} are of {' and of '.join(used)}; give LO,HI or full")
    for depth, found in used.items():
        if found != (0.0, WHITE[depth]):
            logger.info("%s: values from %g to %g are shown as black to white", where, *found)
            return found
    return None


def unused_ranges(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Say, of some of the images, whether they use a sliver of their files' range or go beyond it, and what to do."""
    some = paths[:: max(1, len(paths) // LOOKED_AT)]
    said = []
    for depth, (low, high) in _values_by_depth(some).items():
        if (found := filled(low, high)) != (0.0, WHITE[depth]):
            what = f"the images of {depth} that were looked at have values from {low:g} to {high:g}"
            remedy = "give --intensity auto or --intensity={:g},{:g}".format(*found)
            said.append((f"{what}, and 0 to {WHITE[depth]:g} are shown as black to white", remedy))
    return said


def filled(low: float, high: float) -> Range:
    """Choose the range, of those that are usual, that values from `low` to `high` fill, or else just these."""
    return next(((0.0, white) for white in WHITES if low >= 0 and high <= white), (low, max(high, low + 1)))


def _values_by_depth(paths: Sequence[Path]) -> dict[Depth, Range]:
    """The least and greatest value of the images of each depth."""

    def read(path: Path) -> tuple[Depth, Range] | None:
        try:
            return value_range(path)
        except UserError:  # said when the image is to be read
            return None

    found = defaultdict(list)
    with ThreadPoolExecutor() as readers:
        for depth, values in filter(None, readers.map(read, paths)):
            found[depth].append(values)
    return {depth: (min(low for low, _ in of), max(high for _, high in of)) for depth, of in found.items()}
