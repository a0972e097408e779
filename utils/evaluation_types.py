"""What goes into the evaluation loop and what comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from utils.measures.curves import Curves


@dataclass(frozen=True)
class Prediction:
    """What a detector says of a batch.

    Attributes:
        maps: float32 [B, H, W], higher where more anomalous.
        text_prob: how well an image fits the text of an anomaly [B], in [0, 1]; None of a method that does not say.
    """

    maps: Tensor
    text_prob: Tensor | None


class Detector(Protocol):
    """What the loop asks of a method."""

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        """Maps and probabilities of normalised images [B, 3, S, S] of the named classes."""

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        """Image scores [n] of a whole class from its images' probabilities (NaN if it gives none), map maxima and
        minima.
        """


class Sample(Protocol):
    """What the loop needs to know of an image; `anomaly` is 0, 1, or None where no label is known."""

    img_path: str
    mask_path: str
    cls_name: str
    anomaly: int | None


class Batch(Protocol):
    """What the loop needs of a batch, in the order of the samples; images without a known mask have none set."""

    indices: Sequence[int]  # which samples they are
    images: Tensor  # what the detector takes, float32 [B, 3, S, S] for one that looks at images
    masks: Tensor  # bool [B, H, W], of the maps' size
    has_mask: Tensor  # bool [B]


@dataclass(frozen=True, slots=True)  # as there are as many as images
class ImageScore:
    """One row of scores.csv; what is not known is None."""

    image_path: str
    class_name: str
    label: int | None
    score: float
    text_prob: float | None
    map_max: float


@dataclass(frozen=True)
class ClassResult:
    """A class's images and measures.

    Attributes:
        name: of the class.
        images: their scores.
        measures: fractions; None where undefined, and a note says why.
        notes: on the measures.
        draws: the values [resamples] in bootstrap draws of each measure that is defined; empty if none were made.
        pixel_curves: those behind the pixel measures; None where these are undefined.
    """

    name: str
    images: list[ImageScore]
    measures: dict[str, float | None]
    notes: list[str]
    draws: dict[str, np.ndarray] = field(default_factory=dict)
    pixel_curves: Curves | None = None


@dataclass(frozen=True)
class ImageMap:
    """An image and its map.

    Attributes:
        sample: which image.
        image: what the detector was given, float32 [C, H, W].
        anomaly_map: float32 [H, W].
        mask: bool [H, W] (all False for a normal image), None where it is not known.
    """

    sample: Sample
    image: Tensor
    anomaly_map: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class ClassMaps:
    """Everything about one class's images that a picture needs.

    Attributes:
        samples: the images.
        maps: float32 [n, H, W].
        masks: bool [n, H, W].
        has_mask: bool [n], whether the mask is known.
        scores: image scores [n].
    """

    samples: Sequence[Sample]
    maps: np.ndarray
    masks: np.ndarray
    has_mask: np.ndarray
    scores: np.ndarray
