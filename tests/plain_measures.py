"""The measures computed plainly, as the evaluation scripts of the field do, to test and time the fast ones against."""

import numpy as np
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from utils.measures.class_measures import measure_pixels
from utils.measures.curves import Curves, pixel_curves
from utils.measures.regions import PixelScores

Region = tuple[int, np.ndarray, np.ndarray]  # image, rows, columns


def plain_ranking(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float, float]:
    """AUROC, AP and F1-max by scikit-learn."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return roc_auc_score(labels, scores), average_precision_score(labels, scores), f1.max()


def regions_of(masks: np.ndarray) -> list[Region]:
    """Each 8-connected region, labelled once and not for every threshold."""
    regions = []
    for index, mask in enumerate(masks):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(index, *np.nonzero(labels == number)) for number in range(1, count + 1)]
    return regions


def plain_pro(maps: np.ndarray, masks: np.ndarray) -> float:
    """PRO by a loop over all distinct scores."""
    regions = regions_of(masks)
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        predicted = maps >= threshold
        rates.append(predicted[~masks].mean())
        overlaps.append(np.mean([predicted[region].mean() for region in regions]))
    rates, overlaps = np.array(rates), np.array(overlaps)
    beyond = np.flatnonzero(rates > 0.3)[0]
    share = (0.3 - rates[beyond - 1]) / (rates[beyond] - rates[beyond - 1])
    last = overlaps[beyond - 1] + share * (overlaps[beyond] - overlaps[beyond - 1])
    return auc(np.append(rates[:beyond], 0.3), np.append(overlaps[:beyond], last)) / 0.3


def plain_legacy_pro(maps: np.ndarray, masks: np.ndarray) -> float | None:
    """PRO by a loop over 200 thresholds; None where it is undefined."""
    regions = regions_of(masks)
    low, high = maps.min(), maps.max()
    if low == high:
        return None
    rates, overlaps = [], []
    for threshold in np.arange(low, high, (high - low) / 200):
        predicted = maps > np.float32(threshold)
        overlaps.append(np.mean([predicted[region].mean() for region in regions]))
        rates.append(np.logical_and(~masks, predicted).sum() / (~masks).sum())
    rates, overlaps = np.array(rates), np.array(overlaps)
    overlaps, rates = overlaps[rates < 0.3], rates[rates < 0.3]
    if len(set(rates.tolist())) < 2:
        return None
    return auc((rates - rates.min()) / (rates.max() - rates.min()), overlaps)


def pixel_measures(
    maps: np.ndarray | list[np.ndarray], masks: np.ndarray | list[np.ndarray], legacy_pro: bool = False
) -> tuple[dict[str, float | None], Curves | None]:
    """The project's own measures and curves of these images' pixels, which use the maps up."""
    split = PixelScores(maps, masks).of(0, len(masks))
    return measure_pixels(split, legacy_pro), pixel_curves(split)


def plain_draws(maps: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each measure of each draw, by measuring the maps repeated as often as they were drawn; NaN where undefined."""
    rows = [pixel_measures(np.repeat(maps, row, axis=0), np.repeat(masks, row, axis=0))[0] for row in weights]
    return {name: np.array([row[name] for row in rows], float) for name in ("auroc", "ap", "f1_max", "pro")}
