"""Points of the curves behind the measures: each exact, and few enough to draw."""

import numpy as np

from utils.measures.pro import FPR_LIMIT, mean_overlap
from utils.measures.regions import SplitScores

POINTS = 100  # of each of three spacings, so at most some three hundred on a curve

# Rows x and y [2, k] of a curve's points as fractions, by falling threshold, which positive items' scores reach:
# "roc", true-positive over false-positive rate, from (0, 0) to (1, 1);
# "pr", precision over recall: average precision is the area of the steps that have them at their right end;
# "pro", mean overlap over false-positive rate, from (0, 0) to the rate 0.3; None for images.
Curves = dict[str, np.ndarray | None]


def ranking_curves(normal: np.ndarray, anomalous: np.ndarray) -> Curves | None:
    """Draw ROC and PR from ascending scores of normal [N] and anomalous [P] items; None without one or the other."""
    if not normal.size or not anomalous.size:
        return None
    falling = _thresholds(normal, anomalous)[::-1]
    false = normal.size - normal.searchsorted(falling, side="left")
    true = anomalous.size - np.searchsorted(anomalous, falling, side="left")
    recall = true / anomalous.size
    roc = np.stack([np.append(0, false / normal.size), np.append(0, recall)])
    return {"roc": roc, "pr": np.stack([recall, true / (true + false)]), "pro": None}


def pixel_curves(split: SplitScores) -> Curves | None:
    """Draw ROC, PR and PRO of a class's pixels; None without normal or without anomalous ones."""
    curves = ranking_curves(split.normal, split.anomalous)
    if curves is None:
        return None
    overlap = mean_overlap(split, _thresholds(split.normal, split.anomalous), side="right")
    rate, overlap = curves["roc"][0], np.append(0, overlap[::-1])
    inside = rate <= FPR_LIMIT
    last = np.interp(FPR_LIMIT, rate, overlap)
    return curves | {"pro": np.stack([np.append(rate[inside], FPR_LIMIT), np.append(overlap[inside], last)])}


def _thresholds(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """Choose ascending distinct scores to draw the curves at: all of them if they are few.

    Else spread evenly over the recall and the false-positive rate, more closely where that rate is small, and about the
    rate where PRO ends. The least score is always among them, so the curves are whole.
    """
    n, p = normal.size, anomalous.size
    if n + p <= 3 * POINTS:
        return np.unique(np.concatenate([normal, anomalous]))
    limit = int(FPR_LIMIT * n)
    from_top = [np.linspace(1, n, POINTS), np.geomspace(1, n, POINTS), [max(limit, 1), min(limit + 1, n)]]
    chosen = normal[n - np.rint(np.concatenate(from_top)).astype(int)]
    return np.unique(np.concatenate([chosen, anomalous[np.rint(np.linspace(0, p - 1, POINTS)).astype(int)]]))
