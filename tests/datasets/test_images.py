"""Images and masks beyond the matrix of `test_image_formats`, and files that are none."""

import errno
import os
import re
import socket
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.image_files import IMAGE_SUFFIXES
from datasets.images import load_mask, load_rgb, mask_files
from tests.datasets.png_files import chunk
from utils.errors import UserError

COLOURS = np.array([[[10, 20, 30], [200, 100, 50]]], np.uint8)  # [1, 2, 3]


def saved(folder, image, name="image.png", **options):
    path = folder / name
    image.save(path, **options)
    return path


def pixels(path):
    image = load_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128])])
def test_a_palette_is_looked_up(tmp_path, transparency):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    options = {} if transparency is None else {"transparency": transparency}
    path = saved(tmp_path, image, **options)
    assert Image.open(path).mode == "P"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(path) == COLOURS.tolist()


@pytest.mark.parametrize(("dtype", "name"), [("<u2", "a.png"), ("<u2", "a.tif"), (">u2", "a.tif"), ("<i4", "a.tif")])
def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path, dtype, name):
    image = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype))
    path = saved(tmp_path, image, name)
    assert pixels(path) == [[[0] * 3, [1] * 3, [128] * 3, [255] * 3]]


def test_floating_point_is_0_to_255(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.array([[0.6, 254.4, 300, -5, np.nan]], np.float32)), "a.tif")
    assert [pixel[0] for pixel in pixels(path)[0]] == [1, 254, 255, 0, 0]


def test_the_first_of_several_pages_is_read(tmp_path):
    pages = [Image.new("RGB", (1, 1), (n, n, n)) for n in (5, 6)]
    path = saved(tmp_path, pages[0], "a.tif", save_all=True, append_images=pages[1:])
    assert pixels(path) == [[[5, 5, 5]]]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.jpg"])
def test_exif_orientation_is_applied_to_image_and_mask(tmp_path, name):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:8, :8] = 255  # the top left corner; upright (a quarter turn clockwise) it is the top right
    options = {"exif": turned(6)} | ({"lossless": True} if "webp" in name else {})
    path = saved(tmp_path, Image.fromarray(array), name, **options)
    expected = np.zeros((32, 16), bool)
    expected[:8, 8:] = True
    image = load_rgb(path)
    assert image.size == (16, 32)
    np.testing.assert_array_equal(np.asarray(image)[..., 0] > 127, expected)
    np.testing.assert_array_equal(load_mask(path, threshold=127), expected)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[0, 1, 127, 128, 255]], np.uint8),
        np.array([[0, 1, 127, 128, 255]], np.uint8)[..., None].repeat(3, axis=2),
        np.array([[[0, 0, 0, 255], [0, 0, 1, 0], [9, 127, 3, 0], [128, 0, 0, 255], [0, 255, 0, 0]]], np.uint8),
        np.array([[[0, 255], [1, 0], [127, 9], [128, 0], [255, 255]]], np.uint8),
    ],
    ids=["grey", "rgb", "rgba", "grey and alpha"],
)
def test_a_mask_is_where_a_colour_channel_exceeds_the_threshold(tmp_path, array):
    path = saved(tmp_path, Image.fromarray(array))
    assert load_mask(path).tolist() == [[False, True, True, True, True]]
    assert load_mask(path, threshold=127).tolist() == [[False, False, False, True, True]]
    assert load_mask(path).dtype == bool


def test_masks_of_16_bits_may_hold_class_ids(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.array([[0, 1, 127 * 257, 127 * 257 + 1]], np.uint16)))
    assert load_mask(path).tolist() == [[False, True, True, True]]
    assert load_mask(path, threshold=127).tolist() == [[False, False, False, True]]


