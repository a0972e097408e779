"""What goes into the evaluation loop and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from utils.measures.curves import Curves

if TYPE_CHECKING:  # pictures and pages are made without PyTorch, too
    from torch import Tensor


class Prediction(NamedTuple):
    """What a detector says of a batch."""

    maps: Tensor  # float32 [B, H, W], higher where more anomalous
    text_prob: Tensor | None  # [B] in [0, 1], how well an image fits the text of an anomaly; None: it does not say
    tokens: Sequence[Tensor] | None = None  # patch tokens of each tap [B, N, C], where they were asked for
    distances: Tensor | None = None  # of patches to K sets of normal images [B, K, g, g], where there are such


class Detector(Protocol):
    """What the loop asks of a method; if it says in `no_maps` why its maps mean nothing, images alone are measured."""

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        """Predict maps and probabilities of normalised images [B, 3, S, S] of the named classes."""

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        """Score a class's images [n] by their probabilities (NaN if there are none), map maxima and minima, all [n]."""


class Sample(Protocol):
    """What the loop needs to know of an image."""

    img_path: str
    mask_path: str
    cls_name: str
    specie_name: str  # kind of anomaly
    anomaly: int | None  # 0 or 1; None where no label is known


class ImageMap(NamedTuple):
    """An image and its map."""

    sample: Sample
    image: Tensor | None  # as it was read, see `Batch`: [C, H, W]; None where no writer needs it
    anomaly_map: np.ndarray  # float32 [H, W]
    mask: np.ndarray | None  # bool [H, W], all False for a normal image; None where it is not known
    text_prob: float | None  # in [0, 1]; None of a method that gives none
    distances: np.ndarray | None = None  # of patches to K sets of normal images [K, g, g]


class ClassMaps(NamedTuple):
    """The maps of a class's n images."""

    samples: Sequence[Sample]
    maps: np.ndarray | list[np.ndarray]  # float32 [n, H, W], n of [H, W] of several sizes, or [0, H, W] if not needed
    masks: np.ndarray | list[np.ndarray]  # bool, of the shape of the maps
    has_mask: np.ndarray  # bool [n], whether the mask is known
    text_prob: np.ndarray  # [n] in [0, 1], NaN of a method that gives none
    map_max: np.ndarray  # [n]
    map_min: np.ndarray  # [n]
    left_out: Sequence[str] = ()  # why further images of the class could not be read
    distances: Sequence[np.ndarray | None] = ()  # see `ImageMap`


class ImageScore(NamedTuple):
    """One row of scores.csv; what is not known is None."""

    image_path: str
    class_name: str
    label: int | None
    score: float
    text_prob: float | None = None
    map_max: float | None = None


@dataclass(frozen=True)
class ClassResult:
    """The images of a class and what was measured on them."""

    name: str
    images: list[ImageScore]
    measures: dict[str, float | None]  # fractions; None where undefined, and a note says why
    notes: list[str]  # on the measures, and on what was left out
    draws: dict[str, np.ndarray] = field(default_factory=dict)  # values [resamples] of each defined measure, if drawn
    pixel_curves: Curves | None = None  # those behind the pixel measures; None where these are undefined
    map_shape: tuple[Any, ...] | None = None  # height and width, those of each where they differ
    kinds: dict[str, dict[str, float | None]] = field(default_factory=dict)  # `images` and measures, if there are two


class Writer(Protocol):
    """Writes something of a run as the evaluation loop goes on; a subclass has the methods that it needs."""

    needs_images = False  # whether `image` is called
    needs_maps = False  # whether `class_maps` is called, so that maps are kept where no measure needs them
    maps_in_thread = False  # whether another thread may call it, while `image` is called for the next class

    def image(self, image: ImageMap) -> None:
        """Take the next image of a class."""

    def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
        """Take a class's maps and image scores [n], before the measures use the maps up."""

    def class_done(self, result: ClassResult) -> None:
        """Take a class's scores and measures."""

    def kept(self) -> Any:
        """Give what is to be known of the class that was done last when a stopped run is gone on with, as JSON."""

    def is_there(self, result: ClassResult) -> bool:
        """Tell whether all that is written of a class that an earlier run did is there."""
        return True

    def restore(self, result: ClassResult, kept: Any) -> None:
        """Take a class that an earlier run did, and what `kept` gave then."""

    def finish(self) -> str | None:
        """Write what comes last, of a run that is stopped too; returns what to tell the user, None for nothing."""
