"""Which values of a data set's images are black and white, where they use another range than their files' own."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from datasets.images import WHITE, Depth, Range, value_range
from utils.errors import UserError

LOOKED_AT = 32  # images, to see whether there is something to warn of
WHITES = (1.0, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16)))  # of the ranges that cameras and programs fill


def find_range(intensity: str, paths: Sequence[Path]) -> tuple[Range | None, list[str]]:
    """Find the values that `intensity`, as the option has it, means for the images at `paths`; None for their files'.

    If nothing was chosen, it is also said whether they use a sliver of their files' range, or go beyond it.
    """
    if intensity not in ("auto", "full"):
        low, high = map(float, intensity.split(","))
        return (low, high), []
    some = paths if intensity == "auto" else paths[:: max(1, len(paths) // LOOKED_AT)]
    values = _values_by_depth(some)
    others = {depth: found for depth, of in values.items() if (found := filled(*of)) != (0, WHITE[depth])}
    if intensity == "full":
        said = "images of {} have values from {:g} to {:g}, and 0 to {:g} are shown as black to white"
        said += ": give --intensity auto, or --intensity={:g},{:g}"
        return None, [said.format(depth, *values[depth], WHITE[depth], *found) for depth, found in others.items()]
    if len(values) > 1:
        raise UserError(f"--intensity auto: there are images of {' and of '.join(values)}: give LO,HI or full")
    return next(iter(others.values()), None), []


def filled(low: float, high: float) -> Range:
    """Choose the range, of those that are usual, that values from `low` to `high` fill, or else just these."""
    return next(((0.0, white) for white in WHITES if low >= 0 and high <= white), (low, max(high, low + 1)))


def _values_by_depth(paths: Sequence[Path]) -> dict[Depth, Range]:
    """The least and greatest value of the images of each depth; those that cannot be read are told elsewhere."""
    found = defaultdict(list)

    def read(path: Path) -> None:
        with suppress(UserError):
            depth, values = value_range(path)
            found[depth].extend(values)

    with ThreadPoolExecutor() as readers:
        list(readers.map(read, paths))
    return {depth: (min(values), max(values)) for depth, values in sorted(found.items())}
