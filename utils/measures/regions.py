"""Splitting a class's anomaly maps by its masks: normal scores, and anomalous ones with their region's size."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class SplitScores:
    """The pixel scores of one class.

    Attributes:
        normal: [N] float32, ascending; a view of the buffer that the maps stood in.
        anomalous: [P] float32, ascending; not contiguous.
        region_size: [P] float32, pixels of the region that each anomalous score lies in; not contiguous.
        regions: how many regions there are in all images.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    region_size: np.ndarray
    regions: int


def split_scores(maps: np.ndarray, masks: np.ndarray) -> SplitScores:
    """Split the scores of a class's maps into normal and anomalous ones; DESTROYS `maps`.

    The normal scores are moved to the front of the maps' own buffer and sorted there: what is needed beside
    the maps is 8 bytes for each anomalous pixel, and the memory for one image.

    Args:
        maps: [n, H, W] float32, C-contiguous, writable; its content is meaningless afterwards.
        masks: [n, H, W] bool, True where a pixel is anomalous; regions are its 8-connected components.

    Raises:
        TypeError, ValueError: a wrong type, shape or memory layout, or a map with NaN or infinity (the
            message has the image's index).
    """
    _check(maps, masks)
    scores = maps.reshape(-1)  # a view, since the maps are C-contiguous
    # Real part: the score; imaginary: its region's size (exact up to 2^24). One sort in place moves both.
    anomalous = np.empty(np.count_nonzero(masks), np.complex64)
    regions = normal_end = anomalous_end = 0
    for index, (image_scores, mask) in enumerate(zip(maps, masks, strict=True)):
        if not np.isfinite(image_scores).all():
            raise ValueError(f"the anomaly map of image {index} has values that are not finite")
        inside = image_scores[mask]
        if inside.size:
            here = anomalous[anomalous_end : anomalous_end + inside.size]
            here.real = inside
            here.imag, count = region_sizes(mask)
            anomalous_end += inside.size
            regions += count
        # What is written ends at or before the end of what was read: later images are still intact.
        outside = image_scores[~mask] if inside.size else image_scores.ravel()
        scores[normal_end : normal_end + outside.size] = outside
        normal_end += outside.size
    normal = scores[:normal_end]
    normal.sort()
    anomalous.sort()
    return SplitScores(normal, anomalous.real, anomalous.imag, regions)


def region_sizes(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Size of the 8-connected region that each anomalous pixel lies in, and how many regions there are.

    Args:
        mask: bool [H, W].

    Returns:
        int64 [p], in the order of `values[mask]`, and the number.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    label = labels[mask]
    return np.bincount(label)[label], count - 1  # one label is the background's


def _check(maps: np.ndarray, masks: np.ndarray) -> None:
    if maps.dtype != np.float32 or masks.dtype != np.bool_:
        raise TypeError(f"maps must be float32 and masks bool, not {maps.dtype} and {masks.dtype}")
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise ValueError(f"maps {maps.shape} and masks {masks.shape} must both be of one shape [n, H, W]")
    if not (maps.flags.c_contiguous and maps.flags.writeable):
        raise ValueError("maps must be C-contiguous and writable, as they are sorted in place")
