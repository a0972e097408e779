"""Measures what grows with a data set: memory and time of an evaluation, time of the measures, reading of images.

    python benchmarks/scale.py                                       # up to 50,000 images; about ten minutes
    python benchmarks/scale.py --images 1000 5000

The evaluation is the one that every test runs, with its page, its table and its scores, on classes of 100 small
images each; only the detector is a stub, a filter. Each evaluation has a process of its own, whose peak memory counts
everything, Python and its packages included.
"""

import math
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from harness import Options, benchmark, in_own_process, medians, print_table, timed
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
SIDE = 128  # of the small images
PHOTOGRAPH_SIDE, INPUT_SIDE = 1024, 518  # as in MVTec, and as ViT-L-14-336 takes it


class BrightnessDetector:
    """Stands for a method: the map is the image's brightness, smoothed."""

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        maps = F.avg_pool2d(images.mean(dim=1, keepdim=True), 5, stride=1, padding=2)[:, 0]  # [B, S, S]
        return Prediction(maps=maps, text_prob=maps.mean(dim=(1, 2)).sigmoid())

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        return text_prob + map_max


def draw_class(folder: Path, number: int) -> None:
    """Write a class's images, every second with a bright square and its mask."""
    rng = np.random.default_rng(number)
    for entry in entries_of(number):
        image = cv2.resize(rng.integers(60, 160, (16, 16, 3), dtype=np.uint8), (SIDE, SIDE))
        if entry.anomaly:
            y, x = rng.integers(0, SIDE - 24, 2)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[y : y + 24, x : x + 24] = 255
            image[mask > 0] += 40
            cv2.imwrite(str(folder / entry.mask_path), mask)
        cv2.imwrite(str(folder / entry.img_path), image)


def entries_of(number: int) -> list[Entry]:
    """List the images of a class."""
    names = [f"{number:04}_{i:03}.png" for i in range(CLASS_IMAGES)]
    return [Entry(name, f"mask_{name}" * (i % 2), f"class {number:04}", "", i % 2) for i, name in enumerate(names)]


def evaluate_once(folder: Path, classes: int) -> dict[str, float]:
    """Evaluate the first classes in `folder`; returns seconds by part."""
    torch.set_num_threads(1)
    entries = [entry for number in range(classes) for entry in entries_of(number)]
    images, stopwatch = ImageSet(get_spec("folder"), folder, entries), Stopwatch()
    loader = make_loader(AnomalyDataset(images, SIDE), in_batches_of_one_class(entries, 50), num_workers=1)
    about = {"title": "scale", "description": {}, "to_picture": lambda image: image_from_tensor(image.image)}
    about |= {"device": torch.device("cpu"), "stopwatch": stopwatch, "made_with": "measured from the brightness"}
    with tempfile.TemporaryDirectory() as out:
        options = TestOptions(dataset=("folder",), save_path=Path(out))
        evaluate_and_report(BrightnessDetector(), lambda _: loader, images, options, **about)
    return stopwatch


def evaluation_table(sizes: Sequence[int], workers: int) -> None:
    """Evaluate data sets of these sizes, each in a process of its own."""
    print(f"Evaluation, {SIDE} px, {CLASS_IMAGES} images a class\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(workers) as executor:
            list(executor.map(partial(draw_class, Path(folder)), range(max(sizes) // CLASS_IMAGES), chunksize=8))
        for images in sizes:
            (whole, parts), peak = in_own_process(timed, evaluate_once, Path(folder), images // CLASS_IMAGES)
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


def loader_table(repeats: int, count: int = 24) -> None:
    """Read images through the loader, and by decoding alone; images a second."""
    print(f"\nReading photographs of {PHOTOGRAPH_SIDE} px for an input of {INPUT_SIDE} px\n")
    rng, rows = np.random.default_rng(0), []
    for suffix in ("png", "jpg"):
        with tempfile.TemporaryDirectory() as folder:
            entries = [Entry(f"{i}.{suffix}", "", "photograph", "", 0) for i in range(count)]
            images = AnomalyDataset(ImageSet(get_spec("folder"), Path(folder), entries), INPUT_SIDE)
            paths = [Path(folder, entry.img_path) for entry in entries]
            for path in paths:
                picture = cv2.resize(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), (PHOTOGRAPH_SIDE,) * 2)
                noise = rng.integers(-6, 7, picture.shape)
                cv2.imwrite(str(path), np.clip(picture + noise, 0, 255).astype(np.uint8))
            ways = {"decoding alone, one process": lambda paths=paths: deque(map(load_rgb, paths), maxlen=0)}
            loaders = [make_loader(images, in_batches(range(count), 4), num_workers=workers) for workers in (0, 1, 2)]
            ways |= {f"loader, {loader.num_workers} workers": partial(deque, loader, maxlen=0) for loader in loaders}
            seconds = medians(ways, repeats)
            alone = seconds["decoding alone, one process"]
            rows += [(suffix, way, count / value, alone / value) for way, value in seconds.items()]
    print_table({"": "", "by": "", "images a second": ".1f", "of decoding alone": ".2f"}, rows)


@benchmark(images=[1000, 10000, 50000], repeats=3, workers=2)
def main(args: Options) -> None:
    torch.set_num_threads(1)
    evaluation_table(args.images, args.workers)
    measures_table(args.repeats)
    loader_table(args.repeats)
