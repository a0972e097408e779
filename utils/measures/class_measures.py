"""All measures of one class, from its maps, masks and image scores, and their values in bootstrap draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from utils.measures import pro
from utils.measures.bootstrap import Bootstrap, count_scores, measures_of_draws
from utils.measures.curves import Curves, pixel_curves
from utils.measures.ranking import Ranking, ranking_measures, sorted_ranking
from utils.measures.regions import split_scores

# What the measures are called in the results, and in `PixelMeasures`, `Ranking` and the draws.
PIXEL_MEASURES = {"auroc_px": "auroc", "f1_px": "f1_max", "ap_px": "ap", "aupro": "pro"}
IMAGE_MEASURES = {"auroc_sp": "auroc", "f1_sp": "f1_max", "ap_sp": "ap"}
LEGACY_PRO = "aupro_200"


@dataclass(frozen=True)
class PixelMeasures(Ranking):
    """The `Ranking` of a class's pixels, and their per-region overlap."""

    pro: float | None  # exact; None without regions or without normal pixels
    legacy_pro: float | None  # that of the field's older tables; None if undefined or not asked for
    curves: Curves | None = field(default=None, compare=False)  # they are areas under; None if there is one label only


def pixel_measures(maps: np.ndarray, masks: np.ndarray, legacy_pro: bool = False) -> PixelMeasures:
    """Measure the pixels of a class's images, from maps float32 [n, H, W], C-contiguous, and masks bool [n, H, W].

    TAKES OWNERSHIP OF `maps`: their buffer is sorted in place, and what they held is LOST. Use the maps (for images,
    for their maxima) before, or hand in a copy. Beside the maps this needs 12 bytes for each anomalous pixel, and some
    megabytes.

    Raises:
        TypeError, ValueError: see `split_scores`.
    """
    split = split_scores(maps, masks)
    ranking = sorted_ranking(split.normal, np.ascontiguousarray(split.anomalous))
    older = pro.legacy_pro(split) if legacy_pro else None
    return PixelMeasures(**vars(ranking), pro=pro.exact_pro(split), legacy_pro=older, curves=pixel_curves(split))


class ClassMeasures(NamedTuple):
    """The measures of a class."""

    measures: dict[str, float | None]  # fractions; None where undefined, and a note says why
    notes: list[str]  # on them, and on what was left out
    draws: dict[str, np.ndarray]  # values [resamples] of each measure that is defined; empty if no draws were made
    pixel_curves: Curves | None  # those behind the pixel measures; None where these are undefined


def measure_class(
    name: str,
    labels: Sequence[int | None],
    scores: np.ndarray,
    maps: np.ndarray,
    masks: np.ndarray,
    has_mask: np.ndarray,
    *,
    legacy_pro: bool = False,
    bootstrap: Bootstrap | None = None,
) -> ClassMeasures:
    """Measure a class of n images; the maps are used up, and so are the masks.

    Args:
        name: of the class, for the bootstrap's random numbers.
        labels, scores: [n], of the images; 0 normal, 1 anomalous, None unknown.
        maps: float32 [n, H, W], or [0, H, W] where there is no mask.
        masks, has_mask: bool, of the shape of the maps, and [n], whether an image's mask is known.
        legacy_pro, bootstrap: also compute PRO by 200 thresholds, and make draws.
    """
    label = np.array([-1 if value is None else value for value in labels])
    measures: dict[str, float | None] = dict.fromkeys([*PIXEL_MEASURES, *([LEGACY_PRO] if legacy_pro else [])])
    notes, draws, curves = [], {}, None
    weights = None if bootstrap is None else bootstrap.draw(name, _kinds(label, masks, has_mask))
    if masks.any():
        known = np.flatnonzero(has_mask)
        for row, source in enumerate(known):  # close the gaps in place: a copy would double the memory
            maps[row], masks[row] = maps[source], masks[source]
        maps, masks = maps[: known.size], masks[: known.size]
        if weights is not None and not masks.all():
            drawn = measures_of_draws(count_scores(maps, masks), weights[:, known], f"bootstrap of {name}")
            draws |= _by_key(PIXEL_MEASURES, drawn)
        pixels = pixel_measures(maps, masks, legacy_pro)
        measures |= _by_key(PIXEL_MEASURES | ({LEGACY_PRO: "legacy_pro"} if legacy_pro else {}), vars(pixels))
        curves = pixels.curves
        if known.size < len(scores):
            notes.append(f"{len(scores) - known.size} images without a mask are not in the pixel measures")
    else:
        notes.append("no pixel measures: there is no mask with an anomalous pixel")

    image = ranking_measures(scores[label == 0], scores[label == 1])
    measures |= _by_key(IMAGE_MEASURES, vars(image))
    if image.auroc is None:
        kinds = [kind for value, kind in ((0, "normal"), (1, "anomalous")) if not (label == value).any()]
        notes.append(f"no image measures: no image is labelled {' or '.join(kinds)}")
    elif weights is not None:
        known = np.flatnonzero(label >= 0)
        one_pixel = (known.size, 1, 1)  # as if each image were one, and with every score a threshold
        counts = count_scores(scores[known].reshape(one_pixel), label[known].reshape(one_pixel) == 1, known.size)
        draws |= _by_key(IMAGE_MEASURES, measures_of_draws(counts, weights[:, known]))
    return ClassMeasures(measures, notes, draws, curves)


def _kinds(label: np.ndarray, masks: np.ndarray, has_mask: np.ndarray) -> np.ndarray:
    """Tell what a measure needs some images to have, [n, 4]: label, known mask, anomalous pixels, normal pixels."""
    masks = masks if len(masks) else np.zeros((len(label), 1, 1), bool)
    return np.stack([label, has_mask, masks.any(axis=(1, 2)), ~masks.all(axis=(1, 2))], axis=1).astype(int)


def _by_key(names: Mapping[str, str], measured: Mapping[str, Any]) -> dict[str, Any]:
    return {key: measured[name] for key, name in names.items()}
