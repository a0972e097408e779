"""AUROC, AP and F1-max of items (images or pixels), by scikit-learn's conventions: equal scores are one threshold.

AUROC and AP are means over the anomalous scores of a value that depends on how many normal and how many anomalous
scores lie above and below; F1-max is a maximum over them. So sorting the normal scores and looking the few anomalous
ones up in them gives all, without a loop over thresholds.
"""

import numpy as np

from utils.measures.regions import Ascending, blocks


def ranking_measures(normal: np.ndarray, anomalous: np.ndarray) -> dict[str, float | None]:
    """Measure how well finite scores rank the anomalous items [P] above the normal ones [N], in fractions.

    `auroc` is the area under the ROC curve, where ties count half; `ap` the sum of (R_n - R_{n-1}) P_n over the
    distinct thresholds, and `f1_max` the greatest F1 over them. All are None if there is one label only.
    """
    for name, scores in (("normal", normal), ("anomalous", anomalous)):
        if not np.isfinite(scores).all():
            raise ValueError(f"the {name} score {np.flatnonzero(~np.isfinite(scores))[0]} is not finite")
    return sorted_ranking(np.sort(normal, axis=None), np.sort(anomalous, axis=None))


def sorted_ranking(normal: np.ndarray | Ascending, anomalous: np.ndarray) -> dict[str, float | None]:
    """Measure as `ranking_measures` does, from scores that ascend."""
    negatives, positives = normal.size, anomalous.size
    if not negatives or not positives:
        return dict.fromkeys(("auroc", "ap", "f1_max"))
    twice_below = 0  # pairs of an anomalous score and a normal one below it, twice; ties add one
    precision_sum = f1_max = 0.0
    for block in blocks(positives):
        scores = anomalous[block]
        below = normal.searchsorted(scores, side="left")
        twice_below += int(np.sum(below + normal.searchsorted(scores, side="right")))
        # With each score as threshold. A normal score between two anomalous ones is a threshold too, but the
        # recall there is that of the one above, at lower precision: it changes neither AP nor F1-max.
        true_positives = positives - np.searchsorted(anomalous, scores, side="left")
        predicted = true_positives + negatives - below
        precision_sum += float(np.sum(true_positives / predicted))
        f1_max = max(f1_max, float(np.max(2 * true_positives / (predicted + positives))))
    auroc = twice_below / (2 * negatives * positives)
    return {"auroc": auroc, "ap": precision_sum / positives, "f1_max": f1_max}


def misranked(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute for each of n items the fraction of those with the other label that its score has on the wrong side.

    Ties count half: the mean over the anomalous items, as that over the normal ones, is 1 - AUROC. Labels [n] are 1 for
    anomalous, 0 for normal; the result, float64 [n], is NaN at any other, and where no item has the other label.
    """
    wrong = np.full(scores.shape, np.nan)
    for label, other, sign in ((0, 1, 1), (1, 0, -1)):  # a normal item is wrong above its rivals
        rivals = np.sort(sign * scores[labels == other])
        if rivals.size:
            own = sign * scores[labels == label]
            ranks = np.searchsorted(rivals, own, side="left") + np.searchsorted(rivals, own, side="right")
            wrong[labels == label] = ranks / (2 * rivals.size)
    return wrong
