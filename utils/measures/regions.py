"""Pixel scores split by masks, and the connected regions (8 neighbours) of the masks, which PRO weighs the same."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

BLOCK = 1 << 16  # anomalous scores handled at a time: bounds the memory of intermediate values


class Ascending:
    """Ascending scores in several arrays, of which the measures ask what they ask of one."""

    def __init__(self, *parts: np.ndarray) -> None:
        self.parts, self.size = parts, sum(part.size for part in parts)

    def searchsorted(self, scores: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        """Count for each score those that are less, or with `side` "right" those that are no more."""
        return np.sum([part.searchsorted(scores, side=side) for part in self.parts], axis=0)

    def __getitem__(self, ranks: np.ndarray | int) -> np.ndarray:
        """Give the scores at these places of all in ascending order, by halving the range of float32 numbers."""
        ends = np.array([(part[0], part[-1]) for part in self.parts if part.size])
        ranks = np.asarray(ranks) % self.size
        low, high = (np.full(ranks.shape, _key(end)) for end in (ends.min(), ends.max()))
        while (low < high).any():
            middle = (low + high) // 2
            reached = self.searchsorted(_number(middle), side="right") > ranks
            low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
        return _number(low)[()]


def _key(number: np.ndarray) -> np.ndarray:
    """Number the float32 numbers in their order."""
    bits = np.asarray(number, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _number(key: np.ndarray) -> np.ndarray:
    """Give the float32 number that has a `_key`."""
    return np.where(key < 0, -key - (1 << 31), key).astype(np.int32).view(np.float32)


@dataclass(frozen=True)
class SplitScores:
    """The pixel scores of images, split by their masks."""

    normal: np.ndarray | Ascending  # float32 [N], ascending; a view of the buffer that the maps stood in
    anomalous: np.ndarray  # float32 [P], ascending
    region_size: np.ndarray  # float32 [P], pixels of the region that each anomalous score lies in; not contiguous
    regions: int  # how many there are in all images

    def beside(self, other: "SplitScores") -> "SplitScores":
        """Set the anomalous scores against the normal ones of another's images as well, which have no other."""
        return replace(self, normal=Ascending(other.normal, self.normal))


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
        """Sort the scores of consecutive images in place, and split them."""
        (a, b, before), (c, d, regions) = self.ends[start], self.ends[stop]
        normal, anomalous = self.scores[a:c], self.anomalous[b:d]
        normal.sort()
        anomalous.sort()
        return SplitScores(normal, anomalous.real.copy(), anomalous.imag, regions - before)

    def of_all(self, parts: Iterable[SplitScores]) -> SplitScores:
        """Unite what `of` gave, all images together; the parts' own region sizes are lost."""
        normal = Ascending(*(part.normal for part in parts))
        self.anomalous.sort()
        return SplitScores(normal, self.anomalous.real.copy(), self.anomalous.imag, self.ends[-1][2])


def _buffer_of(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The buffer of maps [n, H, W], as a view [n H W], if they can be split by these masks in place."""
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
