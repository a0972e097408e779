"""The figure of six products."""

import csv

import cv2
import numpy as np
import pytest

from demo import figure
from utils.panels import GAP, TEXT_HEIGHT, panel, titled
from utils.pictures import ColourScale, save_png

SIDE = 32


@pytest.fixture
def tested(tmp_path):
    """A run of two grey images a product, the brighter one with the higher score."""
    with (tmp_path / "scores.csv").open("w", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image_path", "class_name", "score"])
        for product in figure.PRODUCTS:
            for name, score, grey in (("b", 1.5, 200), ("a", 0.5, 60)):
                table.writerow([f"{product}/{name}.png", product, score])
                image, calm = np.full((SIDE, SIDE, 3), grey, np.uint8), np.zeros((SIDE, SIDE), np.float32)
                shown = titled(panel(image, calm, calm > 0, ColourScale(0, 1)), "caption")
                save_png(tmp_path / "imgs" / product / f"{name}.png.png", shown)
    return tmp_path


def test_each_product_has_its_highest_score_picture_map_and_truth_one_below_the_other(tested):
    figure.main(["--run", str(tested), "--output", str(tested / "figure.jpg")])
    drawn = cv2.imread(str(tested / "figure.jpg"))
    assert drawn.shape[:2] == (TEXT_HEIGHT + 3 * (SIDE + GAP), figure.TITLE_WIDTH + 6 * (SIDE + GAP))
    centres = [SIDE // 2 + i * (SIDE + GAP) for i in range(6)]
    for top in centres[:3]:
        for left in centres:
            assert np.abs(drawn[TEXT_HEIGHT + top, figure.TITLE_WIDTH + left].astype(int) - 200).max() < 8


def test_a_run_without_pictures_says_how_to_make_them(tested):
    (tested / "imgs" / "wood" / "b.png.png").unlink()
    with pytest.raises(figure.UserError, match="--visualization"):
        figure.figure(tested)
