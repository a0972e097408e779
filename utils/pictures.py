"""Pictures of anomaly maps: one colour scale for a whole class, overlays, ground-truth contours, and their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.files import atomic_open

MAX_OPACITY = 0.75  # of the highest score: what is below can still be made out
RAMP_START = 135  # the part of the Turbo colour map used, from green over yellow and red to dark red
# Of photographs as small as by zlib's default level, and seven times as fast; older versions choose the filter.
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []


@dataclass(frozen=True)
class ColourScale:
    """The scores that the colours begin (invisible) and end (darkest red) at, the same for all images."""

    low: float  # scores up to this leave the image as it is
    high: float  # scores from this on have the last colour; with `high <= low` nothing is coloured


def class_scale(maps: Sequence[np.ndarray]) -> ColourScale:
    """Make the colour scale of a class from all its maps, n of [H, W], together, at least one and all finite.

    From the median image's median score, which is what a normal pixel scores, as most pixels are normal in anomalous
    images too, to the greatest score of all, which lies in a defect if there is one: a normal image stays as it is. In
    a class without any defect the maximum is red, too: for such images, or a single one, make a `ColourScale`
    from reference values.
    """
    limits = [(scores.min(), scores.max()) for scores in maps]  # which pass NaN on
    if not limits or not np.isfinite(limits).all():
        raise ValueError("a colour scale needs maps, and all their scores finite")
    medians = [np.median(scores) for scores in maps]  # one by one, to need no second copy of the maps
    return ColourScale(float(np.median(medians)), float(np.max(limits)))


def overlay(image: np.ndarray, scores: np.ndarray, scale: ColourScale) -> np.ndarray:
    """Lay a map [H, W] over its image, uint8 RGB [H, W, 3], the more opaque the higher the score."""
    colours, opacity = ramp(levels(scores, scale))
    weight = opacity.astype(np.float32, copy=False)
    return cv2.blendLinear(image, colours, 1 - weight, weight)


def levels(scores: np.ndarray, scale: ColourScale) -> np.ndarray:
    """Place scores on the scale, from 0 to 1; all 0 on a scale that colours nothing."""
    if scale.high <= scale.low:
        return np.zeros(scores.shape)
    return np.clip((scores - scale.low) / (scale.high - scale.low), 0, 1)


def ramp(level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the colour of each level [H, W] in [0, 1], uint8 RGB [H, W, 3], and how opaque it is, float [H, W, 1]."""
    index = cv2.convertScaleAbs(level, alpha=255 - RAMP_START, beta=RAMP_START)
    colours = cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return colours, MAX_OPACITY * (level**2 * (3 - 2 * level))[..., None]  # smoothstep: flat near the median


def draw_contour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw the outlines of a mask, bool [H, W], on a copy of an image, uint8 RGB [H, W, 3].

    A white line over the mask's outermost pixels, with a black edge, is seen on any ground.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = np.array(image, order="C")
    width = 1 + 2 * (max(mask.shape) // 512)  # odd: as far to either side of the outline
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), width + 2)
    return cv2.drawContours(drawn, contours, -1, (255, 255, 255), width)


def fitted_to(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Resize scores, float32 [h, w], to an image's height and width: by areas where they shrink, else bilinear."""
    method = cv2.INTER_AREA if scores.size > image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(scores, image.shape[1::-1], interpolation=method)


def fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """Scale a picture down to `side` pixels along its longest side, its aspect kept; a smaller one stays as it is."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return picture
    size = tuple(max(1, round(length * side / longest)) for length in (width, height))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def save_png(path: str | Path, array: np.ndarray) -> None:
    """Write a picture ([H, W, 3] or [H, W], uint8) as PNG, atomically."""
    content = cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array, PNG)[1]
    with atomic_open(path, "wb") as file:
        file.write(content)


def save_map(path: str | Path, anomaly_map: np.ndarray) -> None:
    """Write a map [H, W] as .npy, atomically."""
    with atomic_open(path, "wb") as file:
        np.save(file, anomaly_map)
