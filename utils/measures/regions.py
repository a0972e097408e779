"""Pixel scores split by masks, and the connected regions (8 neighbours) of the masks, which PRO weighs the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

BLOCK = 1 << 16  # anomalous scores handled at a time: bounds the memory of intermediate values


class Ascending:
    """Ascending scores in two arrays, of which the measures ask what they ask of one."""

    def __init__(self, one: np.ndarray, other: np.ndarray) -> None:
        self.one, self.other, self.size = one, other, one.size + other.size

    def searchsorted(self, scores: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        """Count for each score those that are less, or with `side` "right" those that are no more."""
        return self.one.searchsorted(scores, side=side) + self.other.searchsorted(scores, side=side)


@dataclass(frozen=True)
class SplitScores:
    """The pixel scores of images, split by their masks."""

    normal: np.ndarray | Ascending  # float32 [N], ascending; a view of the buffer that the maps stood in
    anomalous: np.ndarray  # float32 [P], ascending
    region_size: np.ndarray  # float32 [P], pixels of the region that each anomalous score lies in; not contiguous
    regions: int  # how many there are in all images


class PixelScores:
    """The pixel scores of a class's images, moved apart by their masks in the buffer of the maps, which are DESTROYED.

    Normal scores are moved to the front of the buffer and sorted there: beside the maps it takes 12 bytes for each
    anomalous pixel, and the memory for one image.
    """

    def __init__(self, maps: np.ndarray | list[np.ndarray], masks: np.ndarray | list[np.ndarray]) -> None:
        """Split maps float32 [n, H, W], C-contiguous and writable, by masks bool [n, H, W]; in lists for several sizes.

        A list of maps is emptied as a buffer is filled. A wrong type, shape or memory layout is refused, and NaN or
        infinity in the map of the image named.
        """
        several = isinstance(maps, list)
        scores = np.empty(sum(one.size for one in maps), np.float32) if several else _buffer_of(maps, masks)
        # Real part: the score; imaginary: its region's size (exact up to 2^24). One sort in place moves both.
        anomalous = np.empty(sum(map(np.count_nonzero, masks)), np.complex64)
        self.scores, self.anomalous = scores, anomalous
        self.ends = [(0, 0, 0)]  # before each image and after the last: normal scores, anomalous ones and regions
        regions = normal_end = anomalous_end = 0
        for index, mask in enumerate(masks):
            image_scores = maps[index]
            if several:
                maps[index] = None
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
            self.ends.append((normal_end, anomalous_end, regions))

    def of(self, start: int, stop: int) -> SplitScores:
        """Sort the scores of consecutive images in place, and split them; what had some of these images is lost."""
        (a, b, before), (c, d, regions) = self.ends[start], self.ends[stop]
        normal, anomalous = self.scores[a:c], self.anomalous[b:d]
        normal.sort()
        anomalous.sort()
        return SplitScores(normal, anomalous.real.copy(), anomalous.imag, regions - before)


def _buffer_of(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """View the buffer of maps [n, H, W] as [n H W], if they can be split by these masks in place."""
    if maps.dtype != np.float32 or masks.dtype != np.bool_:
        raise TypeError(f"maps must be float32 and masks bool, not {maps.dtype} and {masks.dtype}")
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise ValueError(f"maps {maps.shape} and masks {masks.shape} must both be of one shape [n, H, W]")
    if not (maps.flags.c_contiguous and maps.flags.writeable):
        raise ValueError("maps must be C-contiguous and writable, as they are sorted in place")
    return maps.reshape(-1)


def region_sizes(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Measure the region that each pixel of a mask [H, W] lies in: int64 [p], as `values[mask]`; count the regions."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    label = labels[mask]
    return np.bincount(label)[label], count - 1  # one label is the background's


def blocks(size: int) -> Iterator[slice]:
    """Cut `size` items into slices of at most `BLOCK`."""
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))
