"""Set six products of a test of the demo set side by side: picture, map and ground truth.

    python demo/figure.py --run results/demo/sdp --output results/demo/figure.jpg

The test must have been run with --visualization. Of each product it takes the image with the highest score.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from utils.arguments import Options, parse, required
from utils.errors import UserError, run
from utils.files import atomic_open
from utils.panels import GAP, PANEL_TITLES, TEXT_HEIGHT, text_line

PRODUCTS = ("fabric", "foil", "leather", "tablet", "washer", "wood")
TITLE_WIDTH = 64  # pixels, of the rows' titles
QUALITY = 90  # of the JPEG


class FigureOptions(Options):
    """The figure."""

    run: Path = required("folder of the test's results")
    output: Path = required("where the figure goes, a JPEG")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the figure."""
    options = parse(FigureOptions, __doc__, arguments)
    content = cv2.imencode(".jpg", figure(options.run)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    with atomic_open(options.output, "wb") as file:
        file.write(content.tobytes())


def figure(run: Path) -> np.ndarray:
    """Draw the figure, uint8 RGB [H, W, 3], from a run's pictures."""
    try:
        with (run / "scores.csv").open(encoding="utf-8") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: float(row["score"]))
        highest = {row["class_name"]: row["image_path"] for row in rows}  # the last of each
        highest = {product: highest[product] for product in PRODUCTS}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{run} is no folder of a whole test of the demo set ({error!r} in scores.csv)") from error
    columns = [_column(run / "imgs" / f"{highest[product]}.png", product) for product in PRODUCTS]
    height, step, _ = columns[0].shape
    titles = np.full((height, TITLE_WIDTH, 3), 255, np.uint8)
    for top, title in zip(range(TEXT_HEIGHT, height, step), PANEL_TITLES, strict=True):
        titles[top : top + TEXT_HEIGHT] = text_line(TITLE_WIDTH, {2: title})
    return np.hstack([titles, *columns])


def _column(path: Path, product: str) -> np.ndarray:
    """Set what is side by side in a run's picture one below the other, under the product's name."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise UserError(f"cannot read {path}: run the test with --visualization")
    picture = picture[2 * TEXT_HEIGHT :, :, ::-1]
    picture = np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
    return np.vstack([text_line(len(picture), {0: product}), *np.split(picture, len(PANEL_TITLES), axis=1)])


if __name__ == "__main__":
    run(main)
