"""Images and masks: every kind of pixels that is read has one defined result, every failure one sentence."""

import contextlib
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from datasets.image_files import HEIF, IMAGE_SUFFIXES
from utils.errors import UserError
from utils.files import is_hidden, open_regular

ORIENTATION = Base.Orientation
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # no other is opened: for PostScript, Pillow would start a program
MAX_PIXELS = 512_000_000  # of an image, unless a caller says otherwise
ImageSource = str | Path | Image.Image | np.ndarray  # a file's path, or a picture in memory
Range = tuple[float, float]  # the values in a file that are shown as black and as white
Depth = Literal["8 bits", "12 bits", "16 bits", "floating point"]
WHITE: Mapping[Depth, float] = {"8 bits": 255, "12 bits": 4095, "16 bits": 65535, "floating point": 255}  # 0 is black

BITS, PHOTOMETRIC, FILL_ORDER, PLANES, NUMBERS = 258, 262, 266, 284, 339  # tags of TIFF
WHITE_IS_0, CMYK, YCBCR = 0, 5, 6  # values of PHOTOMETRIC
ARRAYS: Mapping[str, Depth] = {"bool": "8 bits", "uint8": "8 bits", "uint16": "16 bits", "int32": "16 bits"}
ARRAYS |= dict.fromkeys(("float16", "float32", "float64"), "floating point")  # by type

_LIMIT = threading.Lock()


class Pixels(NamedTuple):
    """An image, upright: of 8 bits in mode L or RGB, or an array of the values in its file, [H, W] or RGB [H, W, 3]."""

    image: Image.Image | np.ndarray
    depth: Depth
    mode: str  # Pillow's name for what the file has


def load_rgb(source: ImageSource, intensity: Range | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image as RGB, upright; `intensity` are the values that become 0 and 255, by default the file's own.

    Colour modes of 8 bits are Pillow's `convert("RGB")`: grey is repeated, an alpha channel is dropped (as the authors'
    code does), a palette looked up, CMYK converted naively. More bits are scaled and rounded, where Pillow would clip
    grey at 255: by 1/257 those of 16 bits and of 32-bit integers, taken to hold 16. Floating point is taken as 0 to
    255, rounded and clipped, NaN as 0. Of several pages the first is read. An EXIF orientation is applied. A file that
    is missing, no image, truncated, of a kind that decoders are known to misread, or of more than `max_pixels` is
    a `UserError`.

    The same holds for pictures in memory, which stay as they are. One of Pillow whose file has not been read is taken
    from that file, as Pillow drops bits of some. An array is [H, W] or [H, W, channels], of grey or RGB.
    """
    return load_rgb_and_mode(source, intensity, max_pixels)[0]


def load_rgb_and_mode(
    source: ImageSource, intensity: Range | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, str]:
    """Read an image as `load_rgb` does, and the mode its file has, by Pillow's name."""
    with _opened(source, max_pixels) as (image, file):
        pixels = _decode(image, file)
    shown = pixels.image
    if intensity is not None or pixels.depth != "8 bits":
        shown = Image.fromarray(_as_bytes(np.asarray(shown), intensity or (0, WHITE[pixels.depth])))
    return _in_mode(shown, "RGB"), pixels.mode


def size_and_orientation(path: str | Path) -> tuple[tuple[int, int], int]:
    """Read an image's width and height as `load_rgb` gives it, and the EXIF orientation of its file, 1 if upright."""
    with _opened(path) as (image, _):
        orientation = image.getexif().get(ORIENTATION, 1)
        if orientation not in range(2, 9):  # numbers that mean nothing turn nothing
            return image.size, 1
        ImageOps.exif_transpose(image, in_place=True)
        return image.size, orientation


