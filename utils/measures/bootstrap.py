"""Confidence intervals by the bootstrap: how far a measure depends on which images happen to be in the test set.

The images of a class are drawn anew with replacement, as many as there are, and the measures taken again; the interval
is made of the percentiles of many such draws (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13). What varies is the image with all its pixels, since pixels of one image are anything but independent.

Draws are stratified: each has as many normal and as many anomalous images as the set, as its makers chose those
numbers (the two-sample bootstrap of chapter 8 there; also the default of the pROC package, Robin et al. 2011). Images
are told apart by what is known of their masks, too, so that a measure that is defined for the set is defined for each
draw. Scores and maps stay as they are: what was normalised over the class is not normalised anew. Where a class has few
images of a kind, intervals are too narrow, and those of F1-max and AP lie somewhat high: draws repeat images, and these
two gain from that.
"""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        resamples: how many draws.
        confidence: in percent, the share of the draws within the interval.
        seed: of the random numbers.
    """

    resamples: int
    confidence: float = 95.0
    seed: int = 42

    def draw(self, class_name: str, kinds: np.ndarray) -> np.ndarray:
        """How often each image of a class is in each draw.

        The random numbers depend on the seed, the class's name and the images' kinds alone: other classes
        change nothing, and two methods on the same images get the same draws.

        Args:
            class_name: the class.
            kinds: int [n, m], what is told apart of each image; images with equal rows are drawn for each other.

        Returns:
            int64 [resamples, n].
        """
        digest = hashlib.sha256(class_name.encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng([self.seed, int.from_bytes(digest, "big")])
        weights = np.zeros((self.resamples, len(kinds)), np.int64)
        for kind in np.unique(kinds, axis=0):
            images = np.flatnonzero((kinds == kind).all(axis=1))
            drawn = rng.integers(images.size, size=(self.resamples, images.size))
            cells = drawn + images.size * np.arange(self.resamples)[:, None]
            counts = np.bincount(cells.ravel(), minlength=self.resamples * images.size)
            weights[:, images] = counts.reshape(self.resamples, images.size)
        return weights

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """The percentile interval of a measure's values [resamples]."""
        outside = (1 - self.confidence / 100) / 2
        low, high = np.quantile(values, [outside, 1 - outside])
        return float(low), float(high)

    def __str__(self) -> str:
        return (
            f"{self.confidence:g} % bootstrap intervals: percentiles of {self.resamples} draws of each class's images, "
            f"stratified by label, seed {self.seed}"
        )
