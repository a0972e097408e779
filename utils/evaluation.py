"""The one evaluation loop: loader -> maps and scores -> measures, class by class, for any detector."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from utils.distributed import in_turn, is_main
from utils.errors import UserError
from utils.evaluation_types import Batch, ClassMaps, ClassResult, Detector, ImageMap, ImageScore, Sample
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import ClassMeasures, measure_class
from utils.stopwatch import Stopwatch


@dataclass(frozen=True)
class _PredictedBatch:
    """A batch and what the detector says of it; without images where nothing needs them."""

    indices: Sequence[int]
    images: Tensor | None
    masks: np.ndarray
    has_mask: np.ndarray
    maps: np.ndarray
    text_prob: np.ndarray | None


def evaluate(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    *,
    device: torch.device,
    stopwatch: Stopwatch,
    image_scores: Mapping[str, float] | None = None,
    legacy_pro: bool = False,
    bootstrap: Bootstrap | None = None,
    on_map: Callable[[ImageMap], None] | None = None,
    on_class: Callable[[ClassMaps], None] | None = None,
) -> Iterator[ClassResult]:
    """Run a detector over images and measure it class by class.

    Several processes share the batches: each predicts its own, and the main one measures and yields.

    Args:
        detector: the method.
        loader: batches of `samples`, in their order; of several processes, the one of rank r of n gives every n-th
            batch from the r-th on.
        samples: the images, those of a class one after another.
        device: where the detector computes.
        stopwatch: is given the seconds of loading, prediction, measures and output, and, where there are several
            processes, of waiting for the others' predictions.
        image_scores: scores known beforehand, by `img_path`, in the place of the detector's.
        legacy_pro: also compute PRO by 200 thresholds.
        bootstrap: also measure bootstrap draws of each class's images.
        on_map: called with each image and its map.
        on_class: called with each class when its last image is done.

    Yields:
        A class's result as soon as its last image is done.

    Raises:
        UserError: a detector gave a value that is not finite, or maps of two sizes in one class.
    """
    measure = partial(measure_class, legacy_pro=legacy_pro, bootstrap=bootstrap)
    sizes = Counter(sample.cls_name for sample in samples)
    current: _ClassBuffer | None = None
    predictions = _predictions(
        detector, loader, samples, device=device, stopwatch=stopwatch, with_images=on_map is not None
    )
    with tqdm(
        total=len(samples), unit="image", desc="evaluating", dynamic_ncols=True, disable=not is_main()
    ) as progress:
        for batch in in_turn(predictions, UserError, partial(stopwatch, "waiting")):
            maps, text_prob = batch.maps, batch.text_prob
            known = text_prob is not None
            for i, index in enumerate(batch.indices):
                sample = samples[index]
                probability = text_prob[i] if known else np.nan
                if not (np.isfinite(maps[i]).all() and (np.isfinite(probability) or not known)):
                    raise UserError(
                        f"{sample.img_path}: the anomaly map has values that are not finite; "
                        "with --precision fp16 or bf16 try fp32, else check the weights"
                    )
                if current is None:
                    group = samples[index : index + sizes[sample.cls_name]]
                    current = _ClassBuffer(group, maps.shape[1:], on_class is not None)
                mask, has_mask = batch.masks[i], bool(batch.has_mask[i])
                current.add(maps[i], probability, mask, has_mask)
                if on_map is not None:
                    with stopwatch("output"):
                        on_map(ImageMap(sample, batch.images[i], maps[i], mask if has_mask else None))
                if current.is_full:
                    progress.set_postfix_str(sample.cls_name)
                    yield current.finish(detector, stopwatch, image_scores, measure, on_class)
                    current = None
            progress.update(len(batch.indices))


def _predictions(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    *,
    device: torch.device,
    stopwatch: Stopwatch,
    with_images: bool,
) -> Iterator[_PredictedBatch]:
    """What the detector says of each batch of the loader."""
    batches = iter(loader)
    while True:
        with stopwatch("loading"):
            batch = next(batches, None)
        if batch is None:
            return
        with stopwatch("prediction"):
            images = batch.images.to(device, non_blocking=True)
            prediction = detector.predict(images, [samples[index].cls_name for index in batch.indices])
            maps = prediction.maps.float().cpu().numpy()
            text_prob = prediction.text_prob
            text_prob = None if text_prob is None else text_prob.double().cpu().numpy()
        yield _PredictedBatch(
            batch.indices,
            batch.images if with_images else None,
            batch.masks.numpy(),
            batch.has_mask.numpy(),
            maps,
            text_prob,
        )


class _ClassBuffer:
    """Scores of one class, and its maps as long as something needs them."""

    def __init__(self, samples: Sequence[Sample], shape: tuple[int, ...], keep_maps: bool) -> None:
        self.samples = samples
        self.shape = shape
        self.count = 0
        n = len(samples)
        self.text_prob, self.map_max, self.map_min = np.empty(n), np.empty(n), np.empty(n)
        self.has_mask = np.zeros(n, dtype=bool)
        self.keeps_maps = keep_maps or any(sample.mask_path for sample in samples)
        rows = n if self.keeps_maps else 0
        self.maps = np.empty((rows, *shape), dtype=np.float32)
        self.masks = np.zeros((rows, *shape), dtype=bool)

    @property
    def is_full(self) -> bool:
        return self.count == len(self.samples)

    def add(self, anomaly_map: np.ndarray, text_prob: float, mask: np.ndarray, has_mask: bool) -> None:
        i = self.count
        if anomaly_map.shape != self.shape:
            sizes = [f"{height} x {width}" for height, width in (anomaly_map.shape, self.shape)]
            raise UserError(
                f"the map of {self.samples[i].img_path} is {sizes[0]} pixels high and wide, that of its class's "
                f"first image {sizes[1]}: give the maps of a class one size"
            )
        self.text_prob[i], self.has_mask[i] = text_prob, has_mask
        self.map_max[i], self.map_min[i] = anomaly_map.max(), anomaly_map.min()
        if self.keeps_maps:
            self.maps[i], self.masks[i] = anomaly_map, mask
        self.count += 1

    def finish(
        self,
        detector: Detector,
        stopwatch: Stopwatch,
        image_scores: Mapping[str, float] | None,
        measure: Callable[..., ClassMeasures],
        on_class: Callable[[ClassMaps], None] | None,
    ) -> ClassResult:
        if image_scores is None:
            scores = detector.image_scores(self.text_prob, self.map_max, self.map_min)
        else:
            scores = np.array([image_scores[sample.img_path] for sample in self.samples])
        if on_class is not None:
            with stopwatch("output"):
                on_class(ClassMaps(self.samples, self.maps, self.masks, self.has_mask, scores))
        name = self.samples[0].cls_name
        with stopwatch("measures"):
            labels = [sample.anomaly for sample in self.samples]
            measured = measure(name, labels, scores, self.maps, self.masks, self.has_mask)
        images = [
            ImageScore(
                sample.img_path,
                sample.cls_name,
                sample.anomaly,
                float(scores[i]),
                None if np.isnan(self.text_prob[i]) else float(self.text_prob[i]),
                float(self.map_max[i]),
            )
            for i, sample in enumerate(self.samples)
        ]
        return ClassResult(name, images, *measured)
