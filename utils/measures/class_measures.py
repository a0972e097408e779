"""All measures of one class, from its maps, masks and image scores, and their values in bootstrap draws."""

from collections.abc import Sequence

import numpy as np

from utils.measures.bootstrap import Bootstrap
from utils.measures.curves import Curves
from utils.measures.ranking import pixel_measures, ranking_measures
from utils.measures.weighted_measures import DrawnMeasures, count_images, count_pixels, measures_of_draws

PIXEL_MEASURES = ("auroc_px", "f1_px", "ap_px", "aupro")
IMAGE_MEASURES = ("auroc_sp", "f1_sp", "ap_sp")
LEGACY_PRO = "aupro_200"

# measures, notes, draws, curves of the pixels
ClassMeasures = tuple[dict[str, float | None], list[str], dict[str, np.ndarray], Curves | None]


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
    """Measure a class; the maps are used up, and so are the masks.

    Args:
        name: of the class, for the bootstrap's random numbers.
        labels: of n images, 0 normal, 1 anomalous, None unknown.
        scores: [n], of the images.
        maps: float32 [n, H, W], or [0, H, W] where there is no mask.
        masks: bool, of the shape of the maps.
        has_mask: bool [n], whether an image's mask is known.
        legacy_pro: also compute PRO by 200 thresholds.
        bootstrap: make draws.

    Returns:
        The measures, fractions or None where undefined; notes of why one is, and of what was left out; in
        bootstrap draws, the values [resamples] of each measure that is defined; and the curves behind the pixel
        measures, None where those are undefined.
    """
    label = np.array([-1 if value is None else value for value in labels])
    measures: dict[str, float | None] = dict.fromkeys(PIXEL_MEASURES)
    if legacy_pro:
        measures[LEGACY_PRO] = None
    notes, draws, curves = [], {}, None
    weights = None if bootstrap is None else bootstrap.draw(name, _kinds(label, masks, has_mask))
    if masks.any():
        known = np.flatnonzero(has_mask)
        for row, source in enumerate(known):  # close the gaps in place: a copy would double the memory
            if row != source:
                maps[row], masks[row] = maps[source], masks[source]
        maps, masks = maps[: known.size], masks[: known.size]
        if weights is not None and not masks.all():
            drawn = measures_of_draws(count_pixels(maps, masks), weights[:, known], f"bootstrap of {name}")
            draws |= _named(PIXEL_MEASURES, drawn)
        pixels = pixel_measures(maps, masks, legacy_pro=legacy_pro)
        measures |= zip(PIXEL_MEASURES, (pixels.auroc, pixels.f1_max, pixels.ap, pixels.pro), strict=True)
        if legacy_pro:
            measures[LEGACY_PRO] = pixels.legacy_pro
        curves = pixels.curves
        if known.size < len(scores):
            notes.append(f"{len(scores) - known.size} images without a mask are not in the pixel measures")
    else:
        notes.append("no pixel measures: there is no mask with an anomalous pixel")

    image = ranking_measures(scores[label == 0], scores[label == 1])
    measures |= zip(IMAGE_MEASURES, (image.auroc, image.f1_max, image.ap), strict=True)
    if image.auroc is None:
        kinds = [kind for value, kind in ((0, "normal"), (1, "anomalous")) if not (label == value).any()]
        notes.append(f"no image measures: no image is labelled {' or '.join(kinds)}")
    elif weights is not None:
        draws |= _named(IMAGE_MEASURES, measures_of_draws(count_images(scores, label), weights))
    return measures, notes, draws, curves


def _kinds(label: np.ndarray, masks: np.ndarray, has_mask: np.ndarray) -> np.ndarray:
    """What a measure needs some images to have, [n, 4]: label, known mask, anomalous pixels, normal pixels."""
    anomalous = masks.any(axis=(1, 2)) if len(masks) else np.zeros(len(label), bool)
    normal = ~masks.all(axis=(1, 2)) if len(masks) else np.zeros(len(label), bool)
    return np.stack([label, has_mask, anomalous, normal], axis=1).astype(int)


def _named(names: Sequence[str], drawn: DrawnMeasures) -> dict[str, np.ndarray]:
    values = {"auroc": drawn.auroc, "f1": drawn.f1_max, "ap": drawn.ap, "aupro": drawn.pro}
    return {name: values[name.split("_")[0]] for name in names}
