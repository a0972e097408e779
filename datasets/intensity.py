"""Which values of a data set's images are black and white, where they use another range than their files' own."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from datasets.images import MAX_PIXELS, WHITE, Depth, ImageSource, Range, value_range
from utils.errors import UserError

LOOKED_AT = 32  # images, to see whether there is something to warn of
WHITES = (1.0, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16)))  # of the ranges that cameras and programs fill


def find_range(
    intensity: str, images: Sequence[ImageSource], max_pixels: int = MAX_PIXELS, *, at_once: bool = True
) -> tuple[Range | None, list[str]]:
    """Find the values that `intensity`, as the option has it, means for the images; None for their files' range.

    It is also said whether they use a sliver of their files' range, or go beyond it, or use a sliver of a given range
    in floating point. A range that the images' depth does not have, or for several depths, is a `UserError`. `auto` is
    advised where all images are there `at_once`, as it is refused elsewhere.
    """
    given = None if intensity in ("auto", "full") else tuple(map(float, intensity.split(",")))
    step = 1 if intensity == "auto" else max(1, len(images) // LOOKED_AT)
    values = _values_by_depth(images[::step], max_pixels)
    if intensity != "full" and len(values) > 1:
        raise UserError(f"--intensity {intensity}: there are images of {' and of '.join(values)}: give full")
    said = []
    for depth, (least, greatest) in values.items():
        found, white = filled(least, greatest), WHITE[depth]
        low, high = given or (0, white)
        if high > white and depth != "floating point":
            none = f"images of {depth} have no values above {white:g}"
            raise UserError(f"--intensity {intensity}: {none}: give auto or full")
        if high > max(white, found[1]) or (given is None and found != (low, high)):
            if intensity == "auto":
                return found, []
            what = f"images of {depth} have values from {least:g} to {greatest:g}"
            what += f", and {low:g} to {high:g} are shown as black to white"
            auto = "--intensity auto, or " if at_once else ""
            said.append(f"{what}: give {auto}--intensity={found[0]:g},{found[1]:g}")
    return given, said


def filled(low: float, high: float) -> Range:
    """Choose the range, of those that are usual, that values from `low` to `high` fill, or else just these."""
    return next(((0.0, white) for white in WHITES if low >= 0 and high <= white), (low, max(high, low + 1)))


def _values_by_depth(images: Sequence[ImageSource], max_pixels: int) -> dict[Depth, Range]:
    """Find the least and greatest value of the images of each depth, passing over unreadable ones."""
    found = defaultdict(list)

    def read(image: ImageSource) -> None:
        with suppress(UserError):
            depth, values = value_range(image, max_pixels)
            found[depth].extend(values)

    with ThreadPoolExecutor() as readers:
        list(readers.map(read, images))
    return {depth: (min(values), max(values)) for depth, values in sorted(found.items())}
