"""Pictures of anomaly maps: one colour scale for a whole class, overlays, ground-truth contours, sheets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.files import atomic_open

MAX_OPACITY = 0.75  # of the highest score: what is below can still be made out
RAMP_START = 135  # the part of the Turbo colour map used, from green over yellow and red to dark red
GAP = 6  # white pixels between pictures
TEXT_HEIGHT = 24


@dataclass(frozen=True)
class ColourScale:
    """The scores that the colours begin (invisible) and end (darkest red) at, the same for all images.

    Attributes:
        low: scores up to this leave the image as it is.
        high: scores from this on have the last colour; with `high <= low` nothing is coloured.
    """

    low: float
    high: float


def class_scale(maps: np.ndarray) -> ColourScale:
    """The colour scale of a class, from all its maps together and without labels.

    From the median image's median score to the greatest score of all. Most pixels of a class are normal, in
    its anomalous images too, so a median is what a normal pixel scores; and the greatest score of the class
    lies in a defect if it has one. A normal image, whose scores lie near the median, thus stays as it is,
    while a scale of its own would show its highest score in red. (The least score as the beginning would tint
    every normal pixel; the medians are taken image by image to need no second copy of the maps.)

    The maximum of a class without any defect is red, too: for such images, or a single one, make a
    `ColourScale` from reference values.

    Args:
        maps: [n, H, W] anomaly maps of all images of the class.

    Raises:
        ValueError: there are no maps, or a score that is not finite.
    """
    if not maps.size or not np.isfinite([maps.min(), maps.max()]).all():  # NaN is passed on by both
        raise ValueError("a colour scale needs maps, and all their scores finite")
    return ColourScale(float(np.median([np.median(scores) for scores in maps])), float(maps.max()))


def overlay(image: np.ndarray, scores: np.ndarray, scale: ColourScale) -> np.ndarray:
    """The image with its anomaly map laid over it, the more opaque the higher the score.

    Args:
        image: [H, W, 3] uint8 RGB.
        scores: [H, W] float anomaly map.
        scale: that of the class.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    colours, opacity = ramp(levels(scores, scale))
    opacity = opacity[..., None]
    return np.rint(image * (1 - opacity) + colours * opacity).astype(np.uint8)


def levels(scores: np.ndarray, scale: ColourScale) -> np.ndarray:
    """Where scores lie on the scale, from 0 to 1; all 0 on a scale that colours nothing."""
    if scale.high <= scale.low:
        return np.zeros(scores.shape)
    return np.clip((scores - scale.low) / (scale.high - scale.low), 0, 1)


def ramp(level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The colour of each level [H, W] in [0, 1] (uint8 RGB [H, W, 3]), and how opaque it is (float [H, W])."""
    index = np.rint(RAMP_START + level * (255 - RAMP_START)).astype(np.uint8)
    colours = cv2.applyColorMap(index, cv2.COLORMAP_TURBO)[..., ::-1]  # OpenCV gives BGR
    return colours, MAX_OPACITY * (level**2 * (3 - 2 * level))  # smoothstep: flat near the median


def draw_contour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of the image with the mask's outlines: a white line with a black edge, seen on any ground.

    Args:
        image: [H, W, 3] uint8 RGB.
        mask: [H, W] bool; the white line runs over its outermost pixels.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(image).copy()
    width = 1 + 2 * (max(mask.shape) // 512)  # odd: as far to either side of the outline
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), width + 2)
    return cv2.drawContours(drawn, contours, -1, (255, 255, 255), width)


def panel(
    image: np.ndarray, scores: np.ndarray, mask: np.ndarray | None, scale: ColourScale, text: str = ""
) -> np.ndarray:
    """Image, overlay and, where there is a mask, ground truth side by side, below a line of text if given.

    Args:
        image: [H, W, 3] uint8 RGB.
        scores: [H, W] float anomaly map.
        mask: [H, W] bool (all False for a normal image), or None where there is no ground truth.
        scale: that of the class.
        text: a title or the image's score.

    Returns:
        [H, 3 W + 2 gaps, 3] uint8 RGB (2 W + 1 gap without a mask), higher by the line of text.
    """
    pictures = [image, overlay(image, scores, scale)]
    if mask is not None:
        pictures.append(draw_contour(image, mask))
    height, width = image.shape[:2]
    canvas = _white(height, len(pictures) * (width + GAP) - GAP)
    for number, picture in enumerate(pictures):
        left = number * (width + GAP)
        canvas[:, left : left + width] = picture
    return _titled(canvas, text) if text else canvas


def contact_sheet(
    panels: Sequence[np.ndarray], captions: Sequence[str], columns: int = 2, width: int = 720
) -> np.ndarray:
    """Many panels on one sheet, row by row, each below its caption.

    Args:
        panels: [h, w, 3] uint8 RGB each, of any size.
        captions: one for each panel.
        columns: panels a row.
        width: pixels that each panel is scaled to (a narrower one keeps its size).

    Returns:
        [H, W, 3] uint8 RGB, `W = columns * (width + gap) + gap`.

    Raises:
        ValueError: no panels, or not as many captions as panels.
    """
    if not panels:
        raise ValueError("a contact sheet needs a panel")
    cells = [_titled(fitted(panel, width), caption) for panel, caption in zip(panels, captions, strict=True)]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    sheet = _white(sum(heights) + GAP * (len(rows) + 1), columns * (width + GAP) + GAP)
    top = GAP
    for row, row_height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = GAP + column * (width + GAP)
            sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
        top += row_height + GAP
    return sheet


def save_png(path: str | Path, array: np.ndarray) -> None:
    """Write a picture ([H, W, 3] or [H, W], uint8) as PNG, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_open(path, "wb") as file:
        Image.fromarray(array).save(file, "PNG")


def _white(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def fitted(picture: np.ndarray, width: int) -> np.ndarray:
    """The picture scaled down to `width` pixels, its aspect kept; a narrower one as it is."""
    height, own_width = picture.shape[:2]
    if own_width <= width:
        return picture
    return cv2.resize(picture, (width, max(1, round(height * width / own_width))), interpolation=cv2.INTER_AREA)


def _titled(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture below a line of text, which is cut off at the picture's width."""
    line = Image.fromarray(_white(TEXT_HEIGHT, picture.shape[1]))
    font = ImageFont.load_default(size=16)
    ImageDraw.Draw(line).text((2, TEXT_HEIGHT / 2), text, fill=(0, 0, 0), font=font, anchor="lm")
    return np.concatenate([np.asarray(line), picture])
