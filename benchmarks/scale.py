"""Measures what grows with a data set: memory and time of an evaluation, time of the measures, reading of images.

    python benchmarks/scale.py                                       # up to 50,000 images; about ten minutes
    python benchmarks/scale.py --images 1000 5000

The evaluation is the one that every test runs, with its page, its table and its scores, on classes of 100 small images
each, which are the same files under other names; only the detector is a stub, a filter. Each evaluation has a process
of its own, whose peak memory counts everything, Python and its packages included.
"""

import math
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from harness import Options, benchmark, draw_photographs, in_own_process, medians, print_table, timed
from measures import make_class
from torch import Tensor

from datasets.image_set import ImageSet
from datasets.images import load_rgb
from datasets.loader import AnomalyDataset, in_batches, in_batches_of_one_class, make_loader
from datasets.meta import Entry
from datasets.registry import get_spec
from datasets.transforms import image_from_tensor
from engine.evaluation import evaluate_and_report
from engine.options import TestOptions
from tests.plain_measures import pixel_measures
from utils.evaluation_types import Prediction
from utils.runtime import Stopwatch

CLASS_IMAGES = 100
SIDE, MASK = 128, "mask.png"  # of the small images
PHOTOGRAPHS, PHOTOGRAPH_SIDE, INPUT_SIDE = 24, 1024, 518  # as in MVTec, and as ViT-L-14-336 takes it


class BrightnessDetector:
    """Stands for a method: the map is the image's brightness, smoothed."""

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        maps = F.avg_pool2d(images.mean(dim=1, keepdim=True), 5, stride=1, padding=2)[:, 0]  # [B, S, S]
        return Prediction(maps=maps, text_prob=maps.mean(dim=(1, 2)).sigmoid())

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        return text_prob + map_max


def evaluate_once(folder: Path, classes: int) -> dict[str, float]:
    """Evaluate the first classes in `folder`, every second image as anomalous; returns seconds by part."""
    torch.set_num_threads(1)
    places = [(f"{number:04}", f"{i:03}.png", i % 2) for number in range(classes) for i in range(CLASS_IMAGES)]
    entries = [Entry(f"{name}/{file}", MASK * odd, f"class {name}", "", odd) for name, file, odd in places]
    images, stopwatch = ImageSet(get_spec("folder"), folder, entries), Stopwatch()
    loader = make_loader(AnomalyDataset(images, SIDE), in_batches_of_one_class(entries, 50), num_workers=1)
    about = {"title": "scale", "description": {}, "to_picture": lambda image: image_from_tensor(image.image)}
    about |= {"device": torch.device("cpu"), "stopwatch": stopwatch, "made_with": "measured from the brightness"}
    options = TestOptions(dataset=("folder",), save_path=folder / f"results of {classes}")
    evaluate_and_report(BrightnessDetector(), lambda _: loader, images, options, **about)
    return stopwatch


def evaluation_table(sizes: Sequence[int], folder: Path) -> None:
    """Evaluate data sets of these sizes, each in a process of its own."""
    print(f"Evaluation, {SIDE} px, {CLASS_IMAGES} images a class\n")
    draw_photographs(folder / "0000", CLASS_IMAGES, SIDE, ".png")
    cv2.imwrite(str(folder / MASK), cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (40, 60), 12, 255, -1))
    for number in range(1, max(sizes) // CLASS_IMAGES):
        (folder / f"{number:04}").symlink_to(folder / "0000")
    rows = []
    for images in sizes:
        (whole, parts), peak = in_own_process(timed, evaluate_once, folder, images // CLASS_IMAGES)
        per_image = [1000 * seconds / images for seconds in (whole, parts["measures"], parts["output"])]
        rows.append((images, images // CLASS_IMAGES, *per_image, peak, peak / (rows[0][-2] if rows else peak)))
    columns = {"images": "", "classes": "", "ms an image": ".2f", "of it measures": ".2f", "of it page": ".2f"}
    print_table(columns | {"peak MiB": ".0f", "of the first": ".3f"}, rows)


def measures_table(repeats: int) -> None:
    """Time all pixel measures over the number of pixels n, and divide by n log n."""
    print("\nPixel measures of one class, 256 px\n")
    rows = []
    for count in (1, 4, 16, 64, 256):
        maps, masks = make_class(count, 256, 0.03, seed=0)
        runs = [timed(pixel_measures, maps.copy(), masks) for _ in range(repeats + 1)]  # which use the maps up
        n, seconds = maps.size, np.median([run[0] for run in runs[1:]])
        rows.append((n, seconds, 1e9 * seconds / (n * math.log2(n))))
    print_table({"pixels n": "", "seconds": ".4f", "ns / (n log2 n)": ".2f"}, rows)


def loader_table(repeats: int, folder: Path) -> None:
    """Read images through the loader, and by decoding alone; images a second."""
    print(f"\nReading photographs of {PHOTOGRAPH_SIDE} px for an input of {INPUT_SIDE} px\n")
    rows = []
    for suffix in (".png", ".jpg"):
        paths = draw_photographs(folder / suffix, PHOTOGRAPHS, PHOTOGRAPH_SIDE, suffix)
        entries = [Entry(path.name, "", "photograph", "", 0) for path in paths]
        images = AnomalyDataset(ImageSet(get_spec("folder"), folder / suffix, entries), INPUT_SIDE)
        ways = {"decoding alone, one process": lambda paths=paths: deque(map(load_rgb, paths), maxlen=0)}
        for workers in (0, 1, 2):
            loader = make_loader(images, in_batches(range(PHOTOGRAPHS), 4), num_workers=workers)
            ways[f"loader, {workers} workers"] = partial(deque, loader, maxlen=0)
        seconds = medians(ways, repeats)
        alone = seconds["decoding alone, one process"]
        rows += [(suffix, way, PHOTOGRAPHS / value, alone / value) for way, value in seconds.items()]
    print_table({"": "", "by": "", "images a second": ".1f", "of decoding alone": ".2f"}, rows)


@benchmark(images=[1000, 10000, 50000], repeats=3)
def main(args: Options) -> None:
    torch.set_num_threads(1)
    evaluation_table(args.images, args.folder)
    measures_table(args.repeats)
    loader_table(args.repeats, args.folder)
