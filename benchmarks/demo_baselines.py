"""Measures how far grey values and edge filters alone find the defects of the demo set.

    python demo/draw.py && python benchmarks/demo_baselines.py

Prints the pixel AUROC of each baseline for each class. What a detector gains over the best of them is not owed to
defects that are merely darker, lighter or sharper than everything else.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import cv2
import numpy as np
from harness import Options, benchmark
from tabulate import tabulate

from datasets.registry import get_spec
from engine.data_sets import read_test_split
from utils.measures.ranking import ranking_measures

DEMO = get_spec("demo")
# From a grey image, float32 [S, S], to a score for each pixel.
BASELINES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "bright": lambda grey: grey,
    "dark": lambda grey: -grey,
    "unlike the median": lambda grey: np.abs(grey - np.median(grey)),
    "Sobel": lambda grey: np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)),
    "Laplacian": lambda grey: np.abs(cv2.Laplacian(grey, cv2.CV_32F)),
    "smoothed Laplacian": lambda grey: cv2.GaussianBlur(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), (0, 0), 4),
}


def baseline_aurocs(images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Measure the pixel AUROC of each baseline over one class.

    Args:
        images: uint8 RGB [S, S, 3].
        masks: bool [S, S], true where anomalous.
    """
    anomalous, greys = np.stack(masks), np.stack(images).astype(np.float32).mean(-1)
    scores = {name: np.stack([*map(baseline, greys)]) for name, baseline in BASELINES.items()}
    return {name: ranking_measures(own[~anomalous], own[anomalous])["auroc"] for name, own in scores.items()}


@benchmark(data_path=DEMO.folder, image_size=128)
def main(args: Options) -> None:
    images, rows, size = read_test_split(DEMO, args.data_path), [], args.image_size
    for name, group in groupby(images.entries, key=lambda entry: entry.cls_name):
        read = [(images.read_image(one, size), images.read_mask(one, (size, size)).numpy()) for one in group]
        rows.append([name, *baseline_aurocs(*zip(*read, strict=True)).values()])
    rows.append(["mean", *np.mean([row[1:] for row in rows], axis=0)])
    print(tabulate(rows, headers=["class", *BASELINES], floatfmt=".3f"))