def load_mask(path: str | Path, threshold: int = 0, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a mask, bool [H, W], upright like its image.

    A pixel is anomalous where its value exceeds the threshold, on the scale from 0 to 255. That value is the largest of
    its colour channels; alpha is ignored, and a palette is looked up, so that what is black there is normal whichever
    index it has. With the default threshold masks that hold class ids 1, 2, ... are read rightly, though they look
    black. Modes are read, and files refused, as `load_rgb` does, more than 8 bits without rounding. A folder is the
    union of the masks in it.
    """
    return mask_channels(path, max_pixels)[0] > threshold


def mask_channels(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the values [H, W] that `load_mask` looks at, and the alpha channel [H, W], None where there is none."""
    values, alphas = zip(*(_mask_channels(file, max_pixels) for file in mask_files(path)), strict=True)
    if len({part.shape for part in values}) > 1:
        raise UserError(f"the masks in {path} are of several sizes: they cannot be one image's")
    alphas = [alpha for alpha in alphas if alpha is not None]
    return np.maximum.reduce(values), np.maximum.reduce(alphas) if alphas else None


def _mask_channels(path: Path, max_pixels: int) -> tuple[np.ndarray, np.ndarray | None]:
    with _opened(path, max_pixels) as (image, file):
        pixels, alpha = _decode(image, file), None
        if image.has_transparency_data:
            ImageOps.exif_transpose(image, in_place=True)  # unless that was done
            alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    values = np.asarray(pixels.image)
    values = values.max(axis=2) if values.ndim == 3 else values
    return values if pixels.depth == "8 bits" else np.nan_to_num(values) * 255.0 / WHITE[pixels.depth], alpha


def mask_files(path: str | Path) -> list[Path]:
    """List the files of a mask: those in it if it is a folder, as MVTec LOCO has one for each image, or itself."""
    path = Path(path)
    with reading("image", path):  # a folder may be one not to be entered, a name too long, a server gone
        files = sorted(path.iterdir()) if path.is_dir() else []
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(file.name)] or [path]