def test_masks_of_16_bits_in_colour_may_hold_class_ids(tmp_path):
    values = np.zeros((1, 3, 3), np.uint16)
    values[0, 1, 2], values[0, 2, 0] = 1, 300
    for name in ("a.png", "a.tif"):
        assert cv2.imwrite(str(tmp_path / name), values)
        assert load_mask(tmp_path / name).tolist() == [[False, True, True]]


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "zstd"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_colours_in_a_compressed_tiff(tmp_path, compression, orientation):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:8, :8] = (250, 20, 20)
    options = {"compression": compression, "tiffinfo": {274: orientation}}
    path = saved(tmp_path, Image.fromarray(array), "a.tif", **options)
    shown = np.rot90(array, {1: 0, 3: 2, 6: 3}[orientation])
    np.testing.assert_allclose(np.asarray(load_rgb(path), int), shown, atol=3 if compression == "jpeg" else 0)


@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_fax_in_a_tiff(tmp_path, compression):
    array = np.zeros((16, 32), bool)
    array[3:9, 5:20] = True
    path = saved(tmp_path, Image.fromarray(array), "a.tif", compression=compression)
    np.testing.assert_array_equal(load_mask(path, threshold=127), array)


def test_masks_of_one_bit_and_of_floats(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.array([[False, True]])))
    assert load_mask(path, threshold=127).tolist() == [[False, True]]
    path = saved(tmp_path, Image.fromarray(np.array([[0, 1, np.nan, 200]], np.float32)), "a.tif")
    assert load_mask(path).tolist() == [[False, True, False, True]]


@pytest.mark.parametrize(
    ("palette", "expected"), [([0, 0, 0, 128, 0, 0], [[False, True]]), ([255, 255, 255, 0, 0, 0], [[True, False]])]
)
def test_a_mask_with_a_palette_goes_by_its_colours(tmp_path, palette, expected):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette(palette)
    path = saved(tmp_path, image)
    assert Image.open(path).mode == "P"
    assert load_mask(path, threshold=100).tolist() == expected


def bomb():
    """A PNG of 60000 x 60000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(folder, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return saved(folder, Image.fromarray(noise), f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("load", [load_rgb, load_mask])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an image"),
        (b"hello", "not an image"),
        (b"\x89PNG\r\n\x1a\n", ""),
        (bomb(), "it has 60000 x 60000 pixels, more"),
    ],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, load, content, said):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(UserError, match=f"bad.png.*{said}"):
        load(tmp_path / "bad.png")


@pytest.mark.parametrize("load", [load_rgb, load_mask])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused_by_name(tmp_path, load, suffix, part):
    whole = encoded(tmp_path, suffix)
    (tmp_path / f"bad{suffix}").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(UserError, match=rf"bad\{suffix}"):
        load(tmp_path / f"bad{suffix}")


@pytest.mark.parametrize("load", [load_rgb, load_mask])
@pytest.mark.parametrize("mode", ["two greys", "deep colours"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_that_opencv_reads_are_refused_by_name(tmp_path, load, mode, part):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    if mode == "two greys":
        Image.fromarray(noise[..., 0] > 9999).convert("L").save(tmp_path / "whole.bmp")
    names = ["whole.bmp"] if mode == "two greys" else ["whole.png", "whole.tif"]
    for name in names:
        if mode == "deep colours":
            assert cv2.imwrite(str(tmp_path / name), noise)
        content = (tmp_path / name).read_bytes()
        path = tmp_path / f"bad{Path(name).suffix}"
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(UserError, match=re.escape(str(path))):
            load(path)


def test_no_other_format_is_opened_whatever_a_file_is_called(tmp_path, monkeypatch):
    """Pillow would have Ghostscript run a PostScript file, and the file may be anybody's."""
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    Image.new("L", (2, 2)).save(tmp_path / "b.png", format="GIF")
    for name in ("a.png", "b.png"):
        with pytest.raises(UserError, match=f"{name} is not an image, or of a kind"):
            load_rgb(tmp_path / name)
    assert not started.exists()


