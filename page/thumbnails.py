"""Small pictures for the page: an image as JPEG, its map as a transparent PNG, its ground truth as an SVG path."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from utils.pictures import ColourScale, fitted, levels, ramp

MAX_PICTURES = 2000  # of a page; of a class with too many, the images that are ranked worst have one
IMAGE_BYTES = 14 << 20  # of all images on a page, before base64 makes 4/3 of it
HEAT_BYTES = 4 << 20  # of all maps, likewise
OUTLINE_BYTES = 2 << 20  # of all outlines
MOST_IMAGES = 90_000  # whose scores alone take all of a page
JPEG_BYTES_PER_PIXEL = 0.3  # a guess, on the high side, that the images' size is chosen by
JPEG_QUALITY = 80
IMAGE_SIDES = (128, 384)  # pixels, least and greatest
LEAST_SIDE = 8  # pixels, of what has to be made smaller to fit; its bytes are few
MAP_SIDE = 96  # pixels; maps are smooth
HEAT_LEVELS = 64  # so many colours, from invisible on
OUTLINE_SIDE = 512  # units of an outline's coordinates


class Thumbnail(NamedTuple):
    """What the page shows of an image."""

    image: bytes  # JPEG
    scores: np.ndarray  # its map, reduced, float32 [h, w]
    outline: str | None  # of its ground truth, data of an SVG path; None where it is not known


def limits(images: int) -> tuple[int, int, int, int]:
    """Share what a page may take out among the pictures of so many images, less what their scores take.

    Gives the most pixels along a side of an image, and the most bytes of an image, of a map and of an outline.
    """
    share = max(0.05, 1 - images / MOST_IMAGES) / min(images, MAX_PICTURES)
    image, heat, outline = (int(kind * share) for kind in (IMAGE_BYTES, HEAT_BYTES, OUTLINE_BYTES))
    return int(np.clip((image / JPEG_BYTES_PER_PIXEL) ** 0.5, *IMAGE_SIDES)), image, heat, outline


def _within(most_bytes: int, picture: np.ndarray, side: int, encode: Callable[[np.ndarray], Any]) -> Any:
    """Encode a picture of at most `side` pixels, and smaller until it fits into `most_bytes` or is tiny."""
    side = min(side, max(picture.shape[:2]))
    while True:
        picture = fitted(picture, side)
        content = encode(picture)
        if len(content) <= most_bytes or side <= LEAST_SIDE:
            return content
        side = max(LEAST_SIDE, min(side * 3 // 4, int(side * (most_bytes / len(content)) ** 0.5)))


def jpeg(picture: np.ndarray, side: int, most_bytes: int) -> bytes:
    """Encode a picture, uint8 RGB [H, W, 3], no wider than `side` pixels, and smaller until it fits."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return _within(most_bytes, picture, side, lambda rgb: cv2.imencode(".jpg", rgb[..., ::-1], quality)[1].tobytes())


def fitted_jpeg(content: bytes, side: int, most_bytes: int) -> tuple[bytes, float]:
    """Encode a JPEG again if it takes more than `most_bytes`, as one that was made for a page of fewer images.

    Gives its aspect, too: its width as a share of its height, in five digits.
    """
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
        if len(content) > most_bytes:
            content = jpeg(np.asarray(picture), side, most_bytes)
        return content, float(f"{picture.width / picture.height:.5g}")


def heat_map(scores: np.ndarray, scale: ColourScale, most_bytes: int) -> bytes:
    """Encode a map [H, W] as PNG of the colours and opacities of `overlay`, to be laid over its image."""
    colours, opacity = ramp(np.linspace(0, 1, HEAT_LEVELS)[None])

    def encode(scores: np.ndarray) -> bytes:
        picture = Image.fromarray(np.rint(levels(scores, scale) * (HEAT_LEVELS - 1)).astype(np.uint8))
        picture.putpalette(colours.tobytes())  # which makes the grey levels indices
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", transparency=np.rint(255 * opacity).astype(np.uint8).tobytes())
        return buffer.getvalue()

    return _within(most_bytes, scores, MAP_SIDE, encode)


def outline(mask: np.ndarray, most_bytes: int) -> str:
    """Trace a mask, bool [H, W], as the data of an SVG path in a square of `OUTLINE_SIDE` units; empty if it is.

    The lines run through the centres of the outermost pixels, as those of `draw_contour`. Of a mask whose lines are too
    long, as of speckles, a smaller one is traced, in which a pixel is anomalous if any of those was that it stands for.
    """

    def encode(share: np.ndarray) -> str:
        contours, _ = cv2.findContours((share > 0).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        scale = OUTLINE_SIDE / np.array(share.shape[::-1])
        corners = (cv2.approxPolyDP(one, max(share.shape) / OUTLINE_SIDE, closed=True)[:, 0] for one in contours)
        lines = (np.rint((points + 0.5) * scale).astype(int) for points in corners)
        return "".join("M" + "L".join(f"{x} {y}" for x, y in line) + "Z" for line in lines)

    return _within(most_bytes, mask.astype(np.float32), max(mask.shape), encode)
