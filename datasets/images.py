"""Images and masks from files: every mode Pillow reads has one defined result, every failure one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from utils.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def load_rgb(path: str | Path) -> Image.Image:
    """Read an image as RGB, upright.

    Colour modes of 8 bits are Pillow's `convert("RGB")`: grey is repeated, an alpha channel is dropped (as the authors'
    code does), a palette looked up, CMYK converted naively. Grey of 16 bits (and of 32-bit integers, taken to hold 16)
    is scaled by 1/257 and rounded, where Pillow would clip at 255. Floating point is taken as 0 to 255, rounded and
    clipped, NaN as 0. Of several pages the first is read. An EXIF orientation is applied. A file that is missing, no
    image, truncated, or too large to be one in good faith is a `UserError`.
    """
    return _read(path, _to_rgb)


def load_rgb_and_mode(path: str | Path) -> tuple[Image.Image, str]:
    """An image as `load_rgb` gives it, and the mode its file has, by Pillow's name."""
    return _read(path, lambda image: (_to_rgb(image), image.mode))


def load_mask(path: str | Path, threshold: int = 0) -> np.ndarray:
    """Read a mask, bool [H, W], upright like its image.

    A pixel is anomalous where its value exceeds the threshold, on the scale from 0 to 255. That value is the largest of
    its colour channels; alpha is ignored, and a palette is looked up, so that what is black there is normal whichever
    index it has. With the default threshold masks that hold class ids 1, 2, ... are read rightly, though they look
    black. Modes are read, and files refused, as `load_rgb` does, 16 bits without rounding.
    """
    return _read(path, lambda image: _values(image) > threshold)


def _read(path: str | Path, convert: Callable[[Image.Image], Any]) -> Any:
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return convert(image)
    except FileNotFoundError as error:
        raise UserError(f"there is no image {path}") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image, or of a kind that cannot be read") from error
    except Exception as error:  # a broken file can make Pillow's decoders raise almost anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"cannot read the image {path}: {reason}") from error


def _is_grey_16(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _to_rgb(image: Image.Image) -> Image.Image:
    if _is_grey_16(image) or image.mode == "F":
        image = Image.fromarray(np.clip(np.rint(_values(image)), 0, 255).astype(np.uint8))
    if image.mode == "P":  # by way of RGBA, as Pillow warns of a palette with partial transparency otherwise
        image = image.convert("RGBA")
    return image.convert("RGB")


def _values(image: Image.Image) -> np.ndarray:
    """The largest colour channel of each pixel, on the scale from 0 to 255: uint8 or float [H, W]."""
    if _is_grey_16(image):
        return np.asarray(image, dtype=np.float64) / 257
    if image.mode == "F":
        return np.nan_to_num(np.asarray(image), nan=0.0)
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))
    return np.asarray(_to_rgb(image)).max(axis=2)
