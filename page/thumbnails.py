"""Small pictures for the page: an image as JPEG, its map as a transparent PNG, its ground truth as an SVG path."""

import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from utils.pictures import ColourScale, fitted, levels, ramp

MAX_PICTURES = 2000  # of a page; of a class with too many, the images that are ranked worst have one
IMAGE_BYTES = 14 << 20  # of all images on a page, before base64 makes 4/3 of it
JPEG_BYTES_PER_PIXEL = 0.3  # a guess, on the high side, that the images' size is chosen by
JPEG_QUALITY = 80
IMAGE_SIDES = (128, 384)  # pixels, least and greatest
MAP_SIDE = 96  # pixels; maps are smooth
HEAT_LEVELS = 64  # so many colours, from invisible on
OUTLINE_SIDE = 512  # units of an outline's coordinates


class Thumbnail(NamedTuple):
    """What the page shows of an image."""

    image: bytes  # JPEG
    scores: np.ndarray  # its map, reduced, float32 [h, w]
    outline: str | None  # of its ground truth, data of an SVG path; None where it is not known


def limits(images: int) -> tuple[int, int]:
    """Choose how wide, in pixels, and how large, in bytes, each image may be on a page of so many."""
    most_bytes = IMAGE_BYTES // min(images, MAX_PICTURES)
    return int(np.clip((most_bytes / JPEG_BYTES_PER_PIXEL) ** 0.5, *IMAGE_SIDES)), most_bytes


def jpeg(picture: np.ndarray, side: int, most_bytes: int) -> bytes:
    """Encode a picture, uint8 RGB [H, W, 3], no wider than `side` pixels, and smaller until it fits into `most_bytes`.

    A picture of 32 pixels may exceed the limit.
    """
    while True:
        picture = fitted(picture, side)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
        if buffer.tell() <= most_bytes or side <= 32:
            return buffer.getvalue()
        side = max(32, min(side * 3 // 4, int(side * (most_bytes / buffer.tell()) ** 0.5)))


def heat_map(scores: np.ndarray, scale: ColourScale) -> bytes:
    """Encode a map [H, W] as PNG of the colours and opacities of `overlay`, to be laid over its image."""
    index = np.rint(levels(scores, scale) * (HEAT_LEVELS - 1)).astype(np.uint8)
    colours, opacity = ramp(np.linspace(0, 1, HEAT_LEVELS)[None])
    picture = Image.fromarray(index)
    picture.putpalette(colours.tobytes())  # which makes the grey levels indices
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=np.rint(255 * opacity).astype(np.uint8).tobytes())
    return buffer.getvalue()


def outline(mask: np.ndarray) -> str:
    """Trace a mask, bool [H, W], as the data of an SVG path in a square of `OUTLINE_SIDE` units; empty if it is.

    The lines run through the centres of the outermost pixels, as those of `draw_contour`.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    scale = OUTLINE_SIDE / np.array(mask.shape[::-1])
    corners = (cv2.approxPolyDP(contour, max(mask.shape) / OUTLINE_SIDE, closed=True)[:, 0] for contour in contours)
    lines = (np.rint((points + 0.5) * scale).astype(int) for points in corners)
    return "".join("M" + "L".join(f"{x} {y}" for x, y in line) + "Z" for line in lines)
