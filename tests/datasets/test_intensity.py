"""Which values are black and white, found from images, given, or warned of."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.images import load_rgb
from datasets.intensity import filled, find_range
from engine.options import ReadingOptions
from utils.arguments import parse
from utils.errors import UserError


def images(folder: Path, top: float, dtype: type, count: int = 40) -> list[Path]:
    """Images of noise, of which one reaches `top`; floats as TIFF, integers as PNG."""
    paths = []
    for number in range(count):
        values = np.random.default_rng(number).random((6, 8)) * top * 0.9
        values[0, 0] = top * (1 if number == count // 2 else 0.9)
        path = folder / f"{number}.{'tif' if dtype == np.float32 else 'png'}"
        Image.fromarray(values.astype(dtype)).save(path)
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0, 255, (0, 255)),
        (3, 900, (0, 1023)),
        (0, 4095, (0, 4095)),
        (0, 4096, (0, 16383)),
        (0, 65535, (0, 65535)),
        (0.1, 0.99, (0, 1)),
        (0, 70000, (0, 70000)),
        (-0.5, 0.5, (-0.5, 0.5)),
        (-3, -3, (-3, -2)),
    ],
)
def test_the_range_is_the_usual_one_that_values_fill(low, high, expected):
    assert filled(low, high) == expected


@pytest.mark.parametrize(
    "top, dtype, white, said",
    [
        (1000, np.uint16, 1023, "images of 16 bits have values from"),
        (4000, np.uint16, 4095, "--intensity=0,4095"),
        (1.0, np.float32, 1, "images of floating point have values from"),
        (5000.0, np.float32, 16383, "and 0 to 255 are shown as black to white"),  # and all above is white
    ],
)
def test_a_sliver_is_warned_of_and_read_if_that_is_wanted(tmp_path, top, dtype, white, said):
    paths = images(tmp_path, top, dtype)
    none, (sentence,) = find_range("full", paths)
    assert none is None
    assert said in sentence
    assert "give --intensity auto, or --intensity=" in sentence
    one_by_one = find_range("full", paths, at_once=False)[1][0]
    assert "give --intensity=" in one_by_one and "auto" not in one_by_one
    found, nothing = find_range("auto", paths)
    assert (found, nothing) == ((0, white), [])
    assert np.asarray(load_rgb(paths[20], found)).max() == round(top * 255 / white)


@pytest.mark.parametrize("top, dtype", [(255, np.uint8), (40, np.uint8), (60000, np.uint16), (200.0, np.float32)])
def test_images_that_use_their_range_are_not_warned_of(tmp_path, top, dtype):
    paths = images(tmp_path, top, dtype)
    assert find_range("full", paths) == find_range("auto", paths) == (None, [])


def test_auto_looks_at_every_image_and_a_warning_at_some(tmp_path):
    paths = images(tmp_path, 900, np.uint16, 100)
    cv2.imwrite(str(paths[41]), np.full((6, 8), 4000, np.uint16))
    assert find_range("auto", paths)[0] == (0, 4095)
    assert "--intensity=0,1023" in find_range("full", paths[:41])[1][0]


def test_images_of_several_depths_are_not_read_alike(tmp_path):
    paths = [*images(tmp_path, 4000, np.uint16, 3), tmp_path / "b.png"]
    cv2.imwrite(str(paths[-1]), np.full((6, 8), 200, np.uint8))
    for intensity in ("auto", "0,200"):
        with pytest.raises(
            UserError, match=f"--intensity {intensity}: there are images of 16 bits and of 8 bits: give full"
        ):
            find_range(intensity, paths)
    assert len(find_range("full", paths)[1]) == 1


def test_what_cannot_be_read_is_passed_over(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [tmp_path / "bad.png", tmp_path / "gone.png", *images(tmp_path, 4000, np.uint16, 3)]
    assert find_range("auto", paths) == ((0, 4095), [])
    assert find_range("auto", paths[:2]) == find_range("full", paths[:2]) == (None, [])


@pytest.mark.parametrize("dtype, white", [(np.uint8, 255), (np.uint16, 65535)])
def test_values_that_a_depth_does_not_have_are_refused(tmp_path, dtype, white):
    paths = images(tmp_path, 200, dtype)
    assert find_range(f"0,{white}", paths) == ((0, white), [])
    with pytest.raises(UserError, match=f"--intensity 0,{white + 1}: images of .* bits have no values above {white}"):
        find_range(f"0,{white + 1}", paths)


@pytest.mark.parametrize(
    "top, white, is_said", [(1, 255, False), (1, 300, True), (200, 4095, True), (3000, 4095, False)]
)
def test_values_that_floating_point_does_not_reach_are_warned_of(tmp_path, top, white, is_said):
    found, said = find_range(f"0,{white}", images(tmp_path, top, np.float32))
    assert found == (0, white)
    assert [f"and 0 to {white} are shown as black to white: give --intensity auto" in one for one in said] == [
        True
    ] * is_said


def test_values_that_are_given_are_taken_for_any_depth(tmp_path):
    Image.fromarray(np.array([[0, 10, 35, 60, 255]], np.uint8)).save(tmp_path / "a.png")
    found, _ = find_range("10,60", [tmp_path / "a.png"])
    assert np.asarray(load_rgb(tmp_path / "a.png", found))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("text", ["auto", "full", "0,4095", "-1,1", "0.5,2e3"])
def test_the_option_takes_a_word_or_two_numbers(text):
    assert parse(ReadingOptions, None, [f"--intensity={text}"]).intensity == text


@pytest.mark.parametrize("text", ["", "most", "5", "4095,0", "1,1", "0,inf", "nan,1", "0,1,2", "a,b"])
def test_the_option_takes_nothing_else(text, capsys):
    with pytest.raises(SystemExit):
        parse(ReadingOptions, None, [f"--intensity={text}"])
    assert "auto, full, or two numbers LO,HI" in capsys.readouterr().err
