"""The measures of many draws of a class's images at once, each image as often as a draw has it.

A score counts as often as its image was drawn, so a draw is a row of weights, one for each image. How many scores of
each image lie above a threshold is counted once; the counts of all draws are then a product of two matrices, and the
measures follow from them by the formulas of `utils.measures.ranking` and `utils.measures.pro`.

Anomalous scores are the thresholds. Where a class has more than `THRESHOLDS` different ones, neighbours share a
threshold, as if they and the normal scores between them were equal: the curves are exact in that many points, and
straight between them. For the set itself that moves the AUROC by at most 1 / (2 THRESHOLDS); what it was measured to
change is far below an interval's own noise (benchmarks/README.md). With fewer, as images have, everything is exact.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from utils.measures.pro import FPR_LIMIT
from utils.measures.regions import region_sizes

THRESHOLDS = 1 << 14
BLOCK = 64  # thresholds handled at a time, so that intermediate values of 1000 draws stay in the processor's cache


@dataclass(frozen=True)
class ScoreCounts:
    """How the scores of the n images of a class lie to its K thresholds, which ascend.

    A threshold stands for the anomalous scores from `low` to `high`: one value, or neighbouring ones.

    Attributes:
        normal: int64 [n], normal scores of each image.
        above: int32 [n, K], those above `high`.
        at_least: int32 [n, K], those of at least `low`.
        sources: int64 [m], the images that have anomalous scores, to which the following belong.
        found: int32 [m, K], their anomalous scores of at least `low`.
        overlap: float64 [m, K], those from `low` to `high`, each divided by its region's size.
        regions: int64 [m], their regions.
    """

    normal: np.ndarray
    above: np.ndarray
    at_least: np.ndarray
    sources: np.ndarray
    found: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray


@dataclass(frozen=True)
class DrawnMeasures:
    """The values [B] of each measure in B draws, as fractions."""

    auroc: np.ndarray
    ap: np.ndarray
    f1_max: np.ndarray
    pro: np.ndarray


def count_pixels(maps: np.ndarray, masks: np.ndarray, thresholds: int = THRESHOLDS) -> ScoreCounts:
    """Counts of a class's pixels, of which there must be an anomalous one; regions are 8-connected.

    Args:
        maps: float32 [n, H, W], finite; left as they are.
        masks: bool [n, H, W].
        thresholds: the greatest number of thresholds.
    """

    def images() -> Iterable[_Image]:
        for scores, mask in zip(maps, masks, strict=True):
            yield (scores[~mask], scores[mask], *region_sizes(mask))

    return _count(images(), len(maps), maps[masks], thresholds)


def count_images(scores: np.ndarray, labels: np.ndarray) -> ScoreCounts:
    """Counts of images as if each were one pixel, of which one must be anomalous.

    Args:
        scores: [n], finite.
        labels: int [n], 0 normal, 1 anomalous; others do not count.
    """
    labels = np.asarray(labels)

    def images() -> Iterable[_Image]:
        for i, label in enumerate(labels):
            normal, anomalous = (scores[i : i + int(label == value)] for value in (0, 1))
            yield normal, anomalous, np.ones(anomalous.size), anomalous.size

    return _count(images(), len(scores), scores[labels == 1], len(scores))


_Image = tuple[np.ndarray, np.ndarray, np.ndarray, int]  # normal scores, anomalous, their regions' sizes, regions


def _count(images: Iterable[_Image], n: int, anomalous: np.ndarray, thresholds: int) -> ScoreCounts:
    low, high = _groups(np.sort(anomalous), thresholds)
    normal_size = np.zeros(n, np.int64)
    above, at_least = np.zeros((2, n, low.size), np.int32)
    sources, found, overlap, regions = [], [], [], []
    for i, (normal, inside, size, count) in enumerate(images):
        normal = np.sort(normal)
        normal_size[i] = normal.size
        above[i] = normal.size - np.searchsorted(normal, high, side="right")
        at_least[i] = normal.size - np.searchsorted(normal, low, side="left")
        if inside.size:
            group = np.searchsorted(low, inside, side="right") - 1
            in_group = np.bincount(group, minlength=low.size)
            sources.append(i)
            found.append(np.cumsum(in_group[::-1])[::-1].astype(np.int32))
            overlap.append(np.bincount(group, 1 / size, minlength=low.size))
            regions.append(count)
    return ScoreCounts(
        normal_size, above, at_least, np.array(sources), np.stack(found), np.stack(overlap), np.array(regions)
    )


def _groups(scores: np.ndarray, thresholds: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest score of each group of sorted scores; equal scores are in one group."""
    first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    if first.size > thresholds:
        wanted = np.arange(thresholds) * scores.size // thresholds
        first = np.unique(first[np.searchsorted(first, wanted, side="right") - 1])
    return scores[first], scores[np.append(first[1:], scores.size) - 1]


def measures_of_draws(counts: ScoreCounts, weights: np.ndarray, progress: str | None = None) -> DrawnMeasures:
    """All measures of each draw, which must have normal and anomalous scores.

    Args:
        counts: of the set.
        weights: int [B, n], how often each draw has each image.
        progress: what the progress bar calls this; None shows none.
    """
    drawn = weights.T.astype(np.float64)  # [n, B]; a product of float64 is exact below 2^53, and fast
    drawn_sources = drawn[counts.sources]
    normal = counts.normal @ drawn
    anomalous = counts.found[:, 0] @ drawn_sources  # all are at least the lowest threshold
    regions = counts.regions @ drawn_sources
    limit = FPR_LIMIT * normal
    auroc, ap, f1_max, area = np.zeros((4, len(weights)))
    found_above = np.zeros(len(weights))  # anomalous scores above the block's groups
    k = counts.found.shape[1]
    starts = range((k - 1) // BLOCK * BLOCK, -1, -BLOCK)  # from the highest thresholds down
    for start in tqdm(
        starts, desc=progress, disable=progress is None, leave=False, delay=2, unit="block", dynamic_ncols=True
    ):
        block = slice(start, start + BLOCK)
        above = counts.above[:, block].T.astype(np.float64) @ drawn  # [BLOCK, B]
        at_least = counts.at_least[:, block].T.astype(np.float64) @ drawn
        found = counts.found[:, block].T.astype(np.float64) @ drawn_sources
        overlap = counts.overlap[:, block].T.astype(np.float64) @ drawn_sources
        gained = found.copy()
        gained[:-1] -= found[1:]
        gained[-1] -= found_above
        found_above = found[0]
        auroc += np.sum(gained * (2 * normal - above - at_least), axis=0)
        predicted = found + at_least
        ap += np.sum(gained * found / np.maximum(predicted, 1), axis=0)
        f1_max = np.maximum(f1_max, np.max(2 * found / (predicted + anomalous), axis=0))
        # As in `utils.measures.pro.exact_pro`: each overlap is gained along a ramp of false positives.
        ramp = at_least - above
        covered = np.clip(limit - above, 0, ramp)
        height = np.maximum(limit - at_least, 0) + covered**2 / (2 * np.maximum(ramp, 1))
        area += np.sum(overlap * height, axis=0)
    return DrawnMeasures(
        auroc=auroc / (2 * normal * anomalous), ap=ap / anomalous, f1_max=f1_max, pro=area / (limit * regions)
    )
