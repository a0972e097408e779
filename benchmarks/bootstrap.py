"""Times the pixel measures of 1000 bootstrap draws against measuring each draw, and compares the intervals.

    python benchmarks/bootstrap.py                  # a class like MVTec's: 83 maps of 518 x 518; two minutes
    python benchmarks/bootstrap.py --maps 10 --size 240

The direct way copies the maps of a draw and measures them with `pixel_measures`, which is itself fast; it is timed on a
few draws, as all take the same time, and its values are compared with ours. The intervals are compared with those
from all thresholds, which share none and are exact.
"""

import argparse
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measures import make_class
from utils.measures.bootstrap import THRESHOLDS, Bootstrap, count_scores, measures_of_draws
from utils.measures.class_measures import pixel_measures

NAMES = {"auroc": "pixel AUROC", "f1_max": "pixel F1-max", "ap": "pixel AP", "pro": "PRO"}


def direct(maps: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of each draw, from its images."""
    rows = [pixel_measures(np.repeat(maps, row, axis=0), np.repeat(masks, row, axis=0)) for row in weights]
    return {name: np.array([getattr(row, name) for row in rows]) for name in NAMES}


def ours(
    maps: np.ndarray, masks: np.ndarray, weights: np.ndarray, thresholds: int = THRESHOLDS
) -> dict[str, np.ndarray]:
    """The measures of all draws at once."""
    drawn = measures_of_draws(count_scores(maps, masks, thresholds), weights)
    return {name: getattr(drawn, name) for name in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=83, help="images of the class (default: %(default)s)")
    parser.add_argument("--size", type=int, default=518, help="height and width in pixels (default: %(default)s)")
    parser.add_argument(
        "--anomalous", type=float, default=0.03, help="share of anomalous pixels (default: %(default)s)"
    )
    parser.add_argument("--draws", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--timed", type=int, default=10, help="draws measured the direct way (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the maps and the draws (default: %(default)s)")
    args = parser.parse_args()
    maps, masks = make_class(args.maps, args.size, args.anomalous, args.seed)
    bootstrap = Bootstrap(args.draws, seed=args.seed)
    weights = bootstrap.draw("class", masks.any(axis=(1, 2))[:, None].astype(int))

    seconds, values = {}, {}
    for name, thresholds in (("ours", THRESHOLDS), ("all thresholds", maps.size)):
        start = perf_counter()
        values[name] = ours(maps, masks, weights, thresholds)
        seconds[name] = perf_counter() - start
    start = perf_counter()
    one_by_one = direct(maps, masks, weights[: args.timed])
    seconds["direct"] = (perf_counter() - start) * args.draws / args.timed

    rows = []
    for name, label in NAMES.items():
        near, exact = (bootstrap.interval(values[way][name]) for way in ("ours", "all thresholds"))
        rows.append(
            [
                label,
                *near,
                max(abs(a - b) for a, b in zip(near, exact, strict=True)),
                np.abs(values["ours"][name][: args.timed] - one_by_one[name]).max(),
                np.abs(values["all thresholds"][name][: args.timed] - one_by_one[name]).max(),
            ]
        )
    print(
        f"{args.maps} maps of {args.size} x {args.size}, {args.draws} draws; "
        f"{len(np.unique(maps[masks]))} different anomalous scores, {THRESHOLDS} thresholds\n"
    )
    headers = ("", "from", "to", "limits off by", "a draw off by", "and with all thresholds")
    print(tabulate(rows, headers, floatfmt=("", ".4f", ".4f", ".1e", ".1e", ".1e")))
    print()
    times = [(name, value, value / seconds["ours"]) for name, value in seconds.items()]
    print(tabulate(times, headers=("", "seconds", "ratio to ours"), floatfmt=".1f"))


if __name__ == "__main__":
    main()
