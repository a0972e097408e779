"""Pictures of Pillow and arrays: what is read of them is what is read of their files."""

import contextlib
import io
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.images import load_rgb, value_range
from datasets.intensity import find_range
from tests.datasets.test_images import COLOURS, saved, turned
from utils.errors import UserError

RAMP = np.linspace(0, 65535, 12).reshape(3, 4)


def in_16_bits(folder):
    values = np.random.default_rng(0).integers(0, 65536, (3, 4, 3), dtype=np.uint16)
    assert cv2.imwrite(str(folder / "a.png"), values)
    return folder / "a.png"


def palette(folder):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    return saved(folder, image, transparency=bytes([0, 128]))


def corner():
    array = np.zeros((16, 32, 3), np.uint8)
    array[:8, :8] = 255
    return Image.fromarray(array)


FILES = {
    "rgb": lambda folder: saved(folder, Image.fromarray(COLOURS)),
    "alpha": lambda folder: saved(folder, Image.new("RGBA", (2, 1), (10, 20, 30, 0))),
    "grey and alpha": lambda folder: saved(folder, Image.new("LA", (2, 1), (77, 0))),
    "palette": palette,
    "one bit": lambda folder: saved(folder, Image.fromarray(np.array([[False, True]]))),
    "cmyk": lambda folder: saved(folder, Image.new("CMYK", (1, 1), (255, 0, 0, 0)), "a.tif"),
    "turned png": lambda folder: saved(folder, corner(), exif=turned(6)),
    "turned tiff": lambda folder: saved(folder, corner(), "a.tif", tiffinfo={274: 8}),
    "turned webp": lambda folder: saved(folder, corner(), "a.webp", exif=turned(3), lossless=True),
    "16 bits": lambda folder: saved(folder, Image.fromarray(RAMP.astype(np.uint16))),
    "white is 0": lambda folder: saved(folder, Image.fromarray(RAMP.astype(np.uint16)), "a.tif", tiffinfo={262: 0}),
    "32 bits": lambda folder: saved(folder, Image.fromarray(RAMP.astype(np.int32)), "a.tif"),
    "floating point": lambda folder: saved(folder, Image.fromarray((RAMP / 200).astype(np.float32)), "a.tif"),
    "colours in 16 bits": in_16_bits,
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("intensity", [None, (0, 4095)])
def test_an_opened_image_is_read_as_its_file(tmp_path, kind, intensity):
    path = FILES[kind](tmp_path)
    expected = np.asarray(load_rgb(path, intensity))
    with warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("error")
        np.testing.assert_array_equal(np.asarray(load_rgb(image, intensity)), expected)
        assert value_range(image) == value_range(path)
        again = load_rgb(Image.open(io.BytesIO(path.read_bytes())), intensity)
    np.testing.assert_array_equal(np.asarray(again), expected)


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "colours in 16 bits"])
def test_a_loaded_image_is_read_as_its_file_and_stays_as_it_is(tmp_path, kind):
    path = FILES[kind](tmp_path)
    with Image.open(path) as image:
        image.load()
        before = image.size, image.mode, image.tobytes(), image.getexif().get(274)
        np.testing.assert_array_equal(np.asarray(load_rgb(image)), np.asarray(load_rgb(path)))
        load_rgb(image).thumbnail((1, 1))
        assert (image.size, image.mode, image.tobytes(), image.getexif().get(274)) == before


def test_what_was_changed_in_an_opened_image_is_not_read_from_its_file_again(tmp_path):
    with Image.open(saved(tmp_path, Image.fromarray(COLOURS))) as image:
        image.paste((1, 2, 3), (0, 0, 1, 1))
        assert np.asarray(load_rgb(image)).tolist() == [[[1, 2, 3], COLOURS[0, 1].tolist()]]


def test_the_page_that_was_chosen_is_read(tmp_path):
    pages = [Image.new("RGB", (1, 1), (n, n, n)) for n in (5, 6)]
    with Image.open(saved(tmp_path, pages[0], "a.tif", save_all=True, append_images=pages[1:])) as image:
        image.seek(1)
        assert np.asarray(load_rgb(image)).tolist() == [[[6, 6, 6]]]


@pytest.mark.parametrize(
    "values, expected",
    [
        (COLOURS, COLOURS),
        (np.dstack([COLOURS, COLOURS[..., :1]]), COLOURS),
        (COLOURS[..., :1], COLOURS[..., [0, 0, 0]]),
        (COLOURS[..., :2], COLOURS[..., [0, 0, 0]]),
        (COLOURS[:, ::-1], COLOURS[:, ::-1]),
        (COLOURS.astype(np.uint16) * 257, COLOURS),
        (COLOURS.astype(">u2") * 257, COLOURS),
        (COLOURS[..., 0].astype(np.int32) * 257, COLOURS[..., [0, 0, 0]]),
        (COLOURS.astype(np.float64) + 0.4, COLOURS),
        (np.array([[-3, 300, np.nan]], np.float16), np.array([[[0] * 3, [255] * 3, [0] * 3]])),
        (np.array([[False, True]]), np.array([[[0] * 3, [255] * 3]])),
    ],
    ids=lambda value: f"{value.dtype}{list(value.shape)}",
)
def test_an_array_is_read_as_the_file_that_would_hold_it(values, expected):
    before = values.copy()
    image = load_rgb(values)
    image.paste((9, 9, 9), (0, 0, 1, 1))
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(np.asarray(load_rgb(values)), expected)


@pytest.mark.parametrize(
    "values", [np.arange(6.0).reshape(2, 3) / 6, np.arange(6, dtype=np.uint16).reshape(2, 3) * 700]
)
def test_arrays_that_use_a_sliver_of_their_range_are_warned_of(values):
    shown, said = find_range("full", [values])
    assert shown is None
    assert len(said) == 1
    assert find_range("full", [COLOURS])[1] == []
    assert find_range("auto", [values])[0][1] in (1, 4095)


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros((3, 70, 90), np.uint8), r"\[height, width\] or \[height, width, 1 to 4\], not \[3, 70, 90\]"),
        (np.zeros((2, 7, 9, 3), np.uint8), r"not \[2, 7, 9, 3\]"),
        (np.zeros((0, 9, 3), np.uint8), r"not \[0, 9, 3\]"),
        (np.zeros((7, 9, 0), np.uint8), r"not \[7, 9, 0\]"),
        (np.zeros(7, np.uint8), r"not \[7\]"),
        (np.zeros((7, 9), np.int64), "not of int64"),
        (np.array([["a"]]), "not of <U1"),
        (np.array([[None]]), "not of object"),
    ],
)
def test_an_array_that_is_no_image_is_refused_in_one_sentence(values, message):
    for read in (load_rgb, value_range):
        with pytest.raises(UserError, match=message):
            read(values)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    path = saved(tmp_path, Image.effect_noise((64, 64), 50), "a.jpg")
    path.write_bytes(path.read_bytes()[:-400])
    with (
        contextlib.closing(Image.open(path)) as image,
        pytest.raises(UserError, match=rf"cannot read the image {path}"),
    ):
        load_rgb(image)
    with Image.open(saved(tmp_path, corner())) as closed:
        pass
    with pytest.raises(UserError, match=r"cannot read the image .*image\.png"):
        load_rgb(closed)
    with pytest.raises(UserError, match="cannot read the image in memory"):
        load_rgb(Image.open(io.BytesIO(path.read_bytes())))
