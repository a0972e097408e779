"""Trains and tests variants on the demo set: what a part of a method, or a switch of its fidelity, changes there.

    python demo/draw.py
    python benchmarks/variants.py                          # about an hour on two cores
    python benchmarks/variants.py --methods dp_clip --seeds 0 1 2 3 4

Training is on five classes and testing on the other five, as `reproduce.sh` does it. A seed decides where the training
starts and in which order it goes; what is not trained is measured once. The demonstration model is no CLIP: what
matters on its pictures need not matter on photographs.
"""

import contextlib
import io
import json
import tempfile
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import numpy as np
from harness import Options, benchmark
from tabulate import tabulate
from tqdm import tqdm

from engine.reproduction_plan import DEMO_RECIPES, SPLIT, command_line, label_of
from engine.reproduction_plan import VARIANTS as ABLATIONS
from models.fidelity import Fidelity
from utils.measures.class_measures import IMAGE_MEASURES, PIXEL_MEASURES

TRAINED_ON, TESTED_ON = SPLIT["demo"]
MEASURES = (*PIXEL_MEASURES, *IMAGE_MEASURES)
OF_SDP = {label_of(one).replace("_", " "): command_line(one) for one in ABLATIONS}
PARTS = {  # what a training's options leave out
    "without decoupling": ["--decoupling_weight", "0"],
    "without GRN": ["--no-grn"],
    "without either": ["--decoupling_weight", "0", "--no-grn"],
}
VARIANTS = {  # of a method; one called as a switch of fidelity has this one on, the rest none
    "sdp": ("corrected", "taps_share_buffers", *OF_SDP),
    "sdp_plus": ("corrected", "taps_share_buffers", "unshuffled_training"),
    "dp_clip": ("corrected", *PARTS, "grn_over_batch", "repeated_prototype_update"),
}


def measure(method: str, variant: str, seed: int) -> list[float]:
    """Return the mean measures on the classes that were not trained on, in percent."""
    fidelity = Fidelity(**{variant: True} if hasattr(Fidelity, variant) else {})
    named = patch.object(Fidelity, "named", lambda *_: fidelity)
    with tempfile.TemporaryDirectory() as folder, named, contextlib.redirect_stderr(io.StringIO()):
        common = ["--model", "demo", "--seed", str(seed), "--num_workers", "0"]
        test = ["--dataset", "demo", "--classes", *TESTED_ON, *common, "--save_path", f"{folder}/test", "--no_report"]
        test += OF_SDP.get(variant, [])
        if method in DEMO_RECIPES:
            train = ["--train_dataset", "demo", "--train_classes", *TRAINED_ON, *command_line(DEMO_RECIPES[method])]
            train += [*common, "--save_path", f"{folder}/training", "--save_freq", "40", *PARTS.get(variant, [])]
            import_module(f"train_{method}").main(train)
            test += ["--checkpoint", f"{folder}/training"]
        import_module(f"test_{method}").main(test)
        results = json.loads(next(Path(folder, "test").rglob("results.json")).read_text(encoding="utf-8"))
    return [np.nan if results["mean"][name] is None else 100 * results["mean"][name] for name in MEASURES]


@benchmark(methods=list(VARIANTS), seeds=[1, 2, 3])
def main(args: Options) -> None:
    jobs = [(method, variant) for method in args.methods for variant in VARIANTS[method]]
    rows = []
    for method, variant in tqdm(jobs, unit="variant", dynamic_ncols=True):
        seeds = args.seeds[:1] if method == "sdp" else args.seeds
        values = np.array([measure(method, variant, seed) for seed in seeds])
        cells = ["-" if np.isnan(mean) else f"{mean:.1f}" for mean in values.mean(0)]
        if len(seeds) > 1:
            cells = [f"{cell} ± {spread:.1f}" for cell, spread in zip(cells, values.std(0, ddof=1), strict=True)]
        rows.append((method, variant, *cells))
    print(f"Mean and standard deviation over seeds {' '.join(map(str, args.seeds))}, in percent\n")
    print(tabulate(rows, headers=("method", "variant", *MEASURES), tablefmt="pipe", disable_numparse=True))
