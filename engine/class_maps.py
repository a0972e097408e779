"""The maps of a class: gathered image by image, then measured."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data.masks import vanished
from utils.errors import UserError, some_of
from utils.evaluation_types import ClassMaps, ClassResult, ImageMap, ImageScore, Sample, Writer
from utils.measures.class_measures import measure_class
from utils.runtime import Stopwatch

logger = logging.getLogger(__name__)


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


def measure(name: str, maps: ClassMaps, scores: np.ndarray, measuring: Mapping[str, Any]) -> ClassResult:
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
