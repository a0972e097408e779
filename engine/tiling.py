"""Prediction by tiles: any detector over the overlapping windows of pictures, and one map a picture."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from datasets.transforms import as_array, image_transform
from engine.options import TileOptions
from models.tiles import Tiling, Window, blend_in, cut, windows
from utils.evaluation_types import Prediction

K = TypeVar("K")


class Picture(NamedTuple):
    """What is to be predicted of an image."""

    whole: Tensor  # at the detector's size, uint8 [3, S, S]
    pixels: Tensor | None  # uint8 RGB [H, W, 3], to cut tiles from
    class_name: str


def tiling_of(options: TileOptions) -> Tiling | None:
    """Say how resolved options have pictures cut; None if they do not."""
    if options.tile is None:
        return None
    return Tiling(side=options.tile, overlap=options.overlap, scale=options.tile_scale, context=options.tile_context)


def predict_tiled(
    predict: Callable[[Tensor, Sequence[str]], Prediction],
    pictures: Iterable[tuple[K, Picture | None]],
    tiling: Tiling | None,
    batch_size: int,
) -> Iterator[tuple[K, Prediction | None]]:
    """Predict pictures by tiles: a map [1, H, W] of each one's own size, and the probability of the whole.

    A tile is resized to the detector's input; its map is resized back and blended with its neighbours'. Of the whole
    picture, which is predicted beside them, come `text_prob` and, as context, half of the map. The tiles of one class's
    pictures fill batches together; besides a batch, the pictures and maps are held that its tiles are of.

    Args:
        predict: for images uint8 [B, 3, S, S] and their classes, which normalises them for a detector.
        pictures: each behind a key, under which its prediction is given, in the same order; None passes through.
        tiling: None to predict pictures whole, their maps of the detector's size.
    """
    pending: deque[_Pending] = deque()

    def inputs() -> Iterator[tuple[_Pending, Window | None, Tensor]]:
        for key, picture in pictures:
            pending.append(one := _Pending(key, picture, tiling))
            yield from one.inputs()

    for name, of_class in groupby(inputs(), key=lambda one: one[0].picture.class_name):
        while batch := list(islice(of_class, batch_size)):
            prediction = predict(torch.stack([image for *_, image in batch]), [name] * len(batch))
            maps, text_prob = prediction.maps.float().cpu(), prediction.text_prob
            text_prob = [None] * len(batch) if text_prob is None else text_prob.double().cpu()
            for (of, window, _), *found in zip(batch, maps, text_prob, strict=True):
                of.take(window, *found)
            del batch, of  # which hold a picture
            while pending and not pending[0].missing:
                yield pending.popleft().result()
    yield from (one.result() for one in pending)


class _Pending:
    """A picture on its way, and what is known of its map."""

    def __init__(self, key: Any, picture: Picture | None, tiling: Tiling | None) -> None:
        self.key, self.picture, self.tiling = key, picture, tiling
        self.windows: list[Window] = []
        if picture is not None and tiling is not None:
            self.scaled = _resized(picture.pixels.numpy(), tiling.scale)
            self.windows = windows(*self.scaled.shape[:2], tiling)
            self.map = torch.zeros(self.scaled.shape[:2])
        self.missing = 0 if picture is None else 1 + len(self.windows)  # predictions

    def inputs(self) -> Iterator[tuple["_Pending", Window | None, Tensor]]:
        """Give the whole picture and its tiles, one by one, at the detector's size."""
        if self.picture is not None:
            yield self, None, self.picture.whole
        for window in self.windows:
            tile = Image.fromarray(cut(self.scaled, window, self.tiling.side))
            yield self, window, image_transform(tile, self.picture.whole.shape[-1])

    def take(self, window: Window | None, scores: Tensor, probability: Tensor | None) -> None:
        """Take the prediction of a tile, or, without a window, of the whole picture."""
        self.missing -= 1
        if window is None:
            self.whole, self.text_prob = scores, probability
        else:
            blend_in(self.map, window, _fitted(scores, (self.tiling.side, self.tiling.side)))

    def result(self) -> tuple[Any, Prediction | None]:
        if self.picture is None:
            return self.key, None
        found = self.whole
        if self.tiling is not None:
            size = self.picture.pixels.shape[:2]
            found = _fitted(self.map, size)
            if self.tiling.context:
                found.add_(_fitted(self.whole, size)).mul_(0.5)
        return self.key, Prediction(found[None], None if self.text_prob is None else self.text_prob[None])


def _resized(pixels: np.ndarray, scale: float) -> np.ndarray:
    """Resize a picture, uint8 [H, W, 3], by a factor, bicubic and antialiased."""
    if scale == 1:
        return pixels
    size = [max(1, round(extent * scale)) for extent in pixels.shape[1::-1]]
    return as_array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _fitted(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a map [h, w], bilinear and, where it shrinks, antialiased."""
    if scores.shape == torch.Size(size):
        return scores
    return F.interpolate(scores[None, None], tuple(size), mode="bilinear", align_corners=False, antialias=True)[0, 0]
