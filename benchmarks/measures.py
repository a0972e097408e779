"""Times the measures of one class against the plain way to compute them, and shows that the values agree.

    python benchmarks/measures.py                   # a class like MVTec's: 83 maps of 518 x 518; two minutes
    python benchmarks/measures.py --maps 10 --size 240

The plain way is what the evaluation scripts of this field do: scikit-learn's functions on all pixels, and PRO
by a loop over 200 thresholds and over the regions. It has no exact PRO to compare with; the tests do.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import cv2
import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.plain_measures import plain_legacy_pro, plain_ranking
from utils.measures.class_measures import pixel_measures
from utils.measures.ranking import ranking_measures

Values = dict[str, float | None]


def make_class(maps: int, size: int, anomalous: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps of smooth noise with blobs at the defects, some of them faint, and false alarms elsewhere.

    Args:
        maps: images; every fourth is normal.
        size: height and width in pixels.
        anomalous: the share of anomalous pixels in all images.
        seed: of the random numbers.

    Returns:
        Maps [maps, size, size] float32 and masks [maps, size, size] bool.
    """
    rng = np.random.default_rng(seed)
    scores = np.empty((maps, size, size), np.float32)
    masks = np.zeros(scores.shape, bool)
    anomalous_images = maps - len(range(0, maps, 4))
    for index in range(maps):
        noise = _smooth(rng.normal(size=(size, size)), size / 64)
        scores[index] = noise / noise.std() + rng.normal(0, 0.05, noise.shape)
        scores[index] += 3 * _smooth(_defect(rng, size, 0.005), size / 64)  # a false alarm
        if index % 4:
            share = anomalous * maps / anomalous_images
            for _ in range(rng.integers(1, 4)):
                masks[index] |= _defect(rng, size, share / 2)
            scores[index] += rng.uniform(1, 4) * _smooth(masks[index], size / 64)
    return scores, masks


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(values.astype(np.float32), (0, 0), sigma)


def _defect(rng: np.random.Generator, size: int, share: float) -> np.ndarray:
    """An ellipse of about `share` of the image's area, anywhere in it; [size, size] bool."""
    stretch = rng.uniform(0.5, 2)
    radius = size * np.sqrt(share / np.pi)
    axes = round(radius * stretch), round(radius / stretch)
    centre = [int(value) for value in rng.integers(0, size, 2)]
    canvas = np.zeros((size, size), np.uint8)
    return cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1).astype(bool)


def ours(maps: np.ndarray, masks: np.ndarray) -> Values:
    """All measures by `utils.measures`; takes the maps' buffer."""
    labels, image_scores = masks.any((1, 2)), maps.max((1, 2))
    image = ranking_measures(image_scores[~labels], image_scores[labels])
    pixel = pixel_measures(maps, masks, legacy_pro=True)
    return {
        "pixel AUROC": pixel.auroc,
        "pixel AP": pixel.ap,
        "pixel F1-max": pixel.f1_max,
        "PRO": pixel.pro,
        "PRO, 200 thresholds": pixel.legacy_pro,
        "image AUROC": image.auroc,
        "image AP": image.ap,
        "image F1-max": image.f1_max,
    }


def plain(maps: np.ndarray, masks: np.ndarray) -> Values:
    """The same measures the plain way, which has no exact PRO."""
    pixel = plain_ranking(masks.ravel(), maps.ravel())
    image = plain_ranking(masks.any((1, 2)), maps.max((1, 2)))
    return {
        "pixel AUROC": pixel[0],
        "pixel AP": pixel[1],
        "pixel F1-max": pixel[2],
        "PRO": None,
        "PRO, 200 thresholds": plain_legacy_pro(maps, masks),
        "image AUROC": image[0],
        "image AP": image[1],
        "image F1-max": image[2],
    }


def timed(function: Callable[..., Values], maps: np.ndarray, masks: np.ndarray) -> tuple[float, Values]:
    """Seconds and result of a call on a copy of the maps (the copying is not timed)."""
    copy = maps.copy()
    start = perf_counter()
    values = function(copy, masks)
    return perf_counter() - start, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=83, help="images of the class (default 83)")
    parser.add_argument("--size", type=int, default=518, help="height and width in pixels (default 518)")
    parser.add_argument("--anomalous", type=float, default=0.03, help="share of anomalous pixels (default 0.03)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median is shown (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated maps (default 0)")
    args = parser.parse_args()
    maps, masks = make_class(args.maps, args.size, args.anomalous, args.seed)
    normal = np.count_nonzero(~masks.any((1, 2)))
    print(
        f"{args.maps} maps of {args.size} x {args.size}, {normal} of them normal, "
        f"{masks.mean():.2%} of the pixels anomalous; median of {args.repeats} runs\n"
    )
    seconds, values = {}, {}
    for name, function in (("ours", ours), ("plain", plain)):
        runs = [timed(function, maps, masks) for _ in range(args.repeats)]
        seconds[name], values[name] = median(run[0] for run in runs), runs[0][1]
    rows = [(measure, value, values["plain"][measure]) for measure, value in values["ours"].items()]
    rows.append(("seconds", seconds["ours"], seconds["plain"]))
    print(tabulate(rows, headers=("", "ours", "plain"), floatfmt=".9f", missingval="-"))
    print(f"\nratio of the times: {seconds['plain'] / seconds['ours']:.1f}")


if __name__ == "__main__":
    main()
