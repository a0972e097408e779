"""All measures of one class, from its maps, masks and image scores, and their values in bootstrap draws."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from utils.evaluation_types import ClassResult, ImageScore
from utils.measures import pro
from utils.measures.bootstrap import Bootstrap, measures_of_draws
from utils.measures.curves import pixel_curves
from utils.measures.ranking import ranking_measures, sorted_ranking
from utils.measures.regions import Ascending, PixelScores, SplitScores

# What the measures are called in the results, and here and in the draws.
PIXEL_MEASURES = {"auroc_px": "auroc", "f1_px": "f1_max", "ap_px": "ap", "aupro": "pro"}
IMAGE_MEASURES = {"auroc_sp": "auroc", "f1_sp": "f1_max", "ap_sp": "ap"}
SEVERAL_SIZES = "the maps are of several sizes: in the pixel measures a larger image counts for more"


def measure_pixels(split: SplitScores, legacy_pro: bool = False) -> dict[str, float | None]:
    """Measure pixels, each of which counts the same, as does every region in PRO.

    Gives those of `ranking_measures`, the exact `pro` and, if it is asked for, the `legacy_pro` of the field's older
    tables. All are None without normal or without anomalous pixels.
    """
    is_defined = split.normal.size and split.regions
    return {
        **sorted_ranking(split.normal, split.anomalous),
        "pro": pro.exact_pro(split) if is_defined else None,
        "legacy_pro": pro.legacy_pro(split) if is_defined and legacy_pro else None,
    }


def measure_class(
    images: list[ImageScore],
    maps: np.ndarray | list[np.ndarray],  # float32 [n, H, W], n of [H, W], or [0, H, W] where there is no mask
    masks: np.ndarray | list[np.ndarray],  # bool, of the shape of the maps
    has_mask: np.ndarray,  # bool [n], whether an image's mask is known
    *,
    species: Sequence[str] = (),  # n kinds of anomaly, to measure each of them as well if there are several
    legacy_pro: bool = False,  # whether to compute PRO by 200 thresholds, too
    bootstrap: Bootstrap | None = None,  # how to make draws; None for none
    no_maps: str | None = None,  # why the maps mean nothing; None to measure them
) -> ClassResult:
    """Measure a class of n images; the maps are used up, and so are the masks.

    Each kind of anomaly is measured against the class's normal images, without a copy: the scores of each kind's images
    are sorted by themselves first, and then all together.
    """
    name = images[0].class_name
    label = np.array([-1 if image.label is None else image.label for image in images])
    scores = np.array([image.score for image in images])
    of_pixels = PIXEL_MEASURES | ({"aupro_200": "legacy_pro"} if legacy_pro else {})
    measures: dict[str, float | None] = dict.fromkeys(of_pixels)
    notes, draws, curves = [], {}, None
    kinds = _rows_of_kinds(images, species)
    order = [row for rows in kinds.values() for row in rows if has_mask[row]]  # those of a kind one after another
    by_kind = {kind: {"images": len(kinds[kind]), **dict.fromkeys(PIXEL_MEASURES)} for kind in kinds if kind}
    weights = None if bootstrap is None else bootstrap.draw(name, _kinds(label, masks, has_mask))
    map_shape = maps.shape[1:] if isinstance(maps, np.ndarray) else tuple(one.shape for one in maps)
    if no_maps is None and any(mask.any() for mask in masks):
        if isinstance(maps, list):
            notes.append(SEVERAL_SIZES)
            for own in (maps, masks):  # in place, as they are emptied: a list beside would hold the maps
                own[:] = [own[row] for row in order]
        else:
            _bring_to_front(order, maps, masks)
            maps, masks = maps[: len(order)], masks[: len(order)]
        if weights is not None and not all(mask.all() for mask in masks):
            drawn = measures_of_draws(maps, masks, weights[:, order], progress=f"bootstrap of {name}")
            draws |= _by_key(PIXEL_MEASURES, drawn)
        pixel_scores, end = PixelScores(maps, masks), 0
        for kind, rows in kinds.items():
            start, end = end, end + np.count_nonzero(has_mask[rows])
            if kind == NORMAL:
                normal = pixel_scores.of(start, end).normal
            elif kind is not UNKNOWN:
                split = pixel_scores.of(start, end)
                split = replace(split, normal=Ascending(normal, split.normal))
                by_kind[kind] |= _by_key(PIXEL_MEASURES, measure_pixels(split))
        pixels = pixel_scores.of(0, len(order))
        measures |= _by_key(of_pixels, measure_pixels(pixels, legacy_pro))
        curves = pixel_curves(pixels)
        if curves is None:
            notes.append("no pixel measures: there is no normal pixel")
        elif legacy_pro and measures["aupro_200"] is None:
            notes.append("no aupro_200: its thresholds give no two false-positive rates below 0.3")
        if len(order) < len(images):
            notes.append(f"{len(images) - len(order)} images without a mask are not in the pixel measures")
    else:
        notes.append(f"no pixel measures: {no_maps or 'there is no mask with an anomalous pixel'}")

    image = ranking_measures(scores[label == 0], scores[label == 1])
    measures |= _by_key(IMAGE_MEASURES, image)
    if image["auroc"] is None:
        lacking = [kind for value, kind in ((0, "normal"), (1, "anomalous")) if not (label == value).any()]
        notes.append(f"no image measures: no image is labelled {' or '.join(lacking)}")
    elif weights is not None:
        known = label >= 0
        as_pixels = (values[known, None, None] for values in (scores, label == 1))  # a pixel each
        draws |= _by_key(IMAGE_MEASURES, measures_of_draws(*as_pixels, weights[:, known], thresholds=len(images)))
    for kind, found in by_kind.items():
        found |= _by_key(IMAGE_MEASURES, ranking_measures(scores[label == 0], scores[kinds[kind]]))
    return ClassResult(name, images, measures, notes, draws, curves, map_shape, by_kind)


NORMAL, UNKNOWN = "", None  # beside kinds of anomaly


def _rows_of_kinds(images: Sequence[ImageScore], species: Sequence[str]) -> dict[str | None, list[int]]:
    """Group a class's images by kind of anomaly, if there are two; else all are of none that is known."""
    rows: dict[str | None, list[int]] = {NORMAL: []}  # these first
    for row, (image, specie) in enumerate(zip(images, species, strict=False)):
        rows.setdefault({0: NORMAL, 1: specie or "anomalous"}.get(image.label, UNKNOWN), []).append(row)
    if len(rows.keys() - {NORMAL, UNKNOWN}) < 2:
        return {UNKNOWN: [*range(len(images))]}
    return rows


def _bring_to_front(order: Sequence[int], *arrays: np.ndarray) -> None:
    """Put rows first, in an order, by swapping them in place: a copy would double the memory."""
    for here, row in enumerate(order):
        while row < here:  # it was swapped away from there
            row = order[row]
        if row != here:
            for array in arrays:
                array[[here, row]] = array[[row, here]]


def _kinds(label: np.ndarray, masks: np.ndarray | list[np.ndarray], has_mask: np.ndarray) -> np.ndarray:
    """Tell what a measure needs some images to have, [n, 4]: label, known mask, anomalous pixels, normal pixels."""
    pixels = [(mask.any(), not mask.all()) for mask in masks] if len(masks) else [(False, True)] * len(label)
    return np.column_stack([label, has_mask, pixels]).astype(int)


def _by_key(names: Mapping[str, str], measured: Mapping[str, Any]) -> dict[str, Any]:
    return {key: measured[name] for key, name in names.items()}
