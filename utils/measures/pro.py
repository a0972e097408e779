"""PRO, the per-region overlap: exact, and by the 200 thresholds behind the field's older tables.

A threshold t, which marks the pixels that score t or more, finds a part of each of the R regions of a class's masks:

    PRO(t) = 1/R sum_r |marked pixels of region r| / |pixels of region r|
    FPR(t) = |marked normal pixels| / |normal pixels|

The measure is the area under PRO over FPR in [0, 0.3], divided by 0.3 (Bergmann et al., Uninformed Students,
CVPR 2020).
"""

from typing import Literal

import numpy as np

from utils.measures.regions import SplitScores, blocks

FPR_LIMIT = 0.3
LEGACY_STEPS = 200


def exact_pro(split: SplitScores) -> float:
    """Integrate PRO(FPR) over all distinct thresholds, straight between them, of regions and normal pixels.

    A pixel of a region of n pixels raises PRO by 1 / (n R), along a ramp over the false positives that its threshold
    adds. The area under the sum of all ramps is the sum of the areas under each, so no curve has to be built.
    """
    normal = split.normal
    limit = FPR_LIMIT * normal.size  # of false positives
    total = 0.0
    for block in blocks(split.anomalous.size):
        scores = split.anomalous[block]
        above = normal.size - normal.searchsorted(scores, side="right")
        at_least = normal.size - normal.searchsorted(scores, side="left")
        total += float(np.sum(area_under_ramp(above, at_least, limit) / split.region_size[block]))
    return total / (limit * split.regions)


def area_under_ramp(start: np.ndarray, end: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    """Integrate up to `limit` what rises from 0 at `start` to 1 at `end` and stays there; all are false positives."""
    ramp = end - start
    covered = np.clip(limit - start, 0, ramp)
    return np.maximum(limit - end, 0) + covered**2 / (2 * np.maximum(ramp, 1))


def legacy_pro(split: SplitScores) -> float | None:
    """Compute PRO as the released evaluators of the field do; for comparison with older tables only.

    200 thresholds equally spaced from the least to the greatest score; points with a false-positive rate of 0.3 or more
    are dropped and the remaining rates rescaled to [0, 1]. Unlike `exact_pro`, it changes under a monotone map of the
    scores. None where fewer than two different rates remain.
    """
    normal, anomalous = split.normal, split.anomalous
    low, high = min(normal[0], anomalous[0]), max(normal[-1], anomalous[-1])
    step = (high - low) / LEGACY_STEPS
    if not 0 < step < np.inf:
        return None
    # As released: in the maps' own precision, where rounding sometimes gives a 201st threshold.
    thresholds = np.arange(low, high, step).astype(np.float32)
    overlap = mean_overlap(split, thresholds, side="left")
    rate = (normal.size - normal.searchsorted(thresholds, side="right")) / normal.size
    kept = rate < FPR_LIMIT
    rate, overlap = rate[kept], overlap[kept]
    if not rate.size or rate[0] == rate[-1]:
        return None
    rate = (rate - rate[-1]) / (rate[0] - rate[-1])  # falls from 1 to 0
    return float(-np.sum(np.diff(rate) * (overlap[1:] + overlap[:-1]) / 2))


def mean_overlap(split: SplitScores, thresholds: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    """Compute PRO(t) at thresholds [k] that ascend: float64 [k]; with `side` "left" a score of t is not marked."""
    passed_by = np.zeros(thresholds.size + 1)  # at i, by scores that pass i thresholds
    for block in blocks(split.anomalous.size):
        passed = np.searchsorted(thresholds, split.anomalous[block], side=side)
        weights = 1 / split.region_size[block].astype(np.float64)
        passed_by += np.bincount(passed, weights, minlength=passed_by.size)
    return np.cumsum(passed_by[::-1])[::-1][1:] / split.regions
