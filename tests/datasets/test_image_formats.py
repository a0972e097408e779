"""Images of every kind of TIFF, BMP and PNG are read rightly, or refused by name."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from datasets.images import load_mask, load_rgb
from tests.datasets.bmp_files import bmp_files
from tests.datasets.image_files import ImageFile
from tests.datasets.png_files import png_files
from tests.datasets.tiff_files import tiff_files
from utils.errors import UserError


def verdict(file: ImageFile, path: Path) -> str:
    """What becomes of a file that lies at `path`: it is "right", "refused" or "wrong"."""
    try:
        levels = np.asarray(load_rgb(path))
    except UserError as error:
        return "refused" if str(path) in str(error) and "\n" not in str(error) else "wrong"
    shown = file.shown if file.shown.ndim == 3 else file.shown[..., None]
    if levels.shape[:2] != shown.shape[:2]:
        return "wrong"
    return "right" if np.abs(levels - 255 * np.clip(shown, 0, 1)).max() <= file.tolerance else "wrong"


@pytest.mark.parametrize("files, least", [(tiff_files, 180), (bmp_files, 230), (png_files, 400)])
def test_every_kind_of_file_is_read_rightly_or_refused_by_name(tmp_path, files, least):
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for file in files():
        path = tmp_path / f"image{file.suffix}"
        path.write_bytes(file.content)
        counts[file.kind][verdict(file, path)] += 1
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
            assert verdict(file, path) == "refused"
            continue
        shown = 255 * (file.shown.max(axis=2) if file.shown.ndim == 3 else file.shown)
        clear = np.abs(shown - 127) > file.tolerance
        np.testing.assert_array_equal(mask[clear], (shown > 127)[clear], err_msg=f"{file.kind}, {file.how}")
