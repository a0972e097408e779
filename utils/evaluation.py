"""The one evaluation loop: loader -> maps and scores -> measures, class by class, for any detector."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from utils.distributed import in_turn, is_main
from utils.errors import UserError
from utils.evaluation_types import (
    Batch,
    ClassMaps,
    ClassResult,
    Detector,
    ImageMap,
    ImageScore,
    Sample,
    Stopwatch,
    Writer,
)
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import measure_class
from utils.results import Run, notes, results_table

OF_AN_EARLIER_RUN = ("results.json", "results.md", "scores.csv", "published.md", "contact_sheet.png", "report.html")
logger = logging.getLogger(__name__)


def evaluate_and_report(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    run: Run,
    writers: Sequence[Writer],
    *,
    device: torch.device,
    stopwatch: Stopwatch,
    image_scores: Mapping[str, float] | None = None,
    legacy_pro: bool = False,
) -> list[ClassResult]:
    """Run the evaluation loop (see `evaluate`) with writers, log the table, and return the classes' results.

    Of several processes, the main one writes and has the results, the others have none.
    """
    if is_main():
        for name in OF_AN_EARLIER_RUN:
            (run.folder / name).unlink(missing_ok=True)
    options = {"image_scores": image_scores, "legacy_pro": legacy_pro, "bootstrap": run.bootstrap}
    results = []
    try:
        with logging_redirect_tqdm():
            for result in evaluate(
                detector, loader, samples, device=device, stopwatch=stopwatch, writers=writers, **options
            ):
                results.append(result)
    finally:  # the classes that a run finished before it was stopped are written as well
        with stopwatch("output"):
            messages = [writer.finish() for writer in writers]
    if not is_main():
        return results
    logger.info("%s\n%s", run.title, results_table(results, run.bootstrap))
    for note in [*run.notes, *notes(results)]:
        logger.info("note: %s", note)
    seconds = ", ".join(f"{part} {value:.1f} s" for part, value in stopwatch.seconds.items())
    logger.info("%d images, %.1f a second (%s)", run.images, run.images / stopwatch.until_predicted, seconds)
    for message in filter(None, messages):
        logger.info("%s", message)
    return results


def evaluate(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    *,
    device: torch.device,
    stopwatch: Stopwatch,
    writers: Sequence[Writer] = (),
    image_scores: Mapping[str, float] | None = None,
    legacy_pro: bool = False,
    bootstrap: Bootstrap | None = None,
) -> Iterator[ClassResult]:
    """Run a detector over images and measure it class by class.

    Several processes share the batches: each predicts its own, and the main one measures, writes and yields.

    Args:
        detector, device: the method, and where it computes.
        loader: batches of `samples`, in their order; of several processes, the one of rank r of n gives every n-th
            batch from the r-th on.
        samples: the images, those of a class one after another.
        stopwatch: is given the seconds of loading, prediction, measures and output, and, where there are several
            processes, of waiting for the others' predictions.
        writers: are given each image and each class, but not the end; the caller calls `finish`.
        image_scores: scores known beforehand, by `img_path`, in the place of the detector's.
        legacy_pro, bootstrap: also compute PRO by 200 thresholds, and measure draws of each class's images.

    Yields:
        A class's result as soon as its last image is done.

    Raises:
        UserError: a detector gave a value that is not finite, or maps of two sizes in one class.
    """
    image_writers = [writer for writer in writers if writer.needs_images]
    map_writers = [writer for writer in writers if writer.needs_maps]
    predictions = _predict(detector, loader, samples, device, stopwatch, with_images=bool(image_writers))
    batches = in_turn(predictions, UserError, partial(stopwatch, "waiting"))
    predicted = (image for batch in batches for image in batch.image_maps(samples))
    bar = partial(tqdm, total=len(samples), unit="image", desc="evaluating", dynamic_ncols=True, disable=not is_main())
    with bar(predicted) as progress:
        images = iter(progress)
        for name, group in groupby(samples, key=lambda sample: sample.cls_name):
            maps = _collect(list(group), images, bool(map_writers), image_writers, stopwatch)
            if maps is None:
                return  # not the main process: its images went there
            progress.set_postfix_str(name)
            if image_scores is None:
                scores = detector.image_scores(maps.text_prob, maps.map_max, maps.map_min)
            else:
                scores = np.array([image_scores[sample.img_path] for sample in maps.samples])
            with stopwatch("output"):
                for writer in map_writers:
                    writer.class_maps(maps, scores)
            with stopwatch("measures"):
                labels = [sample.anomaly for sample in maps.samples]
                options = {"legacy_pro": legacy_pro, "bootstrap": bootstrap}
                measured = measure_class(name, labels, scores, maps.maps, maps.masks, maps.has_mask, **options)
            result = ClassResult(name, _rows(maps, scores), *measured, maps.maps.shape[1:])
            del maps  # before the next class's are made
            with stopwatch("output"):
                for writer in writers:
                    writer.class_done(result)
            yield result
        next(images, None)  # there is none, but other processes wait for this to be seen


@dataclass(frozen=True)
class _PredictedBatch:
    """A batch and what the detector says of it; without images where nothing needs them."""

    indices: Sequence[int]
    images: Tensor | None
    masks: np.ndarray
    has_mask: np.ndarray
    maps: np.ndarray
    text_prob: np.ndarray | None

    def image_maps(self, samples: Sequence[Sample]) -> Iterator[ImageMap]:
        """Yield each image.

        Raises:
            UserError: a value is not finite.
        """
        for i, index in enumerate(self.indices):
            known = self.text_prob is not None
            if not (np.isfinite(self.maps[i]).all() and (not known or np.isfinite(self.text_prob[i]))):
                raise UserError(
                    f"{samples[index].img_path}: the anomaly map has values that are not finite; "
                    "with --precision fp16 or bf16 try fp32, else check the weights"
                )
            image = None if self.images is None else self.images[i]
            mask = self.masks[i] if self.has_mask[i] else None
            yield ImageMap(samples[index], image, self.maps[i], mask, self.text_prob[i] if known else np.nan)


def _predict(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    device: torch.device,
    stopwatch: Stopwatch,
    with_images: bool,
) -> Iterator[_PredictedBatch]:
    """Run the detector over the loader's batches."""
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
        kept = batch.images if with_images else None
        yield _PredictedBatch(batch.indices, kept, batch.masks.numpy(), batch.has_mask.numpy(), maps, text_prob)


