"""Images of every kind of TIFF, BMP and PNG are read rightly, or refused by name.

`python -m tests.datasets.test_image_formats` counts what becomes of the whole matrix here, and by Pillow and OpenCV.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from tabulate import tabulate

from datasets.images import load_mask, load_rgb
from tests.datasets.bmp_files import bmp_files
from tests.datasets.image_files import ImageFile
from tests.datasets.png_files import png_files
from tests.datasets.tiff_files import tiff_files
from utils.errors import UserError

Reader = Callable[[Path], np.ndarray]  # to levels from 0 to 255, [H, W] or RGB [H, W, 3]


def here(path: Path) -> np.ndarray:
    return np.asarray(load_rgb(path))


def by_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode[0] in "IF":
            return np.asarray(image) / (257 if image.mode[0] == "I" else 1)
        return np.asarray(image.convert("RGB"))


def by_opencv(path: Path) -> np.ndarray:
    values = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    return values[..., ::-1] / (257 if values.dtype == np.uint16 else 1) if values.ndim == 3 else values


def verdict(read: Reader, file: ImageFile, path: Path) -> str:
    """What becomes of a file that lies at `path`: it is "right", "refused" or "wrong"."""
    try:
        levels = read(path)
    except UserError as error:
        return "refused" if str(path) in str(error) and "\n" not in str(error) else "wrong"
    except Exception:  # of a library alone
        return "refused"
    shown, levels = (values if values.ndim == 3 else values[..., None] for values in (file.shown, levels))
    if levels.shape[:2] != shown.shape[:2]:
        return "wrong"
    return "right" if np.abs(np.rint(levels) - 255 * np.clip(shown, 0, 1)).max() <= file.tolerance else "wrong"


def count(files: Iterable[ImageFile], read: Reader, folder: Path) -> Mapping[str, Counter[str]]:
    """How many files of each kind are right, refused and wrong."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for file in files:
        path = folder / f"image{file.suffix}"
        path.write_bytes(file.content)
        counts[file.kind][verdict(read, file, path)] += 1
    return counts


@pytest.mark.parametrize("files, least", [(tiff_files, 180), (bmp_files, 230), (png_files, 400)])
def test_every_kind_of_file_is_read_rightly_or_refused_by_name(tmp_path, files, least):
    counts = count(files(), here, tmp_path)
    assert {kind: found for kind, found in counts.items() if found["wrong"]} == {}
    assert sum(found["right"] for found in counts.values()) >= least
    never = {kind for kind, found in counts.items() if not found["right"]}
    assert not never & {
        *(f"TIFF {colour} {bits} bits" for colour in ("grey", "RGB") for bits in (8, 16)),
        *(f"TIFF grey {bits} bits, 0 is white" for bits in (1, 8, 16)),
        *("TIFF grey 12 bits", "TIFF grey floating point 32 bits", "TIFF palette 8 bits", "TIFF RGB 16 bits and alpha"),
    }


@pytest.mark.parametrize("files", [tiff_files, bmp_files, png_files])
def test_masks_are_of_the_same_pixels(tmp_path, files):
    for file in files():
        path = tmp_path / f"mask{file.suffix}"
        path.write_bytes(file.content)
        try:
            mask = load_mask(path, threshold=127)
        except UserError:
            assert verdict(here, file, path) == "refused"
            continue
        shown = 255 * (file.shown.max(axis=2) if file.shown.ndim == 3 else file.shown)
        clear = np.abs(shown - 127) > file.tolerance
        np.testing.assert_array_equal(mask[clear], (shown > 127)[clear], err_msg=f"{file.kind}, {file.how}")


if __name__ == "__main__":
    readers = {"here": here, "Pillow": by_pillow, "OpenCV": by_opencv}
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: count(chain(tiff_files(whole=True), bmp_files(), png_files()), read, Path(folder))
            for name, read in readers.items()
        }
    words = ("right", "refused", "wrong")
    rows = [[kind, *(found[name][kind][word] for name in readers for word in words)] for kind in found["here"]]
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    print(tabulate(rows, ["kind", *(f"{name}: {word}" for name in readers for word in words)]))
