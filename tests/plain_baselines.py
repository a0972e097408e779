"""What grey values and edge filters alone find: the least that a detector has to beat on the demo set."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

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


def baseline_aurocs(images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Measure the pixel AUROC of each baseline over one class.

    Args:
        images: uint8 RGB [S, S, 3].
        masks: bool [S, S], true where anomalous.
    """
    anomalous, greys = np.stack(masks), np.stack(images).astype(np.float32).mean(-1)
    scores = {name: np.stack([*map(baseline, greys)]) for name, baseline in BASELINES.items()}
    return {name: ranking_measures(own[~anomalous], own[anomalous])["auroc"] for name, own in scores.items()}
