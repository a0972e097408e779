"""The pictures: a scale for the class, calm normal images, contours that are seen."""

import re

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.report_pages import Sample
from utils import panels
from utils.evaluation_types import ClassMaps
from utils.image_writers import PictureWriter
from utils.panels import GAP, PANEL_WIDTH, TEXT_HEIGHT, contact_sheet, panel, text_line, titled
from utils.pictures import ColourScale, class_scale, draw_contour, overlay, save_png

SIZE = 64


@pytest.fixture
def maps() -> np.ndarray:
    """Four maps of smooth noise about 0.2; the last one has a defect that scores 1 at most."""
    rng = np.random.default_rng(0)
    noise = np.stack([cv2.GaussianBlur(rng.normal(size=(SIZE, SIZE)), (0, 0), 4) for _ in range(4)])
    scores = 0.2 + 0.05 * noise / noise.std()
    scores[3, 20:30, 20:30] = 1
    return scores.astype(np.float32)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def written(monkeypatch) -> list[dict[int, str]]:
    """Texts that are drawn on pictures, each line's by where they begin."""
    lines = []
    monkeypatch.setattr(panels, "text_line", lambda width, texts: lines.append(texts) or text_line(width, texts))
    return lines


def change(image: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each pixel, [H, W]."""
    return np.abs(changed.astype(int) - image.astype(int)).mean(2)


def test_scale_is_of_the_class_not_of_the_image(maps):
    scale = class_scale(maps)
    assert scale.high == 1
    assert scale.low == pytest.approx(0.2, abs=0.05)  # within a standard deviation of the noise
    assert class_scale(maps[:3]).high < 0.5


def test_scale_needs_finite_scores(maps):
    with pytest.raises(ValueError, match="maps"):
        class_scale(maps[:0])
    for value in (np.nan, np.inf, -np.inf):
        maps[1, 2, 3] = value
        with pytest.raises(ValueError, match="finite"):
            class_scale(maps)


def test_same_score_same_colour_in_every_image(maps):
    scale = class_scale(maps)
    ground = np.full((SIZE, SIZE, 3), 128, np.uint8)
    maps[0, 5, 5] = maps[3, 50, 40] = 0.7
    calm, defective = overlay(ground, maps[0], scale), overlay(ground, maps[3], scale)
    np.testing.assert_array_equal(calm[5, 5], defective[50, 40])
    assert change(ground, calm)[5, 5] > 20


def test_normal_image_stays_calm(maps, image):
    scale = class_scale(maps)
    normal, defective = (change(image, overlay(image, maps[0], scale)), change(image, overlay(image, maps[3], scale)))
    assert normal.mean() < 2  # of 255 levels
    assert defective[20:30, 20:30].mean() > 50


def test_colours_begin_at_low_grow_with_the_score_and_end_at_high():
    ground = np.zeros((1, 70, 3), np.uint8)
    blended = overlay(ground, np.linspace(-0.2, 1.2, 70, dtype=np.float32)[None], ColourScale(0, 1))[0].astype(int)
    assert (blended[:10] == 0).all()
    assert (np.diff(blended[10:40, 0]) >= 0).all()
    assert (blended[60:] == blended[60]).all()
    assert blended[60, 0] > 3 * blended[60, 2]  # the last colour is red: RGB, not BGR


def test_constant_class_is_not_coloured(image):
    maps = np.full((3, SIZE, SIZE), 0.4, np.float32)
    scale = class_scale(maps)
    assert scale.low == scale.high
    np.testing.assert_array_equal(overlay(image, maps[0], scale), image)


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_contour_runs_on_the_border_of_the_mask(ground):
    image = np.full((SIZE, SIZE, 3), ground, np.uint8)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:41, 10:31] = True
    drawn = draw_contour(image, mask)
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert (drawn[mask & ~inside] == 255).all()
    assert (drawn[30, [9, 11]] == 0).all()  # the black edge on either side
    assert (drawn[25:36, 15:26] == ground).all()
    assert (drawn[:18] == ground).all()
    assert (image == ground).all()  # the one handed in is left as it was


def test_contour_of_holes_and_none_of_an_empty_mask(image):
    mask = np.zeros((SIZE, SIZE), bool)
    np.testing.assert_array_equal(draw_contour(image, mask), image)
    mask[5:60, 5:60] = True
    mask[20:40, 20:40] = False
    assert (draw_contour(np.zeros_like(image), mask)[30, 19] == 255).all()


def test_panel_shows_image_overlay_and_ground_truth(maps, image):
    scale, mask = class_scale(maps), maps[3] == 1
    shown = panel(image, maps[3], mask, scale)
    assert shown.dtype == np.uint8
    assert shown.shape == (TEXT_HEIGHT + SIZE, 3 * SIZE + 2 * GAP, 3)
    parts = [shown[TEXT_HEIGHT:, left : left + SIZE] for left in (0, SIZE + GAP, 2 * (SIZE + GAP))]
    np.testing.assert_array_equal(parts[0], image)
    np.testing.assert_array_equal(parts[1], overlay(image, maps[3], scale))
    np.testing.assert_array_equal(parts[2], draw_contour(image, mask))


def test_panel_without_mask_and_with_text(maps, image):
    plain = panel(image, maps[0], None, class_scale(maps))
    assert plain.shape == (TEXT_HEIGHT + SIZE, 2 * SIZE + GAP, 3)
    with_title = titled(plain, "score 0.31")
    np.testing.assert_array_equal(with_title[TEXT_HEIGHT:], plain)
    assert with_title[:TEXT_HEIGHT].min() < 100  # dark letters


def test_a_name_that_is_too_long_keeps_its_end(image, written):
    """As it is the number at the end that tells the pictures of a class apart."""
    text = f"truth: anomalous, score 0.500   bolt/{'deeper/' * 20}017.png"
    titled(image, text, width=PANEL_WIDTH)
    assert re.fullmatch(r"truth: anomalous, score 0\.500   \.\.\.[deper/]{10,}017\.png", written.pop()[2])
    titled(image, f"score 0.31 {'x' * 99}", width=100)  # without a name
    assert written.pop()[2].endswith("x" * 99)


def test_sheet_says_what_its_columns_colours_and_captions_mean(maps, image, tmp_path, written):
    """What is written where, for pictures of a known size."""
    samples = [Sample("a.png", "", "bolt", 0), Sample("b.png", "m.png", "bolt", 1)]
    writer = PictureWriter(tmp_path, lambda sample: image)
    known = np.array([True, False])
    writer.class_maps(ClassMaps(samples, maps[2:], maps[2:] == 1, known, None, None, None), [0.25, 0.5])
    writer.finish()
    second, third = 2 + SIZE + GAP, 2 + 2 * (SIZE + GAP)
    assert {2: "picture", second: "map", third: "truth"} in written
    assert {2: "truth: anomalous, score 0.500   b.png"} in written
    next_column = 2 * GAP + PANEL_WIDTH
    assert (written[-1][GAP + second], written[-1][next_column + second]) == ("map", "map")
    assert written[-1][next_column + third] == "truth"  # where a picture has one, though the last has none
    legend = cv2.imread(str(tmp_path / "contact_sheet.png"))[TEXT_HEIGHT // 2]
    coloured = np.flatnonzero(np.ptp(legend.astype(int), axis=1) > 20)  # not the white, nor the invisible end's grey
    assert 100 < len(coloured) < 160
    assert len(np.unique(legend[coloured], axis=0)) > 80


@pytest.mark.parametrize("height, width", [(200, 600), (600, 200), (100, 120), (300, 300), (20, 2000)])
@pytest.mark.parametrize("has_mask", [True, False])
def test_pictures_of_any_shape_have_their_titles_above_them_and_fit_on_the_sheet(
    height, width, has_mask, tmp_path, written
):
    """As those of --tile, which keep their aspect."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    maps, masks = np.random.default_rng(1).random((1, height, width), np.float32), np.zeros((1, height, width), bool)
    writer = PictureWriter(tmp_path, lambda sample: image)
    samples, has_masks = [Sample("a.png", "", "bolt", 1)], np.array([has_mask])
    writer.class_maps(ClassMaps(samples, maps, masks, has_masks, None, None, None), [0.5])
    lefts = [2 + i * (width + GAP) for i in range(2 + has_mask)]
    assert written[0] == dict(zip(lefts, ("picture", "map", "truth"), strict=False))
    writer.finish()
    assert [title for left, title in written[-1].items() if left < GAP + PANEL_WIDTH] == [*written[0].values()]
    small = cv2.imread(str(tmp_path / "contact_sheet.png"))[2 * TEXT_HEIGHT + GAP + TEXT_HEIGHT : -GAP]
    shown = np.flatnonzero((small < 255).any((0, 2)))
    scale = min(1, panels.SHEET_SIDE / height, PANEL_WIDTH / (lefts[-1] - 2 + width))
    assert len(small) == pytest.approx(scale * height, abs=1)
    assert shown[0] == GAP
    assert shown[-1] + 1 == pytest.approx(GAP + scale * (lefts[-1] - 2 + width), abs=1)


def test_contact_sheet_keeps_every_panel():
    shown = [titled(titled(np.full((30, 86, 3), 10 * i, np.uint8), "titles"), "caption") for i in range(1, 6)]
    cell = 2 * TEXT_HEIGHT + GAP + TEXT_HEIGHT + 30
    sheet = contact_sheet(zip(shown, "abcde", strict=True))
    assert sheet.shape == (cell + GAP + TEXT_HEIGHT + 30 + GAP, 4 * PANEL_WIDTH + 5 * GAP, 3)
    for top, left, level in ((cell - 30, GAP, 10), (cell - 30, 2 * GAP + PANEL_WIDTH, 20), (-GAP - 30, GAP, 50)):
        assert (sheet[top:, left:][:30, :86] == level).all()
    assert (sheet[cell:, GAP + PANEL_WIDTH :] == 255).all()


def test_without_any_class_there_is_no_contact_sheet(tmp_path):
    assert PictureWriter(tmp_path, lambda sample: pytest.fail("there is no image")).finish() is None
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_a_stopped_run_that_come_while_the_sheet_is_made_are_left_out(maps, image, tmp_path, monkeypatch):
    samples, opened = [Sample(name, "", "bolt", 0) for name in ("a.png", "b.png")], Image.open
    writer = PictureWriter(tmp_path, lambda sample: image)
    writer.class_maps(ClassMaps(samples, maps[2:], None, np.zeros(2, bool), None, None, None), [0.25, 0.5])

    def come(*arguments: object, **options: object) -> Image.Image:
        writer.captions |= {"c.png": "of the thread that the run did not wait for"}
        return opened(*arguments, **options)

    monkeypatch.setattr(Image, "open", come)
    assert writer.finish()
    assert (tmp_path / "contact_sheet.png").exists()


def test_save_png_is_read_back_and_leaves_nothing_else(tmp_path, image):
    path = tmp_path / "new" / "picture.png"
    save_png(path, image)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    assert list(path.parent.iterdir()) == [path]
