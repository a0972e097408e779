"""Images and masks from files: every mode Pillow reads has one defined result, every failure one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from utils.errors import UserError
from utils.files import is_hidden

ORIENTATION = Base.Orientation
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

OUTPUTS = {"imgs", "masks", "overlays"}  # folders of pictures that runs write, one for each image and called after it
PLOTS = {"contact_sheet.png", "loss.png", "summary.png", "validation.png"}  # and others
LOGS = ("evaluate.log", "predict.log", "test.log", "train.log")  # of which a run's folder has one


def is_result(path: Path) -> bool:
    """Whether a run wrote a picture: `overlays/000.png.png`, say, anywhere below a folder that a run has written to."""
    of_an_image = Path(path.stem).suffix.lower() in IMAGE_SUFFIXES and not OUTPUTS.isdisjoint(path.parts)
    return (of_an_image or path.name in PLOTS) and any(
        (parent / log).exists() for parent in path.parents for log in LOGS
    )


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


def size_and_orientation(path: str | Path) -> tuple[tuple[int, int], int]:
    """Read an image's width and height as `load_rgb` gives it, and the EXIF orientation of its file, 1 if upright."""
    header = _read(path, lambda image: (image.size, image.getexif().get(ORIENTATION, 1)), upright=False)
    return header if header[1] == 1 else (_read(path, lambda image: image.size), header[1])


def load_mask(path: str | Path, threshold: int = 0) -> np.ndarray:
    """Read a mask, bool [H, W], upright like its image.

    A pixel is anomalous where its value exceeds the threshold, on the scale from 0 to 255. That value is the largest of
    its colour channels; alpha is ignored, and a palette is looked up, so that what is black there is normal whichever
    index it has. With the default threshold masks that hold class ids 1, 2, ... are read rightly, though they look
    black. Modes are read, and files refused, as `load_rgb` does, 16 bits without rounding. A folder is the union of the
    masks in it.
    """
    return mask_channels(path)[0] > threshold


def mask_channels(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the values [H, W] that `load_mask` looks at, and the alpha channel [H, W], None where there is none."""
    read = [_read(file, lambda image: (_values(image), _alpha(image))) for file in mask_files(path)]
    values, alphas = zip(*read, strict=True)
    if len({part.shape for part in values}) > 1:
        raise UserError(f"the masks in {path} are of several sizes: they cannot be one image's")
    alphas = [alpha for alpha in alphas if alpha is not None]
    return np.maximum.reduce(values), np.maximum.reduce(alphas) if alphas else None


def mask_files(path: str | Path) -> list[Path]:
    """List the files of a mask: those in it if it is a folder, as MVTec LOCO has one for each image, or itself."""
    path = Path(path)
    files = sorted(path.iterdir()) if path.is_dir() else []
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(file.name)] or [path]


def _read(path: str | Path, convert: Callable[[Image.Image], Any], *, upright: bool = True) -> Any:
    try:
        with Image.open(path) as image:
            if upright:
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


def _alpha(image: Image.Image) -> np.ndarray | None:
    return np.asarray(image.convert("RGBA").getchannel("A")) if image.has_transparency_data else None


def _values(image: Image.Image) -> np.ndarray:
    """The largest colour channel of each pixel, on the scale from 0 to 255: uint8 or float [H, W]."""
    if _is_grey_16(image):
        return np.asarray(image, dtype=np.float64) / 257
    if image.mode == "F":
        return np.nan_to_num(np.asarray(image), nan=0.0)
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))
    return np.asarray(_to_rgb(image)).max(axis=2)
