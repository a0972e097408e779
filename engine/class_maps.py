"""From batches to the measures of a class: its images predicted, their maps gathered, and measured in a thread."""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch

from data.masks import vanished
from datasets.loader import Batch, PartialBatch
from datasets.transforms import normalised
from engine.tiling import Picture, predict_tiled
from models.tiles import Tiling
from utils.errors import UserError, some_of
from utils.evaluation_types import ClassMaps, ClassResult, Detector, ImageMap, ImageScore, Prediction, Sample, Writer
from utils.measures.class_measures import measure_class
from utils.runtime import Stopwatch

logger = logging.getLogger(__name__)

HELD_BYTES = 1 << 29  # of maps and masks of classes that are measured at the same time
AHEAD = {"cpu": 0, "cuda": 1}  # batches that are given to the device before one's maps are waited for
T = TypeVar("T")


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


def collect_class(
    samples: Sequence[Sample],
    images: Iterator[ImageMap | str],
    keep: bool,
    writers: Sequence[Writer],
    stopwatch: Stopwatch,
) -> ClassMaps:
    """Gather a class's images that could be read, and their maps if they are to be kept or measured."""
    n = len(samples)
    rows = n if keep or any(sample.mask_path for sample in samples) else 0
    has_mask = np.zeros(n, bool)
    text_prob, map_max, map_min = np.empty((3, n))
    done, left_out, distances = [], [], []
    for sample in samples:
        image = next(images)
        if isinstance(image, str):
            logger.warning("left out: %s", image)
            left_out.append(sample.img_path)
            continue
        i = len(done)
        done.append(sample)
        distances.append(image.distances)
        scores, probability = image.anomaly_map, image.text_prob
        map_max[i], map_min[i] = scores.max(), scores.min()  # which pass NaN on
        text_prob[i] = np.nan if probability is None else probability
        if not np.isfinite([map_max[i], map_min[i], probability or 0]).all():
            raise UserError(
                f"{sample.img_path}: the anomaly map has values that are not finite; "
                "with --precision fp16 or bf16 try fp32, else check the weights"
            )
        if i == 0:
            maps, masks = np.empty((rows, *scores.shape), np.float32), np.zeros((rows, *scores.shape), bool)
        if rows and isinstance(maps, np.ndarray) and scores.shape != maps.shape[1:]:
            maps, masks = ([*kept[:i], *[None] * (rows - i)] for kept in (maps, masks))
        has_mask[i] = image.mask is not None
        if has_mask[i] and image.mask.shape != scores.shape:
            here, there = (" x ".join(map(str, shape)) for shape in (scores.shape, image.mask.shape))
            raise UserError(f"the map of {sample.img_path} is {here} pixels high and wide, its mask {there}")
        if rows:
            mask = image.mask if has_mask[i] else np.zeros(scores.shape, bool)
            # In a list, a view would keep in memory all that came with it.
            maps[i], masks[i] = scores, mask.copy() if isinstance(masks, list) else mask
        with stopwatch("output"):
            for writer in writers:
                writer.image(image)
    n, rows = len(done), min(rows, len(done))
    if not done:
        raise UserError(f"no image of class {samples[0].cls_name} can be read: see to its files, or leave it out")
    of_images = (values[:n] for values in (has_mask, text_prob, map_max, map_min))
    return ClassMaps(done, maps[:rows], masks[:rows], *of_images, left_out, distances)


class Measuring:
    """Measures classes in threads, hands each one's result to the writers in their order and adds it to `results`.

    A class that was predicted before an error is measured to its end; after an interruption nothing more is wanted.

    Args:
        at_once: classes that are measured at the same time.
        settings: what to measure of each class, see `measure_class`.
    """

    def __init__(
        self, writers: Sequence[Writer], stopwatch: Stopwatch, at_once: int, settings: Mapping[str, Any]
    ) -> None:
        self._writers, self._stopwatch, self._at_once, self._settings = writers, stopwatch, at_once, settings
        self._pool = ThreadPoolExecutor(at_once, "measures")
        self._pending: list[Future[ClassResult]] = []
        self.results: list[ClassResult] = []

    def __enter__(self) -> "Measuring":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and issubclass(kind, Exception):
                self.finish()
        finally:  # without waiting
            self._pool.shutdown(wait=False, cancel_futures=True)

    def start(self, name: str, maps: ClassMaps, scores: np.ndarray) -> None:
        """Give a class's maps to the writers that take them in a thread, then measure it, which uses them up."""
        self._pending.append(self._pool.submit(self._measure, name, maps, scores))

    def _measure(self, name: str, maps: ClassMaps, scores: np.ndarray) -> ClassResult:
        for writer in self._writers:
            if writer.needs_maps and writer.maps_in_thread:
                writer.class_maps(maps, scores)
        known = [None if np.isnan(value) else value for value in maps.text_prob.tolist()]
        columns = zip(maps.samples, scores.tolist(), known, maps.map_max.tolist(), strict=True)
        rows = [ImageScore(sample.img_path, name, sample.anomaly, *values) for sample, *values in columns]
        gone = defaultdict(list)
        for one, mask, has_mask in zip(maps.samples, maps.masks, maps.has_mask, strict=False):  # with none, no masks
            if one.anomaly == 1 and has_mask and not mask.any():
                gone[mask.shape].append(one.mask_path)
        species = [sample.specie_name for sample in maps.samples]
        result = measure_class(rows, maps.maps, maps.masks, maps.has_mask, species=species, **self._settings)
        for shape, paths in gone.items():
            result.notes.append(vanished(paths, *shape))
            logger.warning("%s", result.notes[-1])
        if maps.left_out:
            count, named = len(maps.left_out), some_of(maps.left_out)
            result.notes.insert(0, f"images left out, as they cannot be read ({count}): {named}")
        return result

    def make_room(self, maps: ClassMaps) -> None:
        """Wait until a class may be measured beside those that are, of which large ones leave no room for others."""
        size = sum(one.nbytes for values in (maps.maps, maps.masks) for one in values)
        self.finish(max(0, min(self._at_once, HELD_BYTES // max(1, size)) - 1))

    def finish(self, but: int = 0) -> None:
        """Wait for the classes that are measured, but the last so many."""
        while len(self._pending) > but:
            (first, *others), self._pending = self._pending, []  # of which none is wanted after an error
            with self._stopwatch("measures"):
                result = first.result()
            with self._stopwatch("output"):
                for writer in self._writers:
                    writer.class_done(result)
            self.results.append(result)
            self._pending = others

    def beside(self, items: Iterable[T]) -> Iterator[T]:
        """Pass on items, and see between them whether the first class has been measured."""
        for item in items:
            if self._pending and self._pending[0].done():
                self.finish(len(self._pending) - 1)
            yield item
