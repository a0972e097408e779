"""The one evaluation loop: loader -> maps and scores -> measures, class by class, for any detector."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from utils.distributed import in_turn, is_main
from utils.errors import UserError
from utils.evaluation_types import Batch, ClassMaps, ClassResult, Detector, ImageMap, ImageScore, Sample, Writer
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import measure_class
from utils.results import Run, notes, results_table
from utils.runtime import Stopwatch

OF_AN_EARLIER_RUN = ("results.json", "results.md", "scores.csv", "published.md", "contact_sheet.png", "report.html")
logger = logging.getLogger(__name__)


def evaluate_and_report(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    run: Run,
    writers: Sequence[Writer],
    *,
    stopwatch: Stopwatch,
    **options: Any,
) -> list[ClassResult]:
    """Run the evaluation loop (see `evaluate`) with writers, log the table, and return the classes' results.

    Of several processes, the main one writes and has the results, the others have none.
    """
    if is_main():
        for name in OF_AN_EARLIER_RUN:
            (run.folder / name).unlink(missing_ok=True)
    options |= {"stopwatch": stopwatch, "writers": writers, "bootstrap": run.bootstrap}
    try:
        with logging_redirect_tqdm():
            results = list(evaluate(detector, loader, samples, **options))
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
    batches = _predict(detector, loader, samples, device, stopwatch, with_images=bool(image_writers))
    batches = in_turn(batches, UserError, partial(stopwatch, "waiting"))
    predicted = (ImageMap(*fields) for batch in batches for fields in zip(*batch, strict=True))
    shown = {"unit": "image", "desc": "evaluating", "dynamic_ncols": True, "disable": not is_main()}
    with tqdm(predicted, total=len(samples), **shown) as progress:
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


def _predict(
    detector: Detector,
    loader: Iterable[Batch],
    samples: Sequence[Sample],
    device: torch.device,
    stopwatch: Stopwatch,
    with_images: bool,
) -> Iterator[tuple[Sequence[Any], ...]]:
    """Run the detector over the loader's batches; yields of each what is to be the fields of its `ImageMap`s."""
    batches = iter(loader)
    while True:
        with stopwatch("loading"):
            batch = next(batches, None)
        if batch is None:
            return
        shown = [samples[index] for index in batch.indices]
        with stopwatch("prediction"):
            images = batch.images.to(device, non_blocking=True)
            prediction = detector.predict(images, [sample.cls_name for sample in shown])
            maps, text_prob = prediction.maps.float().cpu().numpy(), prediction.text_prob
            text_prob = [None] * len(maps) if text_prob is None else text_prob.double().cpu().tolist()
        images = batch.images if with_images else [None] * len(maps)
        masks = [mask if known else None for mask, known in zip(batch.masks.numpy(), batch.has_mask, strict=True)]
        yield shown, images, maps, masks, text_prob


def _collect(
    samples: Sequence[Sample], images: Iterator[ImageMap], keep: bool, writers: Sequence[Writer], stopwatch: Stopwatch
) -> ClassMaps | None:
    """Gather a class's images, and its maps if they are to be kept or measured; None where there are no images."""
    n = len(samples)
    rows = n if keep or any(sample.mask_path for sample in samples) else 0
    has_mask = np.zeros(n, bool)
    text_prob, map_max, map_min = np.empty((3, n))
    for i, sample in enumerate(samples):
        image = next(images, None)
        if image is None:
            return None
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
        if scores.shape != maps.shape[1:]:
            here, before = (" x ".join(map(str, shape)) for shape in (scores.shape, maps.shape[1:]))
            raise UserError(
                f"the map of {sample.img_path} is {here} pixels high and wide, that of its class's first image "
                f"{before}: give the maps of a class one size"
            )
        has_mask[i] = image.mask is not None
        if rows:
            maps[i], masks[i] = scores, image.mask if has_mask[i] else False
        with stopwatch("output"):
            for writer in writers:
                writer.image(image)
    return ClassMaps(samples, maps, masks, has_mask, text_prob, map_max, map_min)


def _rows(maps: ClassMaps, scores: np.ndarray) -> list[ImageScore]:
    """Make the rows of scores.csv of a class with image scores [n]."""
    known = [None if np.isnan(value) else float(value) for value in maps.text_prob]
    return [
        ImageScore(sample.img_path, sample.cls_name, sample.anomaly, float(scores[i]), known[i], float(maps.map_max[i]))
        for i, sample in enumerate(maps.samples)
    ]