@pytest.mark.parametrize("load", [load_rgb, load_mask])
def test_what_would_never_end_is_not_opened(tmp_path, monkeypatch, load):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # as a socket's name may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
    for name in ("pipe.png", "device.png", "socket.png"):
        with pytest.raises(UserError, match=f"{name}: Not a regular file"):
            load(tmp_path / name)


def test_missing_files_and_folders_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"there is no image .*absent\.png"):
        load_rgb(tmp_path / "absent.png")
    with pytest.raises(UserError, match=f"cannot read the image {tmp_path}: Is a directory"):
        load_mask(tmp_path)


def test_masks_that_cannot_be_looked_at_are_refused_by_name(tmp_path, monkeypatch):
    """As root lists every folder, the system's answer to that is made up."""
    with pytest.raises(UserError, match=r"cannot read the image .*nnn\.png: File name too long"):
        load_mask(tmp_path / f"{'n' * 300}.png")

    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=f"cannot read the image {tmp_path}: Permission denied"):
        mask_files(tmp_path)


def test_real_images_of_all_modes(real_data):
    paths = [
        path
        for path in real_data.rglob("*")
        if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".tif"} and "brainmri" in path.parts
    ]
    modes = set()
    for path in paths:
        with Image.open(path) as image:
            modes.add(image.mode)
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(np.asarray(load_rgb(path)), expected)
    assert modes == {"RGB", "RGBA", "L", "P"}


def test_real_jpeg_masks_need_their_threshold(real_data):
    folder = real_data / "kvasir_seg" / "masks"
    for path in folder.iterdir():
        share = [load_mask(path, threshold).mean() for threshold in (0, 127, 200)]
        assert share[0] > share[1]  # compression leaves traces near black
        assert share[1] == pytest.approx(share[2], rel=0.02)


@pytest.mark.skipif(".heic" not in IMAGE_SUFFIXES, reason="pillow-heif is not installed")
def test_heif_is_turned_by_its_own_box_and_not_by_exif_as_well(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()  # which writes such files, too
    image = Image.fromarray(np.repeat(np.repeat(COLOURS, 32, axis=0), 32, axis=1))
    path = saved(tmp_path, image, "a.heic", quality=-1, chroma=444, exif=turned(3))
    read = np.asarray(load_rgb(path)).astype(int)
    assert read.shape == (32, 64, 3)
    assert abs(read[16, 16] - COLOURS[0, 0]).max() <= 3
    assert abs(read[16, 48] - COLOURS[0, 1]).max() <= 3


FAKE_HEIF = """
from PIL import Image, ImageFile

class HeifFile(ImageFile.ImageFile):
    format = "HEIF"

    def _open(self):
        self._size, self._mode = (2, 2), "RGB"
        self.tile = [("raw", (0, 0, 2, 2), 4, ("RGB", 0, 1))]

def register_heif_opener():
    Image.register_open("HEIF", HeifFile, lambda prefix: prefix.startswith(b"HEIF"))
"""
READ_ALL = """
from pathlib import Path
from datasets.images import load_rgb
for name in ("broken.png", "image.heic", "broken.heic", "broken.png"):
    try:
        print(load_rgb(name).size)
    except Exception as error:
        print(error)
"""


def test_files_that_are_no_images_are_named_whether_or_not_heif_was_read_before(tmp_path):
    (tmp_path / "pillow_heif.py").write_text(FAKE_HEIF)
    (tmp_path / "image.heic").write_bytes(b"HEIF" + bytes(12))
    for name in ("broken.png", "broken.heic"):
        (tmp_path / name).write_bytes(b"broken")
    paths = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    command, where = [sys.executable, "-c", READ_ALL], {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": paths}}
    done = subprocess.run(command, **where, capture_output=True, text=True, check=True)
    no_image = "{} is not an image, or of a kind that cannot be read"
    broken = [no_image.format(name) for name in ("broken.png", "broken.heic")]
    assert done.stdout.splitlines() == [broken[0], "(2, 2)", broken[1], broken[0]]
