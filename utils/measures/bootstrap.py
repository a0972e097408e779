"""Confidence intervals by the bootstrap: how far a measure depends on which images happen to be in the test set.

The images of a class, with all their pixels, are drawn with replacement, as many as there are, and measured again; the
interval is made of the percentiles of many such draws (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13). Draws are stratified: each has as many normal and as many anomalous images as the set, whose makers chose
those numbers (chapter 8 there; also the default of the pROC package, Robin et al. 2011), and as many of each kind of
mask, so that a measure that is defined for the set is defined for each draw. Scores and maps stay as they are: what was
normalised over the class is not normalised again. Where a class has few images of a kind, intervals are too narrow, and
those of F1-max and AP lie somewhat high: draws repeat images, and these two gain from that.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from utils.measures.pro import FPR_LIMIT, area_under_ramp
from utils.measures.regions import region_sizes

THRESHOLDS = 1 << 14
BLOCK = 64  # thresholds handled at a time, so that intermediate values of 1000 draws stay in the processor's cache


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    resamples: int  # how many draws
    confidence: float = 95.0  # in percent, the share of the draws within the interval
    seed: int = 42

    def draw(self, class_name: str, kinds: np.ndarray) -> np.ndarray:
        """Count how often each of a class's n images is in each draw: int64 [resamples, n].

        Images with equal rows of `kinds`, int [n, m], are drawn for each other. The random numbers depend on the seed,
        the class's name and the kinds alone: other classes change nothing, and two methods on the same images get the
        same draws.
        """
        digest = hashlib.sha256(class_name.encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng([self.seed, int.from_bytes(digest, "big")])
        drawn = np.empty((self.resamples, len(kinds)), np.int64)
        for kind in np.unique(kinds, axis=0):
            images = np.flatnonzero((kinds == kind).all(axis=1))
            drawn[:, images] = images[rng.integers(images.size, size=(self.resamples, images.size))]
        cells = drawn + len(kinds) * np.arange(self.resamples)[:, None]
        return np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Compute the percentile interval of a measure's values [resamples]."""
        outside = (1 - self.confidence / 100) / 2
        return tuple(np.quantile(values, [outside, 1 - outside]).tolist())

    def __str__(self) -> str:
        return (
            f"{self.confidence:g} % bootstrap intervals: percentiles of {self.resamples} draws of each class's images, "
            f"stratified by label, seed {self.seed}"
        )


def measures_of_draws(
    maps: Sequence[np.ndarray],  # finite scores, n of [H, W]
    masks: Sequence[np.ndarray],  # which are anomalous, one at least: bool, n of [H, W]
    weights: np.ndarray,  # how often each draw has each image: int [B, n]
    thresholds: int = THRESHOLDS,
    progress: str | None = None,  # what a progress bar is called; None shows none
) -> dict[str, np.ndarray]:
    """Compute the values [B] of each measure, as fractions, in B draws, each of normal and anomalous scores.

    How many scores of each image lie above a threshold is counted once; in a draw they count as often as their image,
    so the counts of all draws are products of two matrices, and the measures follow as in `ranking` and `pro`.

    Where there are more than `thresholds` different anomalous scores, neighbours share one, as if they and the normal
    scores between them were equal: the curves are exact in that many points, and straight between them. That moves the
    set's own AUROC by at most 1 / (2 thresholds); what it changes was measured to be far below an interval's own noise
    (benchmarks/README.md). With fewer everything is exact.
    """
    anomalous = np.concatenate([scores[mask] for scores, mask in zip(maps, masks, strict=True)])
    low, high = _groups(np.sort(anomalous), thresholds)  # [K]
    normal_above, normal_at_least = np.zeros((2, len(maps), low.size), np.int32)  # each image's by `high`, `low`
    # Of the m images with anomalous scores: these, those from `low` to `high` each by its region's size, and regions.
    sources, anomalous_at_least, overlaps, regions = [], [], [], []
    for i, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        normal = np.sort(scores[~mask])
        normal_above[i] = normal.size - np.searchsorted(normal, high, side="right")
        normal_at_least[i] = normal.size - np.searchsorted(normal, low, side="left")
        if mask.any():
            size, count = region_sizes(mask)
            group = np.searchsorted(low, scores[mask], side="right") - 1
            in_group = np.bincount(group, minlength=low.size)
            sources.append(i)
            anomalous_at_least.append(np.cumsum(in_group[::-1])[::-1].astype(np.int32))
            overlaps.append(np.bincount(group, 1 / size, minlength=low.size))
            regions.append(count)
    anomalous_at_least, overlaps = np.stack(anomalous_at_least), np.stack(overlaps)  # [m, K]

    drawn = weights.T.astype(np.float64)  # [n, B]; a product of float64 is exact below 2^53, and fast
    drawn_sources = drawn[sources]
    sizes = np.array([np.count_nonzero(mask) for mask in masks])
    normal, anomalous = (np.array([mask.size for mask in masks]) - sizes) @ drawn, sizes @ drawn
    limit = FPR_LIMIT * normal
    auroc, ap, f1_max, area = np.zeros((4, len(weights)))
    found_above = np.zeros(len(weights))  # anomalous scores above the block's groups
    starts = range((low.size - 1) // BLOCK * BLOCK, -1, -BLOCK)  # from the highest thresholds down
    shown = {"desc": progress, "disable": progress is None, "leave": False, "delay": 2, "dynamic_ncols": True}
    for start in tqdm(starts, unit="block", **shown):
        block = slice(start, start + BLOCK)
        above, at_least = (one[:, block].T.astype(np.float64) @ drawn for one in (normal_above, normal_at_least))
        found, overlap = (one[:, block].T.astype(np.float64) @ drawn_sources for one in (anomalous_at_least, overlaps))
        gained = -np.diff(found, axis=0, append=found_above[None])
        found_above = found[0]
        auroc += np.sum(gained * (2 * normal - above - at_least), axis=0)
        predicted = found + at_least
        ap += np.sum(gained * found / np.maximum(predicted, 1), axis=0)
        f1_max = np.maximum(f1_max, np.max(2 * found / (predicted + anomalous), axis=0))
        area += np.sum(overlap * area_under_ramp(above, at_least, limit), axis=0)
    return {
        "auroc": auroc / (2 * normal * anomalous),
        "ap": ap / anomalous,
        "f1_max": f1_max,
        "pro": area / (limit * (np.array(regions) @ drawn_sources)),
    }


def _groups(scores: np.ndarray, thresholds: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the least and the greatest score of each group of sorted scores; equal scores are in one group."""
    first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    if first.size > thresholds:
        wanted = np.arange(thresholds) * scores.size // thresholds
        first = np.unique(first[np.searchsorted(first, wanted, side="right") - 1])
    return scores[first], scores[np.append(first[1:], scores.size) - 1]
