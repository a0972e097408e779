"""The measures of anomaly detection, exact and fast: AUROC, AP, F1-max and PRO from one sort.

Each of AUROC, AP and PRO is a mean over the anomalous scores (in PRO a weighted one) of a value that depends
on how many normal and how many anomalous scores lie above and below; F1-max is a maximum over them. So
sorting the normal scores and looking the few anomalous ones up in them gives all, without a loop over
thresholds. The conventions are scikit-learn's: equal scores are one threshold.

All measures are fractions from 0 to 1, and None where they are undefined.
"""

from dataclasses import dataclass, field

import numpy as np

from utils.measures import pro
from utils.measures.curves import Curves, pixel_curves
from utils.measures.regions import split_scores


@dataclass(frozen=True)
class Ranking:
    """How well scores tell two labels apart; all None if there is one label only.

    Attributes:
        auroc: area under the ROC curve, ties count half.
        ap: average precision, the sum of (R_n - R_{n-1}) P_n over the distinct thresholds.
        f1_max: the greatest F1 over the distinct thresholds.
    """

    auroc: float | None
    ap: float | None
    f1_max: float | None


@dataclass(frozen=True)
class PixelMeasures(Ranking):
    """The `Ranking` of a class's pixels, and their per-region overlap.

    Attributes:
        pro: exact per-region overlap, None without regions or without normal pixels.
        legacy_pro: that of the field's older tables (see `utils.measures.pro`), None if undefined or not asked for.
        curves: what they are areas under, thinned for drawing; None if there is one label only.
    """

    pro: float | None
    legacy_pro: float | None
    curves: Curves | None = field(default=None, compare=False)


def ranking_measures(normal: np.ndarray, anomalous: np.ndarray) -> Ranking:
    """AUROC, AP and F1-max of the scores of normal and of anomalous items (images or pixels).

    Args:
        normal: [N] scores of the normal items, greater meaning more anomalous; left as they are.
        anomalous: [P] scores of the anomalous items; left as they are.

    Raises:
        ValueError: a score that is not finite.
    """
    for name, scores in (("normal", normal), ("anomalous", anomalous)):
        if not np.isfinite(scores).all():
            raise ValueError(f"the {name} score {np.flatnonzero(~np.isfinite(scores))[0]} is not finite")
    return _sorted_ranking(np.sort(normal, axis=None), np.sort(anomalous, axis=None))


def pixel_measures(maps: np.ndarray, masks: np.ndarray, legacy_pro: bool = False) -> PixelMeasures:
    """All pixel measures of a class.

    TAKES OWNERSHIP OF `maps`: their buffer is sorted in place, and what they held is LOST. Use the maps (for
    images, for their maxima) before, or hand in a copy. Beside the maps this needs 12 bytes for each
    anomalous pixel, and some megabytes.

    Args:
        maps: [n, H, W] float32, C-contiguous: the anomaly maps of all images of the class.
        masks: [n, H, W] bool, True where a pixel is anomalous; all False for a normal image.
        legacy_pro: compute `PixelMeasures.legacy_pro` as well.

    Raises:
        TypeError, ValueError: a wrong type, shape or memory layout, or a map with NaN or infinity (the
            message has the image's index).
    """
    split = split_scores(maps, masks)
    exact = pro.exact_pro(split)
    legacy = pro.legacy_pro(split) if legacy_pro else None
    ranking = _sorted_ranking(split.normal, np.ascontiguousarray(split.anomalous))
    return PixelMeasures(ranking.auroc, ranking.ap, ranking.f1_max, exact, legacy, pixel_curves(split))


def misranked(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How wrongly each item is ranked: the fraction of the items of the other label on its wrong side.

    The mean over the anomalous items, as that over the normal ones, is 1 - AUROC; ties count half.

    Args:
        scores: [n] finite.
        labels: [n], 1 for anomalous, 0 for normal, anything else where no label is known.

    Returns:
        [n] float64; NaN without a label, and where no item has the other one.
    """
    wrong = np.full(scores.shape, np.nan)
    for label, other, sign in ((0, 1, 1), (1, 0, -1)):  # a normal item is wrong above its rivals
        rivals = np.sort(sign * scores[labels == other])
        if rivals.size:
            own = sign * scores[labels == label]
            ranks = np.searchsorted(rivals, own, side="left") + np.searchsorted(rivals, own, side="right")
            wrong[labels == label] = ranks / (2 * rivals.size)
    return wrong


def _sorted_ranking(normal: np.ndarray, anomalous: np.ndarray) -> Ranking:
    negatives, positives = normal.size, anomalous.size
    if not negatives or not positives:
        return Ranking(None, None, None)
    twice_below = 0  # pairs of an anomalous score and a normal one below it, twice; ties add one
    precision_sum = f1_max = 0.0
    for start in range(0, positives, pro.BLOCK):
        scores = anomalous[start : start + pro.BLOCK]
        below = np.searchsorted(normal, scores, side="left")
        twice_below += int(np.sum(below + np.searchsorted(normal, scores, side="right")))
        # With each score as threshold. A normal score between two anomalous ones is a threshold too, but the
        # recall there is that of the one above, at lower precision: it changes neither AP nor F1-max.
        true_positives = positives - np.searchsorted(anomalous, scores, side="left")
        predicted = true_positives + negatives - below
        precision_sum += float(np.sum(true_positives / predicted))
        f1_max = max(f1_max, float(np.max(2 * true_positives / (predicted + positives))))
    return Ranking(twice_below / (2 * negatives * positives), precision_sum / positives, f1_max)
