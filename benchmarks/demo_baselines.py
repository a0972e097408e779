"""Measures how far grey values and edge filters alone find the defects of the demo set.

    python demo/draw.py && python benchmarks/demo_baselines.py

Prints the pixel AUROC of each baseline for each class. What a detector gains over the best of them is not owed to
defects that are merely darker, lighter or sharper than everything else.
"""

from itertools import groupby

import numpy as np
from harness import Options, benchmark, print_table

from datasets.registry import get_spec
from engine.data_sets import read_test_split
from tests.plain_baselines import BASELINES, baseline_aurocs

DEMO = get_spec("demo")


@benchmark(data_path=DEMO.folder, image_size=128)
def main(args: Options) -> None:
    images, rows, size = read_test_split(DEMO, args.data_path), [], args.image_size
    for name, group in groupby(images.entries, key=lambda entry: entry.cls_name):
        read = [(images.read_image(one, size), images.read_mask(one, (size, size)).numpy()) for one in group]
        rows.append([name, *baseline_aurocs(*zip(*read, strict=True)).values()])
    rows.append(["mean", *np.mean([row[1:] for row in rows], axis=0)])
    print_table(dict.fromkeys(("class", *BASELINES), ".3f"), rows)