def _collect(
    samples: Sequence[Sample],
    images: Iterator[ImageMap],
    keep_maps: bool,
    writers: Sequence[Writer],
    stopwatch: Stopwatch,
) -> ClassMaps | None:
    """Gather a class's images, and its maps if they are to be kept or measured; None where images end before.

    Raises:
        UserError: maps of two sizes.
    """
    n = len(samples)
    rows = n if keep_maps or any(sample.mask_path for sample in samples) else 0
    has_mask = np.zeros(n, bool)
    text_prob, map_max, map_min = np.empty((3, n))
    done = 0
    for i, image in enumerate(islice(images, n)):
        shape = image.anomaly_map.shape
        if i == 0:
            maps, masks = np.empty((rows, *shape), np.float32), np.zeros((rows, *shape), bool)
        if shape != maps.shape[1:]:
            sizes = [f"{height} x {width}" for height, width in (shape, maps.shape[1:])]
            raise UserError(
                f"the map of {samples[i].img_path} is {sizes[0]} pixels high and wide, that of its class's "
                f"first image {sizes[1]}: give the maps of a class one size"
            )
        text_prob[i], has_mask[i] = image.text_prob, image.mask is not None
        map_max[i], map_min[i] = image.anomaly_map.max(), image.anomaly_map.min()
        if rows:
            maps[i] = image.anomaly_map
            masks[i] = image.mask if has_mask[i] else False
        for writer in writers:
            with stopwatch("output"):
                writer.image(image)
        done += 1
    return ClassMaps(samples, maps, masks, has_mask, text_prob, map_max, map_min) if done == n else None


def _rows(maps: ClassMaps, scores: np.ndarray) -> list[ImageScore]:
    """Make the rows of scores.csv of a class with image scores [n]."""
    known = [None if np.isnan(value) else float(value) for value in maps.text_prob]
    return [
        ImageScore(sample.img_path, sample.cls_name, sample.anomaly, float(scores[i]), known[i], float(maps.map_max[i]))
        for i, sample in enumerate(maps.samples)
    ]
