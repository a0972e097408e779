"""Times the pixel measures of 1000 bootstrap draws against measuring each draw, and compares the intervals.

    python benchmarks/bootstrap.py                  # a class like MVTec's: 83 maps of 518 x 518; two minutes
    python benchmarks/bootstrap.py --maps 10 --size 240

The direct way copies the maps of a draw and measures them with `pixel_measures`, which is itself fast; it is timed on a
few draws, as all take the same time, and its values are compared with ours. The intervals are compared with those
from all thresholds, which share none and are exact.
"""

import numpy as np
from harness import Options, benchmark, print_ratios, print_table, timed
from measures import make_class

from tests.plain_measures import plain_draws
from utils.measures.bootstrap import THRESHOLDS, Bootstrap, measures_of_draws

NAMES = {"auroc": "pixel AUROC", "f1_max": "pixel F1-max", "ap": "pixel AP", "pro": "PRO"}


@benchmark(maps=83, size=518, anomalous=0.03, draws=1000, timed=10, seed=0)
def main(args: Options) -> None:
    maps, masks = make_class(args.maps, args.size, args.anomalous, args.seed)
    bootstrap = Bootstrap(args.draws, seed=args.seed)
    weights = bootstrap.draw("class", masks.any(axis=(1, 2))[:, None].astype(int))

    seconds, values = {}, {}
    for way, thresholds in (("ours", THRESHOLDS), ("all thresholds", maps.size)):
        seconds[way], values[way] = timed(measures_of_draws, maps, masks, weights, thresholds)
    seconds_of_some, one_by_one = timed(plain_draws, maps, masks, weights[: args.timed])
    seconds["direct"] = seconds_of_some * args.draws / args.timed

    rows = []
    for name, label in NAMES.items():
        near, exact = (bootstrap.interval(values[way][name]) for way in values)
        off = max(abs(a - b) for a, b in zip(near, exact, strict=True))
        draw_off = (np.abs(values[way][name][: args.timed] - one_by_one[name]).max() for way in values)
        rows.append((label, *near, off, *draw_off))
    print(f"{len(np.unique(maps[masks]))} different anomalous scores, {THRESHOLDS} thresholds\n")
    off_by = dict.fromkeys(("limits off by", "a draw off by", "and with all thresholds"), ".1e")
    print_table({"": "", "from": ".4f", "to": ".4f"} | off_by, rows)
    print()
    print_ratios(seconds)
