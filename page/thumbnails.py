"""Small pictures for a page: an image as JPEG, its map as a transparent PNG, its ground truth as an SVG path."""

import io

import cv2
import numpy as np
from PIL import Image

from utils.visualization import ColourScale, fitted, levels, ramp

JPEG_QUALITY = 80
HEAT_LEVELS = 64  # so many colours, from invisible on
OUTLINE_SIDE = 512  # units of an outline's coordinates


def jpeg(picture: np.ndarray, side: int, most_bytes: int) -> bytes:
    """The picture as JPEG, no wider than `side` pixels, and made smaller until it fits into `most_bytes`.

    Args:
        picture: [H, W, 3] uint8 RGB.
        side: pixels.
        most_bytes: the limit, which a picture of 32 pixels may exceed.
    """
    while True:
        picture = fitted(picture, side)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
        if buffer.tell() <= most_bytes or side <= 32:
            return buffer.getvalue()
        side = max(32, min(side * 3 // 4, int(side * (most_bytes / buffer.tell()) ** 0.5)))


def heat_map(scores: np.ndarray, scale: ColourScale) -> bytes:
    """A map as PNG of the colours and opacities of `overlay`, to be laid over its image.

    Args:
        scores: [H, W] float anomaly map.
        scale: that of the class.
    """
    index = np.rint(levels(scores, scale) * (HEAT_LEVELS - 1)).astype(np.uint8)
    colours, opacity = ramp(np.linspace(0, 1, HEAT_LEVELS)[None])
    picture = Image.fromarray(index)
    picture.putpalette(colours.tobytes())  # which makes the grey levels indices
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=np.rint(255 * opacity).astype(np.uint8).tobytes())
    return buffer.getvalue()


def outline(mask: np.ndarray) -> str:
    """The outlines of a mask as the data of an SVG path, in a square of `OUTLINE_SIDE` units.

    They run through the centres of the outermost pixels, as those of `draw_contour`.

    Args:
        mask: [H, W] bool.

    Returns:
        The path, empty for an empty mask.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = []
    scale = OUTLINE_SIDE / np.array(mask.shape[::-1])
    for contour in contours:
        corners = cv2.approxPolyDP(contour, max(mask.shape) / OUTLINE_SIDE, closed=True)[:, 0]
        points = np.rint((corners + 0.5) * scale).astype(int)
        parts.append("M" + "L".join(f"{x} {y}" for x, y in points) + "Z")
    return "".join(parts)
