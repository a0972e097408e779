"""Prediction by tiles, against cutting, predicting and averaging pixel by pixel; and all methods by way of it."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from datasets.photographs import Photograph
from datasets.transforms import image_transform, normalised
from engine.predicting import Predictor
from engine.tiling import Picture, predict_tiled
from models.tiles import Tiling, cut, windows
from utils.evaluation_types import Prediction

SIZE = 32  # of the detector's input


class Blurred:
    """Takes an image's first channel, blurred, for its map, its mean for its probability; keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, ...]] = []

    def predict(self, images, class_names):
        assert (images.shape[1:], images.dtype) == ((3, SIZE, SIZE), torch.uint8)
        images = normalised(images)
        self.batches.append(tuple(class_names))
        return Prediction(F.avg_pool2d(images[:, :1], 5, 1, 2)[:, 0], images.mean(dim=(1, 2, 3)).sigmoid())


def picture(height: int, width: int, name: str = "bolt", seed: int = 0) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Picture(image_transform(Image.fromarray(pixels), SIZE), torch.from_numpy(pixels), name)


def plainly(one: Picture, tiling: Tiling) -> np.ndarray:
    """The map of a picture: each pixel's mean over its windows, by the triangle's weights, in loops."""
    height, width = one.pixels.shape[:2]
    total, weights = np.zeros((2, height, width))
    for window in windows(height, width, tiling):
        tile = cut(one.pixels.numpy(), window, tiling.side)
        found = Blurred().predict(image_transform(Image.fromarray(tile), SIZE)[None], ["bolt"]).maps
        found = F.interpolate(found[None], (tiling.side, tiling.side), mode="bilinear", antialias=True)[0, 0].numpy()
        rows, columns = range(height)[window.rows], range(width)[window.columns]
        for i, y in enumerate(rows):
            for j, x in enumerate(columns):
                down = min(i + 0.5, len(rows) - i - 0.5) / len(rows)
                across = min(j + 0.5, len(columns) - j - 0.5) / len(columns)
                total[y, x] += down * across * found[i, j]
                weights[y, x] += down * across
    return total / weights


def context(one: Picture) -> np.ndarray:
    found = Blurred().predict(one.whole[None], ["bolt"]).maps[None]
    return F.interpolate(found, one.pixels.shape[:2], mode="bilinear", antialias=True)[0, 0].numpy()


@pytest.mark.parametrize("side", [SIZE, 20, 50])
@pytest.mark.parametrize("shape", [(75, 61), (32, 32), (18, 90), (9, 7)])
def test_maps_are_those_of_the_tiles_and_the_whole(side, shape):
    one = picture(*shape)
    expected = plainly(one, Tiling(side=side))
    for with_context in (False, True):
        tiling = Tiling(side=side, context=with_context)
        ((key, found),) = predict_tiled(Blurred().predict, [("a", one)], tiling, 4)
        assert key == "a"
        assert found.maps.shape == (1, *shape)
        whole = (expected + context(one)) / 2 if with_context else expected
        np.testing.assert_allclose(found.maps[0].numpy(), whole, atol=1e-5)
        assert found.text_prob == Blurred().predict(one.whole[None], ["bolt"]).text_prob


def test_a_scaled_picture_is_cut_at_its_scale_and_mapped_at_its_own():
    one = picture(80, 100)
    small = np.array(Image.fromarray(one.pixels.numpy()).resize((50, 40), Image.Resampling.BICUBIC))
    ((_, half),) = predict_tiled(Blurred().predict, [(0, one)], Tiling(side=SIZE, scale=0.5, context=False), 4)
    expected = plainly(Picture(one.whole, torch.from_numpy(small), "bolt"), Tiling(side=SIZE))
    expected = F.interpolate(torch.from_numpy(expected)[None, None], (80, 100), mode="bilinear")[0, 0]
    np.testing.assert_allclose(half.maps[0].numpy(), expected.numpy(), atol=1e-5)


def test_batches_are_filled_across_pictures_and_never_across_classes():
    names = ["bolt", "bolt", "bolt", "nut", "nut"]
    pictures = [(i, picture(40, 40, name, seed=i)) for i, name in enumerate(names)]  # four tiles and the whole each
    pictures[1:1] = [("broken", None)]
    detector = Blurred()
    found = dict(predict_tiled(detector.predict, [*pictures, ("last", None)], Tiling(side=SIZE), 4))
    assert list(found) == [0, "broken", 1, 2, 3, 4, "last"]
    assert [(len(batch), *set(batch)) for batch in detector.batches] == [
        *[(4, "bolt")] * 3,
        (3, "bolt"),
        *[(4, "nut")] * 2,
        (2, "nut"),
    ]
    assert found["broken"] is found["last"] is None
    for i, (_, one) in enumerate([pair for pair in pictures if pair[1] is not None]):
        ((_, alone),) = predict_tiled(Blurred().predict, [(i, one)], Tiling(side=SIZE), 100)
        torch.testing.assert_close(found[i].maps, alone.maps, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_no_more_pictures_are_held_than_a_batch_is_of(batch_size):
    read = 0

    def pictures() -> Iterator[tuple[int, Picture]]:
        nonlocal read
        for i in range(20):
            read += 1
            yield i, picture(40, 40, seed=i)

    given = 0
    for _ in predict_tiled(Blurred().predict, pictures(), Tiling(side=SIZE), batch_size):
        given += 1
        assert read - given <= 1 + batch_size // 5
    assert given == 20


def test_a_detector_without_probabilities_may_be_tiled():
    def predict(images, class_names):
        return Prediction(images[:, 0], None)

    ((_, found),) = predict_tiled(predict, [(0, picture(40, 50))], Tiling(side=SIZE), 3)
    assert found.text_prob is None
    assert found.maps.shape == (1, 40, 50)


def test_photographs_that_wait_keep_no_memory_of_their_pixels():
    memory = torch.zeros(100_000, dtype=torch.uint8)  # as what comes from a worker lies in one
    image = memory[: 3 * SIZE * SIZE].reshape(3, SIZE, SIZE)
    item = Photograph(image, memory[:12].reshape(2, 2, 3), (8, 8), memory[: 8 * 8 * 3].reshape(8, 8, 3))
    detector = SimpleNamespace(predict=lambda images, names: Prediction(images[:, 0], images.mean((1, 2, 3))))
    options, device = SimpleNamespace(object="nut", batch_size=2), torch.device("cpu")
    self = SimpleNamespace(detector=detector, options=options, device=device, tiling=Tiling(side=4))
    ((_, found),) = Predictor.predict_items(self, [(0, item)])
    kept = found.photograph
    assert kept.pixels is None
    assert torch.equal(kept.image, image)
    for tensor in (kept.image, kept.picture):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