def value_range(source: ImageSource, max_pixels: int = MAX_PIXELS) -> tuple[Depth, Range]:
    """Find an image's depth, and its least and greatest finite value; those of 8 bits are not looked at."""
    with _opened(source, max_pixels) as (image, file):
        may_have_more = isinstance(image, np.ndarray) or image.mode[0] in "IF" or _has_16_bits(image)
        pixels = _decode(image, file) if may_have_more else None
    if pixels is None or pixels.depth == "8 bits":
        return "8 bits", (0.0, WHITE["8 bits"])
    values = pixels.image[np.isfinite(pixels.image)]
    return pixels.depth, (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def open_bounded(file: IO[bytes], formats: Sequence[str], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image without reading its pixels; one of more than `max_pixels` is a `ValueError`."""
    with _LIMIT:  # Pillow's own, one for the whole process, of which it warns past the log
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    check_size(image.size, max_pixels)
    return image


def check_size(size: Sequence[int], max_pixels: int) -> None:
    """Refuse more than `max_pixels`, before they are read, by a `ValueError`."""
    if prod(size) > max_pixels:
        raise ValueError(f"it has {' x '.join(map(str, size))} pixels, more than --max_pixels {max_pixels}")


@contextlib.contextmanager
def reading(what: str, path: str | Path, kind: str = "an image, or of a kind that cannot be read") -> Iterator[None]:
    """Make one sentence of all that can go wrong in reading a file, an "image" say, which may be of another `kind`."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"there is no {what} {path}") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path} is not {kind}") from error
    except Exception as error:  # a broken file can make the decoders raise almost anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"cannot read the {what} {path}: {' '.join(reason.split())}") from error


@contextlib.contextmanager
def _opened(
    source: ImageSource, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[Image.Image | np.ndarray, IO[bytes] | None]]:
    """Open an image and its file; of one in memory there may be none."""
    is_file, is_array = isinstance(source, str | Path), isinstance(source, np.ndarray)
    path = source if is_file else getattr(source, "filename", "") or "in memory"
    with reading("image", path):
        content = None if is_file or is_array else _unread(source)
        if content is None and not is_file:
            check_size(source.shape[1::-1] if is_array else source.size, max_pixels)
            yield source, None
            return
        formats = FORMATS
        if Path(path).suffix.lower() in HEIF & IMAGE_SUFFIXES:
            from pillow_heif import register_heif_opener

            register_heif_opener()
            formats = (*FORMATS, "HEIF")
        # Given a path, Pillow would map some files into memory, and those on their side wrongly.
        with content or open_regular(path) as file, open_bounded(file, formats, max_pixels) as image:
            if image.format == "TIFF" and (kind := _misread(image)):
                raise ValueError(f"TIFF with {kind} is not read; save it as PNG, or as TIFF without that")
            yield image, file


def _unread(image: Image.Image) -> IO[bytes] | None:
    """Give the content of an image's file, as long as nothing was read of it, and so nothing changed."""
    if image.format not in FORMATS or not getattr(image, "tile", None) or not image.fp or image.tell():
        return None
    place = image.fp.tell()
    image.fp.seek(0)
    content = io.BytesIO(image.fp.read())
    image.fp.seek(place)
    return content


def _misread(image: Image.Image) -> str | None:
    """Say what Pillow and OpenCV, of some version, misread in this TIFF without an error; None if nothing."""
    tags, compressed = image.tag_v2, image.info["compression"] != "raw"
    bits, photometric = tags.get(BITS, (1,))[0], tags.get(PHOTOMETRIC, WHITE_IS_0)
    in_planes = tags.get(PLANES, 1) == 2
    kinds = {
        "numbers with a sign of 8 bits": bits == 8 and tags.get(NUMBERS, (1,))[0] == 2,
        "floating point of which 0 is white": image.mode == "F" and photometric == WHITE_IS_0,
        "compressed big-endian numbers with a sign or 32 bits": image.mode == "I"
        and tags.prefix == b"MM"
        and compressed,
        "colours of 16 bits in separate planes": in_planes and _has_16_bits(image),
        "planes of reversed bits": in_planes and tags.get(FILL_ORDER, 1) == 2,
        "CMYK of 16 bits": bits == 16 and photometric == CMYK,
        "YCbCr without JPEG compression": photometric == YCBCR and image.info["compression"] != "jpeg",
        "Lab colours": image.mode == "LAB",
    }
    return next((kind for kind, is_so in kinds.items() if is_so), None)


def _has_16_bits(image: Image.Image) -> bool:
    """Tell whether a file has colours of 16 bits, of which Pillow drops the lower 8."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(BITS, (1,))[0]
    else:
        bits = 16 if image.format == "PNG" and ";16" in str(image.tile) else 8
    return bits == 16 and image.mode in ("RGB", "RGBA")


def _from_array(values: np.ndarray) -> Pixels:
    depth, channels = ARRAYS.get(values.dtype.name), values.shape[2:] or (1,)
    if depth is None:
        raise ValueError(f"an image is an array of {', '.join(ARRAYS)}, not of {values.dtype}: convert it")
    if values.ndim not in (2, 3) or not values.size or channels[0] > 4:
        raise ValueError(f"an image is an array [height, width] or [height, width, 1 to 4], not {list(values.shape)}")
    if values.ndim == 3:
        values = values[..., :3] if channels[0] > 2 else values[..., 0]
    if depth == "8 bits":
        image = Image.fromarray(np.multiply(values, 255 if values.dtype == bool else 1, dtype=np.uint8))
        return Pixels(image, depth, image.mode)
    return Pixels(values, depth, values.dtype.name)


def _decode(image: Image.Image | np.ndarray, file: IO[bytes] | None) -> Pixels:
    if isinstance(image, np.ndarray):
        return _from_array(image)
    mode = image.mode
    is_table = image.format == "BMP" and mode in ("1", "L")  # for which Pillow may take indices
    if file is not None and (is_table or mode == "F" or _has_16_bits(image)):
        import cv2  # which takes long, and few files need

        file.seek(0)
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
        if values is None:
            raise ValueError("it is truncated or damaged")
        values = values[..., ::-1] if values.ndim == 3 else values
        if values.dtype == np.uint8:
            return Pixels(Image.fromarray(values), "8 bits", mode)
        return Pixels(values, "16 bits" if values.dtype == np.uint16 else "floating point", mode)
    tags = image.tag_v2 if image.format == "TIFF" else {PHOTOMETRIC: 1}
    bits, photometric = tags.get(BITS, (1,))[0], tags.get(PHOTOMETRIC, WHITE_IS_0)
    image = ImageOps.exif_transpose(image, in_place=file is not None) or image  # a user's own stays as it is
    if mode == "F":
        return Pixels(np.asarray(image), "floating point", mode)
    if mode.startswith("I"):
        values = np.asarray(image)
        if photometric == WHITE_IS_0:
            values = 65535 - values
        return Pixels(values, "12 bits" if bits == 12 else "16 bits", mode)
    if mode == "P":  # by way of RGBA, as Pillow warns of a palette with partial transparency otherwise
        image = image.convert("RGBA")
    return Pixels(_in_mode(image, "L" if mode in ("1", "L") else "RGB"), "8 bits", mode)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image, which Pillow would copy if it is in that mode already."""
    image.load()
    return image if image.mode == mode else image.convert(mode)


def _as_bytes(values: np.ndarray, shown: Range) -> np.ndarray:
    """Map values to uint8, the first of the range `shown` to 0 and the second to 255; NaN becomes 0."""
    if values.dtype in (np.uint8, np.uint16):  # by a table, as there are many pixels of few values
        return _as_bytes(np.arange(np.iinfo(values.dtype).max + 1.0), shown)[values]
    low, high = shown
    levels = np.subtract(values, low, dtype=np.float64)
    levels *= 255
    levels /= high - low
    return np.nan_to_num(levels, copy=False).round().clip(0, 255).astype(np.uint8)
