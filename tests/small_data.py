"""A small data set in MVTec's layout for tests that run an entry point, with bright squares for defects."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

KINDS = (("good", 2), ("square", 3))


def make(root: Path, classes: Sequence[str] = ("bolt", "nut"), seed: int = 0) -> Path:
    """Write five test images of 90 x 70 pixels a class to `root`: two normal, three with a square."""
    rng = np.random.default_rng(seed)
    for name in classes:
        for kind, count in KINDS:
            for i in range(count):
                image = rng.integers(60, 120, (70, 90, 3), dtype=np.uint8)
                if kind == "square":
                    mask = np.zeros((70, 90), np.uint8)
                    mask[20:40, 10 + 5 * i : 40] = 255
                    image[mask > 0] = 250
                    write(root / name / "ground_truth" / kind / f"{i:03}_mask.png", mask)
                write(root / name / "test" / kind / f"{i:03}.png", image)
    return root


def draw_washers(folder: Path, **kinds: int) -> Path:
    """Draw washers of the demo set, 128 x 100 pixels, so many of each kind of defect, and `good` ones."""
    from demo.render import render

    for kind, count in kinds.items():
        for i in range(count):
            _, picture, _ = render("washer", [kind] * (kind != "good"), np.random.default_rng(i), 128)
            write(folder / kind / f"{i:02}.png", picture[14:114, :, ::-1])
    return folder


def draw_grey(folder: Path, count: int) -> Path:
    """Draw pictures without a square, of no class."""
    rng = np.random.default_rng(3)
    for i in range(count):
        write(folder / f"{i}.png", rng.integers(60, 120, (70, 90, 3), dtype=np.uint8))
    return folder


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
