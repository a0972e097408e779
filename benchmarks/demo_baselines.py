"""Measures how far grey values and edge filters alone find the defects of the demo set.

    python demo/draw.py && python benchmarks/demo_baselines.py

Prints the pixel AUROC of each baseline for each class. What a detector gains over the best of them is not owed to
defects that are merely darker, lighter or sharper than everything else.
"""

from collections.abc import Callable, Mapping
from itertools import groupby

import cv2
import numpy as np
from harness import start
from tabulate import tabulate

from datasets.registry import get_spec
from engine.data_sets import read_test_split
from utils.errors import run
from utils.measures.ranking import ranking_measures

# From a grey image, float32 [S, S], to a score for each pixel.
BASELINES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "bright": lambda grey: grey,
    "dark": lambda grey: -grey,
    "unlike the median": lambda grey: np.abs(grey - np.median(grey)),
    "Sobel": lambda grey: np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)),
    "Laplacian": lambda grey: np.abs(cv2.Laplacian(grey, cv2.CV_32F)),
    "smoothed Laplacian": lambda grey: cv2.GaussianBlur(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), (0, 0), 4),
}


def baseline_aurocs(images: list[np.ndarray], masks: list[np.ndarray]) -> dict[str, float | None]:
    """Measure the pixel AUROC of each baseline over one class.

    Args:
        images: uint8 RGB [S, S, 3].
        masks: bool [S, S], true where anomalous.
    """
    anomalous = np.stack(masks)
    greys = [image.astype(np.float32).mean(-1) for image in images]
    aurocs = {}
    for name, baseline in BASELINES.items():
        scores = np.stack([baseline(grey) for grey in greys])
        aurocs[name] = ranking_measures(scores[~anomalous], scores[anomalous])["auroc"]
    return aurocs


def main() -> None:
    spec = get_spec("demo")
    args = start(__doc__, data_path=spec.folder, image_size=128)
    images, rows = read_test_split(spec, args.data_path), []
    for name, group in groupby(images.entries, key=lambda entry: entry.cls_name):
        entries, size = list(group), args.image_size
        masks = [images.read_mask(entry, (size, size)).numpy() for entry in entries]
        rows.append([name, *baseline_aurocs([images.read_image(entry, size) for entry in entries], masks).values()])
    rows.append(["mean", *np.mean([row[1:] for row in rows], axis=0)])
    print(tabulate(rows, headers=["class", *BASELINES], floatfmt=".3f"))


if __name__ == "__main__":
    run(main)
