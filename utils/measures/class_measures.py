"""All measures of one class, from its maps, masks and image scores, and their values in bootstrap draws."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from utils.evaluation_types import ClassResult, ImageScore
from utils.measures import pro
from utils.measures.bootstrap import Bootstrap, measures_of_draws
from utils.measures.curves import Curves, pixel_curves
from utils.measures.ranking import ranking_measures, sorted_ranking
from utils.measures.regions import split_scores

# What the measures are called in the results, and here and in the draws.
PIXEL_MEASURES = {"auroc_px": "auroc", "f1_px": "f1_max", "ap_px": "ap", "aupro": "pro"}
IMAGE_MEASURES = {"auroc_sp": "auroc", "f1_sp": "f1_max", "ap_sp": "ap"}
SEVERAL_SIZES = "the maps are of several sizes: in the pixel measures a larger image counts for more"


def pixel_measures(
    maps: np.ndarray | list[np.ndarray], masks: np.ndarray | list[np.ndarray], legacy_pro: bool = False
) -> tuple[dict[str, float | None], Curves | None]:
    """Measure the pixels of a class's images, from maps float32 [n, H, W], C-contiguous, and masks bool [n, H, W].

    Where they differ in size, a list has n of [H, W] each; every pixel counts the same, and every region in PRO.

    Gives those of `ranking_measures`, the exact `pro` and, if it is asked for, the `legacy_pro` of the field's older
    tables; and the curves that they are areas under. All are None without normal or without anomalous pixels.

    TAKES OWNERSHIP OF `maps`, as `split_scores` does: what they held is LOST. Use the maps (for images, for their
    maxima) before, or hand in a copy. Beside the maps this needs 12 bytes for each anomalous pixel, and some megabytes.
    """
    split = split_scores(maps, masks)
    measures = sorted_ranking(split.normal, split.anomalous) | {"pro": None, "legacy_pro": None}
    if not split.normal.size or not split.regions:
        return measures, None
    measures["pro"] = pro.exact_pro(split)
    if legacy_pro:
        measures["legacy_pro"] = pro.legacy_pro(split)
    return measures, pixel_curves(split)


def measure_class(
    images: list[ImageScore],
    maps: np.ndarray | list[np.ndarray],  # float32 [n, H, W], n of [H, W], or [0, H, W] where there is no mask
    masks: np.ndarray | list[np.ndarray],  # bool, of the shape of the maps
    has_mask: np.ndarray,  # bool [n], whether an image's mask is known
    *,
    legacy_pro: bool = False,  # whether to compute PRO by 200 thresholds, too
    bootstrap: Bootstrap | None = None,  # how to make draws; None for none
) -> ClassResult:
    """Measure a class of n images; the maps are used up, and so are the masks."""
    name = images[0].class_name
    label = np.array([-1 if image.label is None else image.label for image in images])
    scores = np.array([image.score for image in images])
    of_pixels = PIXEL_MEASURES | ({"aupro_200": "legacy_pro"} if legacy_pro else {})
    measures: dict[str, float | None] = dict.fromkeys(of_pixels)
    notes, draws, curves = [], {}, None
    weights = None if bootstrap is None else bootstrap.draw(name, _kinds(label, masks, has_mask))
    map_shape = maps.shape[1:] if isinstance(maps, np.ndarray) else tuple(one.shape for one in maps)
    if any(mask.any() for mask in masks):
        known = np.flatnonzero(has_mask)
        for row, source in enumerate(known):  # close the gaps in place: a copy would double the memory
            maps[row], masks[row] = maps[source], masks[source]
        maps, masks = maps[: known.size], masks[: known.size]
        if weights is not None and not all(mask.all() for mask in masks):
            drawn = measures_of_draws(maps, masks, weights[:, known], progress=f"bootstrap of {name}")
            draws |= _by_key(PIXEL_MEASURES, drawn)
        pixels, curves = pixel_measures(maps, masks, legacy_pro)
        measures |= _by_key(of_pixels, pixels)
        if isinstance(maps, list):
            notes.append(SEVERAL_SIZES)
        if known.size < len(images):
            notes.append(f"{len(images) - known.size} images without a mask are not in the pixel measures")
    else:
        notes.append("no pixel measures: there is no mask with an anomalous pixel")

    image = ranking_measures(scores[label == 0], scores[label == 1])
    measures |= _by_key(IMAGE_MEASURES, image)
    if image["auroc"] is None:
        kinds = [kind for value, kind in ((0, "normal"), (1, "anomalous")) if not (label == value).any()]
        notes.append(f"no image measures: no image is labelled {' or '.join(kinds)}")
    elif weights is not None:
        known = label >= 0
        as_pixels = (values[known, None, None] for values in (scores, label == 1))  # a pixel each
        draws |= _by_key(IMAGE_MEASURES, measures_of_draws(*as_pixels, weights[:, known], thresholds=len(images)))
    return ClassResult(name, images, measures, notes, draws, curves, map_shape)


def _kinds(label: np.ndarray, masks: np.ndarray | list[np.ndarray], has_mask: np.ndarray) -> np.ndarray:
    """Tell what a measure needs some images to have, [n, 4]: label, known mask, anomalous pixels, normal pixels."""
    pixels = [(mask.any(), not mask.all()) for mask in masks] if len(masks) else [(False, True)] * len(label)
    return np.column_stack([label, has_mask, pixels]).astype(int)


def _by_key(names: Mapping[str, str], measured: Mapping[str, Any]) -> dict[str, Any]:
    return {key: measured[name] for key, name in names.items()}
