"""Line scans: what is read of them, what is refused, and how much memory reading takes."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.images import load_mask, load_rgb, size_and_orientation, value_range
from datasets.intensity import find_range
from datasets.transforms import as_array
from utils.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
SIDES = (20_000, 9_500)  # more pixels than Pillow opens


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new("1", SIDES).save(path)
    return path


def test_a_scan_beyond_pillows_limit_is_read_and_nothing_is_warned_of(scan):
    command = "import sys; from datasets.images import load_mask; print(load_mask(sys.argv[1]).shape)"
    done = subprocess.run(
        [sys.executable, "-c", command, str(scan)], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{SIDES[::-1]}\n", "")
    assert size_and_orientation(scan) == (SIDES, 1)


@pytest.mark.parametrize("read", [load_rgb, load_mask, value_range])
def test_more_pixels_than_allowed_are_refused_in_one_sentence(scan, read):
    said = r"^cannot read the image .*scan\.png: it has 20000 x 9500 pixels, more than --max_pixels 1000000$"
    with pytest.raises(UserError, match=said):
        read(scan, max_pixels=1_000_000)


def test_as_many_pixels_as_allowed_are_read(tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    assert load_rgb(tmp_path / "a.png", max_pixels=600).size == (30, 20)
    with pytest.raises(UserError, match="more than --max_pixels 599"):
        load_rgb(tmp_path / "a.png", max_pixels=599)


def test_the_range_is_found_within_the_same_limit(tmp_path):
    Image.fromarray(np.full((20, 30), 4000, np.uint16)).save(tmp_path / "a.png")
    assert find_range("auto", [tmp_path / "a.png"], 600)[0] == (0.0, 4095.0)
    assert find_range("auto", [tmp_path / "a.png"], 599)[0] is None


def test_strips_of_the_array_are_the_image(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 11, 3), np.uint8)
    for strip in (1, 40, 10_000):
        monkeypatch.setattr("datasets.transforms.STRIP", strip)
        np.testing.assert_array_equal(as_array(Image.fromarray(pixels)), pixels)


LAYOUTS = {
    "strips": {"rowsperstrip": 64},
    "compressed strips": {"rowsperstrip": 64, "compression": "zlib", "compressionargs": {"level": 1}},
    "tiles": {"tile": (256, 256)},
    "compressed tiles": {"tile": (256, 256), "compression": "zlib", "compressionargs": {"level": 1}},
}
MEASURE = r"""
import re, sys
from pathlib import Path
from datasets.images import load_rgb
def peak():  # of this program alone, where getrusage counts what started it
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
load_rgb(sys.argv[1])
before = peak()
image = load_rgb(sys.argv[2])
print((peak() - before) / (4 * image.width * image.height))  # Pillow has four bytes a pixel
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory was taken")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tiff_is_held_once_while_it_is_read(layout, tmp_path):
    pattern = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    pixels = np.tile(pattern, (100, 100, 1))  # of which a compressed file, which is mapped into memory, is small
    for name, part in (("small", pixels[:64, :64]), ("large", pixels)):
        tifffile.imwrite(tmp_path / f"{name}.tif", part, photometric="rgb", **LAYOUTS[layout])
    files = [str(tmp_path / f"{name}.tif") for name in ("small", "large")]
    done = subprocess.run([sys.executable, "-c", MEASURE, *files], cwd=PROJECT, capture_output=True, check=True)
    assert 0.5 < float(done.stdout) < 1.5
    np.testing.assert_array_equal(as_array(load_rgb(files[1])), pixels)
