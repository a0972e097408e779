"""A small data set in MVTec's layout with maps of its images on disk, for the tests of `evaluate.py`."""

from pathlib import Path

import cv2
import numpy as np

SHAPE = (24, 32)
CLASSES = {"bolt": {"good": 4, "crack": 6}, "nut": {"good": 3, "bent": 5}}


def make_data_set(root: Path) -> Path:
    """Images (of one grey each), and masks of one or two rectangles; returns `root`."""
    rng, greys = np.random.default_rng(0), iter(range(256))
    for name, kinds in CLASSES.items():
        for kind, count in kinds.items():
            for i in range(count):
                write(root / name / "test" / kind / f"{i:03}.png", np.full(SHAPE, next(greys), np.uint8))
                if kind != "good":
                    mask = np.zeros(SHAPE, np.uint8)
                    for _ in range(1 + i % 2):
                        y, x = rng.integers(0, 14), rng.integers(0, 20)
                        mask[y : y + rng.integers(3, 9), x : x + rng.integers(3, 9)] = 255
                    write(root / name / "ground_truth" / kind / f"{i:03}_mask.png", mask)
    return root


def make_maps(root: Path, seed: int = 0, shift: float = 1.0) -> dict[str, np.ndarray]:
    """Maps, float32 [H, W], of every image by its path: noise, raised by `shift` where the mask is set."""
    rng = np.random.default_rng(seed)
    return {
        path.relative_to(root).as_posix(): (rng.normal(size=SHAPE) + shift * mask_of(path)).astype(np.float32)
        for path in sorted(root.glob("*/test/*/*.png"))
    }


def mask_of(image: Path) -> np.ndarray:
    """The mask of an image of `make_data_set`, bool [H, W]."""
    path = image.parents[2] / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0 if path.exists() else np.zeros(SHAPE, bool)


def save_maps(folder: Path, maps: dict[str, np.ndarray]) -> Path:
    """Write maps as `<img_path>.npy`; returns `folder`."""
    for name, values in maps.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)
    return folder


def write(path: Path, image: np.ndarray) -> None:
    """Write an image, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
