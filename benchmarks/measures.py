"""Times the measures of one class, and of its bootstrap draws, against plain ways, and shows that the values agree.

    python benchmarks/measures.py                   # a class like MVTec's: 83 maps of 518 x 518; four minutes
    python benchmarks/measures.py --maps 10 --size 240

The plain way to measure is what the evaluation scripts of this field do: scikit-learn's functions on all pixels, and
PRO by a loop over 200 thresholds and over the regions. It has no exact PRO to compare with; the tests do.

The direct way to a bootstrap copies the maps of a draw and measures them with `pixel_measures`, which is itself fast;
it is timed on a few draws, as all take the same time, and its values are compared with ours. The intervals are compared
with those from all thresholds, which share none and are exact.
"""

import cv2
import numpy as np
from harness import Options, benchmark, print_ratios, print_table, timed

from tests.plain_measures import pixel_measures, plain_draws, plain_legacy_pro, plain_ranking
from utils.measures.bootstrap import THRESHOLDS, Bootstrap, measures_of_draws
from utils.measures.ranking import ranking_measures

Values = tuple[float | None, ...]  # of MEASURES
MEASURES = ("pixel AUROC", "pixel AP", "pixel F1-max", "PRO", "PRO, 200 thresholds")
MEASURES += ("image AUROC", "image AP", "image F1-max")
OF_DRAWS = {"auroc": "pixel AUROC", "f1_max": "pixel F1-max", "ap": "pixel AP", "pro": "PRO"}


def make_class(maps: int, size: int, anomalous: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make maps of smooth noise with blobs at the defects, some of them faint, and false alarms elsewhere.

    Every fourth is normal; `anomalous` is the share of anomalous pixels in all. Gives float32 maps and bool masks, both
    [maps, size, size].
    """
    rng = np.random.default_rng(seed)
    scores = np.empty((maps, size, size), np.float32)
    masks = np.zeros(scores.shape, bool)
    share = anomalous * maps / max(1, maps - len(range(0, maps, 4)))
    for index in range(maps):
        noise = _smooth(rng.normal(size=(size, size)), size / 64)
        scores[index] = noise / noise.std() + rng.normal(0, 0.05, noise.shape)
        scores[index] += 3 * _smooth(_defect(rng, size, 0.005), size / 64)  # a false alarm
        if index % 4:
            for _ in range(rng.integers(1, 4)):
                masks[index] |= _defect(rng, size, share / 2)
            scores[index] += rng.uniform(1, 4) * _smooth(masks[index], size / 64)
    return scores, masks


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(values.astype(np.float32), (0, 0), sigma)


def _defect(rng: np.random.Generator, size: int, share: float) -> np.ndarray:
    """Draw an ellipse of about `share` of the image's area, anywhere in it; [size, size] bool."""
    stretch = rng.uniform(0.5, 2)
    radius = size * np.sqrt(share / np.pi)
    axes = round(radius * stretch), round(radius / stretch)
    centre = [int(value) for value in rng.integers(0, size, 2)]
    canvas = np.zeros((size, size), np.uint8)
    return cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1).astype(bool)


def ours(maps: np.ndarray, masks: np.ndarray) -> Values:
    """Measure by `utils.measures`, which takes the maps' buffer."""
    labels, scores = masks.any((1, 2)), maps.max((1, 2))
    image = ranking_measures(scores[~labels], scores[labels])
    return *pixel_measures(maps, masks, legacy_pro=True)[0].values(), *image.values()


def plain(maps: np.ndarray, masks: np.ndarray) -> Values:
    """Measure the same the plain way, which has no exact PRO."""
    pro, image = plain_legacy_pro(maps, masks), plain_ranking(masks.any((1, 2)), maps.max((1, 2)))
    return *plain_ranking(masks.ravel(), maps.ravel()), None, pro, *image


def compare_draws(maps: np.ndarray, masks: np.ndarray, draws: int, some: int, seed: int) -> None:
    """Compare the measures of all draws with those of `some`, measured one by one."""
    bootstrap = Bootstrap(draws, seed=seed)
    weights = bootstrap.draw("class", masks.any(axis=(1, 2))[:, None].astype(int))
    seconds, values = {}, {}
    for way, thresholds in (("ours", THRESHOLDS), ("all thresholds", maps.size)):
        seconds[way], values[way] = timed(measures_of_draws, maps, masks, weights, thresholds)
    seconds_of_some, one_by_one = timed(plain_draws, maps, masks, weights[:some])
    rows = []
    for name, label in OF_DRAWS.items():
        near, exact = (bootstrap.interval(own[name]) for own in values.values())
        off = max(abs(a - b) for a, b in zip(near, exact, strict=True))
        draw_off = (np.abs(own[name][:some] - one_by_one[name]).max() for own in values.values())
        rows.append((label, *near, off, *draw_off))
    print(f"\nOf {draws} draws; {len(np.unique(maps[masks]))} different anomalous scores, {THRESHOLDS} thresholds\n")
    off_by = dict.fromkeys(("limits off by", "a draw off by", "and with all thresholds"), ".1e")
    print_table({"": "", "from": ".4f", "to": ".4f"} | off_by, rows)
    print()
    print_ratios(seconds | {"direct": seconds_of_some * draws / some})


@benchmark(maps=83, size=518, anomalous=0.03, repeats=3, draws=1000, timed=10, seed=0)
def main(args: Options) -> None:
    maps, masks = make_class(args.maps, args.size, args.anomalous, args.seed)
    normal = np.count_nonzero(~masks.any((1, 2)))
    print(f"{normal} of the maps are normal, {masks.mean():.2%} of the pixels anomalous\n")
    seconds, values = [], []
    for function in (ours, plain):
        runs = [timed(function, maps.copy(), masks) for _ in range(args.repeats)]
        seconds.append(np.median([run[0] for run in runs]))
        values.append(runs[0][1])
    rows = [*zip(MEASURES, *values, strict=True), ("seconds", *seconds)]
    print_table(dict.fromkeys(("", "ours", "plain"), ".9f"), rows)
    print(f"\nratio of the times: {seconds[1] / seconds[0]:.1f}")
    compare_draws(maps, masks, args.draws, args.timed, args.seed)
