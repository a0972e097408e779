"""The small pictures of a page."""

import io

import numpy as np
import pytest
from PIL import Image

from page.thumbnails import OUTLINE_SIDE, fitted_jpeg, heat_map, jpeg, outline
from utils.pictures import ColourScale, overlay


def test_jpeg_is_as_wide_as_wanted_and_shows_the_picture():
    ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    picture = np.stack([ramp, ramp, 255 - ramp], axis=-1)
    shown = np.asarray(Image.open(io.BytesIO(jpeg(picture, 100, 1 << 20))))
    assert shown.shape == (100, 100, 3)
    np.testing.assert_allclose(shown, picture[::2, ::2], atol=12)
    assert Image.open(io.BytesIO(jpeg(picture, 500, 1 << 20))).size == (200, 200)


MANY = 1 << 20  # bytes, more than any picture here takes


@pytest.mark.parametrize("limit", [2000, 8000])
def test_jpeg_of_noise_is_made_smaller_until_it_fits(limit):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    content = jpeg(noise, 300, limit)
    assert limit / 4 < len(content) <= limit


def test_heat_map_over_the_image_is_the_overlay():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    scores = rng.normal(0, 1, (40, 60)).astype(np.float32)
    scale = ColourScale(0.0, 2.0)
    heat = Image.open(io.BytesIO(heat_map(scores, scale, MANY)))
    laid_over = Image.alpha_composite(Image.fromarray(image).convert("RGBA"), heat.convert("RGBA"))
    np.testing.assert_allclose(np.asarray(laid_over.convert("RGB")).astype(int), overlay(image, scores, scale), atol=6)
    assert heat.mode == "P"


def test_heat_map_on_an_empty_scale_is_invisible():
    content = heat_map(np.ones((4, 4), np.float32), ColourScale(1.0, 1.0), MANY)
    heat = Image.open(io.BytesIO(content)).convert("RGBA")
    assert np.asarray(heat)[..., 3].max() == 0


def test_outline_runs_through_the_outermost_pixels():
    mask = np.zeros((64, 64), bool)
    mask[8:16, 16:33] = True
    step = OUTLINE_SIDE // 64
    corners = {(x * step + step // 2, y * step + step // 2) for x in (16, 32) for y in (8, 15)}
    path = outline(mask, MANY)
    assert path.startswith("M")
    assert path.endswith("Z")
    assert {tuple(map(int, point.split())) for point in path[1:-1].split("L")} == corners


def test_outline_has_a_part_for_each_region_and_hole():
    mask = np.zeros((64, 64), bool)
    assert outline(mask, MANY) == ""
    mask[10:40, 10:40] = True
    mask[20:30, 20:30] = False
    mask[60, 60] = True
    assert outline(mask, MANY).count("M") == outline(mask, MANY).count("Z") == 3


@pytest.mark.parametrize("limit", [1000, 4000])
@pytest.mark.parametrize("shape", [(96, 96), (40, 900), (900, 40)])
def test_a_map_of_noise_is_made_smaller_until_it_fits(shape, limit):
    noise = np.random.default_rng(0).random(shape, np.float32)
    content = heat_map(noise, ColourScale(0.0, 1.0), limit)
    assert limit / 8 < len(content) <= limit
    height, width = np.asarray(Image.open(io.BytesIO(content))).shape
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.3)


@pytest.mark.parametrize("density", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("height, turned", [(300, False), (30, False), (30, True)])
def test_the_outline_of_speckles_is_coarser_until_it_fits_and_loses_no_region(height, turned, density):
    mask = np.random.default_rng(0).random((height, 900)) < density
    mask[:, 450:] = False
    mask[-1, -1] = True
    path = outline(mask.T if turned else mask, 1000)
    assert 0 < len(path) <= 1000
    points = np.array([point.split() for part in path[1:-1].split("ZM") for point in part.split("L")], float)
    along = points[:, 1 if turned else 0] / OUTLINE_SIDE
    assert (along > 0.85).any()  # the single pixel
    assert ((along < 0.6) | (along > 0.85)).all()


def test_a_picture_made_for_a_smaller_page_is_made_smaller():
    noise = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    content = jpeg(noise, 200, MANY)
    assert fitted_jpeg(content, 150, MANY) == (content, 2)
    smaller, aspect = fitted_jpeg(content, 150, 5000)
    assert (len(smaller) <= 5000, aspect) == (True, 2)
