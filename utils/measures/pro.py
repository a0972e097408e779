"""PRO, the per-region overlap: exact, and in the convention of the evaluators behind older tables."""

from typing import Literal

import numpy as np
from sklearn.metrics import auc

from utils.measures.regions import SplitScores

FPR_LIMIT = 0.3
LEGACY_STEPS = 200
BLOCK = 1 << 16  # anomalous scores handled at a time: bounds the memory of intermediate values


def exact_pro(split: SplitScores) -> float | None:
    """Area under the mean overlap over the false-positive rate in [0, 0.3], divided by 0.3.

    Every distinct score is a threshold, equal scores form one (diagonal) step, and the curve is interpolated
    at 0.3.

    A pixel of a region of n pixels, one of R regions, raises the curve by 1 / (n R), along a ramp over the
    false positives that its threshold adds. The area under a sum of ramps is the sum of the areas under each:
    no curve has to be built. Rates are counted in normal pixels until the end.

    Returns:
        A fraction, or None without regions or without normal pixels.
    """
    normal = split.normal
    if not normal.size or not split.regions:
        return None
    limit = FPR_LIMIT * normal.size
    total = 0.0
    for start in range(0, split.anomalous.size, BLOCK):
        scores = split.anomalous[start : start + BLOCK]
        above = normal.size - np.searchsorted(normal, scores, side="right")  # false positives before the step
        ramp = normal.size - np.searchsorted(normal, scores, side="left") - above  # and those it adds
        covered = np.clip(limit - above, 0, ramp)  # the part of the ramp below the limit
        area = np.maximum(limit - above - ramp, 0) + covered**2 / (2 * np.maximum(ramp, 1))
        total += float(np.sum(area / split.region_size[start : start + BLOCK]))
    return total / (limit * split.regions)


def legacy_pro(split: SplitScores) -> float | None:
    """PRO as the released evaluators of the field compute it; for comparison with older tables only.

    200 thresholds equally spaced from the least to the greatest score; points with a false-positive rate of
    0.3 or more are dropped and the remaining rates rescaled to [0, 1]. Unlike `exact_pro`, it changes under a
    monotone map of the scores.

    Returns:
        A fraction, or None without regions or without normal pixels, or where fewer than two different
        false-positive rates remain (for one, if all scores are equal).
    """
    normal, anomalous = split.normal, split.anomalous
    if not normal.size or not split.regions:
        return None
    low, high = min(normal[0], anomalous[0]), max(normal[-1], anomalous[-1])
    step = (high - low) / LEGACY_STEPS
    if not 0 < step < np.inf:
        return None
    # As released: in the maps' own precision, where rounding sometimes gives a 201st threshold.
    thresholds = np.arange(low, high, step).astype(np.float32)
    overlap = mean_overlap(split, thresholds, side="left")
    rate = (normal.size - np.searchsorted(normal, thresholds, side="right")) / normal.size
    kept = rate < FPR_LIMIT
    rate, overlap = rate[kept], overlap[kept]
    if not rate.size or rate[0] == rate[-1]:
        return None
    return float(auc((rate - rate[-1]) / (rate[0] - rate[-1]), overlap))


def mean_overlap(split: SplitScores, thresholds: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    """Mean over the regions of the fraction of a region's pixels that a threshold marks.

    Args:
        split: the scores of at least one region.
        thresholds: [k] ascending.
        side: "left" marks the scores above a threshold, "right" those equal to it as well.

    Returns:
        [k] float64.
    """
    passed_by = np.zeros(thresholds.size + 1)  # at i, by scores that pass i thresholds
    for start in range(0, split.anomalous.size, BLOCK):
        passed = np.searchsorted(thresholds, split.anomalous[start : start + BLOCK], side=side)
        weights = 1 / split.region_size[start : start + BLOCK].astype(np.float64)
        passed_by += np.bincount(passed, weights, minlength=passed_by.size)
    return np.cumsum(passed_by[::-1])[::-1][1:] / split.regions
