"""The one evaluation loop: loader -> maps and scores -> measures, class by class, for any detector; and its report."""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from data.masks import vanished
from datasets.image_set import ImageSet
from datasets.loader import Batch, PartialBatch
from datasets.meta import Entry
from datasets.transforms import normalised
from engine.earlier_results import ClassKeeper, remove_results
from engine.evaluation_options import EvaluationOptions
from engine.options import TestOptions
from engine.origin import run_on
from engine.rows import row_lines
from engine.tiling import Picture, predict_tiled, tiling_of
from models.tiles import Tiling
from page.page import HtmlReport
from utils.distributed import from_main, in_turn, is_main
from utils.errors import UserError, some_of
from utils.evaluation_types import ClassMaps, ClassResult, Detector, ImageMap, ImageScore, Prediction, Sample, Writer
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import measure_class
from utils.names import shown
from utils.results import ResultsWriter, Run, results_table
from utils.runtime import Stopwatch, progress

logger = logging.getLogger(__name__)

T = TypeVar("T")

AHEAD = {"cpu": 0, "cuda": 1}  # batches that are given to the device before one's maps are waited for


def evaluate_and_report(
    detector: Detector,
    load: Callable[[list[Entry]], Iterable[Batch | PartialBatch]],
    images: ImageSet,
    options: TestOptions | EvaluationOptions,
    *,
    title: str,
    description: Mapping[str, Any],
    device: torch.device,
    stopwatch: Stopwatch,
    to_picture: Callable[[ImageMap], np.ndarray] | None,
    writers: Sequence[Writer] = (),
    image_scores: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    made_with: str,
    resume: bool = False,
) -> tuple[Run, list[ClassResult]]:
    """Run the evaluation loop (see `evaluate`), write to the options' `save_path`, log and return the results.

    Of several processes, the main one writes and has the results, the others have none.

    Args:
        load: gives the loader of the images that are to be done, in the order of `images`.
        description: how the measures come about; the command and the environment are added.
        to_picture: see `HtmlReport`; None for no page.
        notes: what to say below the table, after the notes on the images.
        made_with: see `Run`.
        resume: whether classes that an earlier run did are kept.
    """
    bootstrap = options.bootstrap and Bootstrap(options.bootstrap, options.confidence, options.seed)
    about = {"title": title, "description": description, "made_with": made_with, "notes": notes}
    run = run_on(images, folder=options.save_path, device=device, bootstrap=bootstrap, **about)
    resume = resume and (run.folder / "results.json").exists()
    if is_main() and not resume:
        remove_results(run.folder)
    page = [] if to_picture is None else [HtmlReport(run, to_picture)]
    writers = [ResultsWriter(run, device, stopwatch, row_lines), *page, *writers]
    keeper = ClassKeeper(run.folder, images, writers)
    results = keeper.restore() if is_main() and resume else []
    done = from_main(lambda: {result.name for result in results})
    todo = [entry for entry in images.entries if entry.cls_name not in done]
    if done:
        logger.info("kept what an earlier run found of %s", ", ".join(sorted(done)))
    running = {"device": device, "stopwatch": stopwatch, "image_scores": image_scores}
    tiling = None if isinstance(options, EvaluationOptions) else tiling_of(options)
    running |= {} if tiling is None else {"tiling": tiling, "batch_size": options.batch_size}
    measuring = {"legacy_pro": options.legacy_pro, "bootstrap": run.bootstrap}
    measuring["no_maps"] = getattr(detector, "no_maps", None)
    try:
        if todo:
            results += evaluate(detector, load(todo), todo, writers=[*writers, keeper], **running, **measuring)
    finally:  # the classes that a run finished before it was stopped are written as well
        with stopwatch("output"):
            messages = [writer.finish() for writer in writers]
    if not is_main():
        return run, results
    logger.info("%s\n%s", run.title, results_table(results, run.bootstrap))
    for note in run.notes_on(results):
        logger.info("note: %s", note)
    seconds = ", ".join(f"{part} {value:.1f} s" for part, value in stopwatch.items())
    total = stopwatch.total()
    logger.info("%d images in %.1f s, %.1f a second (%s)", len(todo), total, len(todo) / total, seconds)
    for message in filter(None, messages):
        logger.info("%s", message)
    return run, results


