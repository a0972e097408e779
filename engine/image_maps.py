"""A detector over a loader's batches: the map and the probability of each image."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from datasets.loader import Batch, PartialBatch
from datasets.transforms import normalised
from engine.tiling import Picture, predict_tiled
from models.tiles import Tiling
from utils.evaluation_types import Detector, ImageMap, Prediction, Sample
from utils.runtime import Stopwatch

AHEAD = {"cpu": 0, "cuda": 1}  # batches that are given to the device before one's maps are waited for


def predict_images(
    detector: Detector,
    loader: Iterable[Batch | PartialBatch],
    samples: Sequence[Sample],
    device: torch.device,
    stopwatch: Stopwatch,
    tiling: Tiling | None,
    batch_size: int,
    with_images: bool,
) -> Iterator[list[ImageMap | str]]:
    """Run the detector over the loader's batches; yields each batch's images, or why one could not be read."""

    def loaded() -> Iterator[PartialBatch]:
        batches = iter(loader)
        while True:
            with stopwatch("loading"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch if isinstance(batch, PartialBatch) else PartialBatch(batch, {})

    def predict(images: torch.Tensor, class_names: Sequence[str]) -> Prediction:
        images = images.to(device, non_blocking=True)
        return detector.predict(normalised(images) if images.dtype == torch.uint8 else images, class_names)

    def classes(batch: Batch) -> list[str]:
        return [samples[int(index)].cls_name for index in batch.indices]

    if tiling is None:
        predicted = ((one, one.batch and predict(one.batch.images, classes(one.batch))) for one in loaded())
    else:
        pictures = (
            (one, one.batch and Picture(one.batch.images[0], one.batch.pictures[0], *classes(one.batch)))
            for one in loaded()
        )
        predicted = predict_tiled(predict, pictures, tiling, batch_size)
    predicted = _behind(((one, found and _to_cpu(found)) for one, found in predicted), AHEAD[device.type])
    while True:
        loading = stopwatch["loading"]
        with stopwatch("prediction"):
            one = next(predicted, None)
            prediction = one and one[1] and one[1]()
        stopwatch["prediction"] -= stopwatch["loading"] - loading  # which goes on in there
        if one is None:
            return
        batch, found = one[0]
        if batch is not None:
            indices, maps, text_prob = batch.indices, prediction.maps.numpy(), prediction.text_prob
            text_prob = [None] * len(maps) if text_prob is None else text_prob.tolist()
            distances = [None] * len(maps) if prediction.distances is None else prediction.distances.numpy()
            images = batch.images if with_images else [None] * len(maps)
            masks = [mask if known else None for mask, known in zip(batch.masks.numpy(), batch.has_mask, strict=True)]
            for index, *fields in zip(map(int, indices), images, maps, masks, text_prob, distances, strict=True):
                found[index] = ImageMap(samples[index], *fields)
        yield [found[index] for index in sorted(found)]


def _to_cpu(found: Prediction) -> Callable[[], Prediction]:
    """Start a prediction's way to the CPU; what is returned waits for its end, so that nothing is read before."""
    text_prob = None if found.text_prob is None else found.text_prob.double()
    wanted = found.maps.float(), text_prob, found.distances
    # From CUDA into pinned memory, while the device goes on.
    maps, text_prob, distances = (one if one is None else one.to("cpu", non_blocking=True) for one in wanted)
    copied = torch.cuda.current_stream(found.maps.device).record_event() if found.maps.is_cuda else None

    def wait() -> Prediction:
        if copied is not None:
            copied.synchronize()
        return Prediction(maps, text_prob, distances=distances)

    return wait


def _behind(items: Iterable[Any], count: int) -> Iterator[Any]:
    """Yield each item when so many that follow are made, or all."""
    held = deque()
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.popleft()
    yield from held