def evaluate(
    detector: Detector,
    loader: Iterable[Batch | PartialBatch],
    samples: Sequence[Sample],
    *,
    device: torch.device,
    stopwatch: Stopwatch,
    writers: Sequence[Writer] = (),
    image_scores: Mapping[str, float] | None = None,
    tiling: Tiling | None = None,
    batch_size: int = 1,
    **measuring: Any,
) -> Iterator[ClassResult]:
    """Run a detector over images and measure it class by class, each in a thread while the next one is predicted.

    Several processes share the batches: each predicts its own, and the main one measures, writes and yields.

    Args:
        loader: batches of `samples`, in their order; of several processes, the one of rank r of n gives every n-th
            batch from the r-th on.
        samples: the images, those of a class one after another.
        stopwatch: is given the seconds of loading, prediction, output and waiting for the measures, and, where there
            are several processes, of waiting for the others' predictions.
        writers: are given each image and each class, but not the end; the caller calls `finish`.
        image_scores: scores known beforehand, by `img_path`, in the place of the detector's.
        tiling: how pictures are cut into tiles, of which so many are a batch; None to predict them whole.
        measuring: what to measure of each class, see `measure_class`.

    Yields:
        A class's result, at the latest when the last image of the next one is done.

    Raises:
        UserError: a detector gave a value that is not finite, or a map of another size than its mask.
    """
    image_writers = [writer for writer in writers if writer.needs_images]
    map_writers = [writer for writer in writers if writer.needs_maps]
    batches = _predict(detector, loader, samples, device, stopwatch, tiling, batch_size, bool(image_writers))
    batches = in_turn(batches, UserError, partial(stopwatch, "waiting"))
    predicted = (image for batch in batches for image in batch)
    pool = ThreadPoolExecutor(1, "measures")
    measured, finished = deque[Future[ClassResult]](), deque[ClassResult]()

    def finish() -> None:
        with stopwatch("measures"):
            result = measured.popleft().result()
        with stopwatch("output"):
            for writer in writers:
                writer.class_done(result)
        finished.append(result)

    def passed_on(images: Iterable[ImageMap | str]) -> Iterator[ImageMap | str]:
        for image in images:
            if measured and measured[0].done():
                finish()
            yield image

    try:
        with logging_redirect_tqdm(), progress(predicted, total=len(samples), unit="image", desc="evaluating") as bar:
            images = passed_on(bar)
            for name, group in groupby(samples if is_main() else (), key=lambda sample: sample.cls_name):
                maps = _collect(list(group), images, bool(map_writers), image_writers, stopwatch)
                bar.set_postfix_str(shown(name))
                if image_scores is None:
                    scores = detector.image_scores(maps.text_prob, maps.map_max, maps.map_min)
                else:
                    scores = np.array([image_scores[sample.img_path] for sample in maps.samples])
                if measured:  # so that no more than two classes are held, and writers take one after the other
                    finish()
                yield from _emptied(finished)
                with stopwatch("output"):
                    for writer in map_writers:
                        writer.class_maps(maps, scores)
                measured.append(pool.submit(_measure, name, maps, scores, measuring))
                del maps  # which the thread lets go of when it has measured them
            next(images, None)  # in this others hand over all of theirs, and the main process sees that none is left
            if measured:
                finish()
            yield from _emptied(finished)
    except Exception:
        if measured:  # which was predicted before the error, and is kept
            finish()
        raise
    finally:  # without waiting, as of a run that is interrupted nothing more is wanted
        pool.shutdown(wait=False, cancel_futures=True)


def _emptied(results: deque[ClassResult]) -> Iterator[ClassResult]:
    while results:
        yield results.popleft()


def _measure(name: str, maps: ClassMaps, scores: np.ndarray, measuring: Mapping[str, Any]) -> ClassResult:
    """Measure a class, whose maps are used up, and note what was left out of it."""
    known = [None if np.isnan(value) else value for value in maps.text_prob.tolist()]
    columns = zip(maps.samples, scores.tolist(), known, maps.map_max.tolist(), strict=True)
    rows = [ImageScore(sample.img_path, name, sample.anomaly, *values) for sample, *values in columns]
    pixels = zip(maps.samples, maps.masks, maps.has_mask, strict=False)  # with masks in none, no maps
    gone = defaultdict(list)
    for one, mask, known in pixels:
        if one.anomaly == 1 and known and not mask.any():
            gone[mask.shape].append(one.mask_path)
    species = [sample.specie_name for sample in maps.samples]
    result = measure_class(rows, maps.maps, maps.masks, maps.has_mask, species=species, **measuring)
    for shape, paths in gone.items():
        result.notes.append(vanished(paths, *shape))
        logger.warning("%s", result.notes[-1])
    if maps.left_out:
        count, named = len(maps.left_out), some_of(maps.left_out)
        result.notes.insert(0, f"images left out, as they cannot be read ({count}): {named}")
    return result


class _Copy:
    """A prediction on its way to the CPU; it is had from `wait` alone, so that nothing is read before it is there."""

    def __init__(self, found: Prediction) -> None:
        text_prob, distances = found.text_prob, found.distances
        wanted = found.maps.float(), None if text_prob is None else text_prob.double(), distances
        # From CUDA into pinned memory, while the device goes on.
        maps, text_prob, distances = (one if one is None else one.to("cpu", non_blocking=True) for one in wanted)
        self._found = Prediction(maps, text_prob, distances=distances)
        self._event = None
        if found.maps.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(found.maps.device))

    def wait(self) -> Prediction:
        if self._event is not None:
            self._event.synchronize()
        return self._found


def _predict(
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
    predicted = _behind(((one, found and _Copy(found)) for one, found in predicted), AHEAD[device.type])
    while True:
        loading = stopwatch["loading"]
        with stopwatch("prediction"):
            one = next(predicted, None)
            prediction = one and one[1] and one[1].wait()
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


def _behind(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield each item when so many that follow are made, or all."""
    held: deque[T] = deque()
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.popleft()
    yield from held


def _collect(
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
