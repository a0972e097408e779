"""Measures what grows with a data set: memory and time of an evaluation, time of the measures, reading of images.

    python benchmarks/scale.py                                       # up to 50,000 images; about ten minutes
    python benchmarks/scale.py --images 1000 5000

The evaluation is the one that every test runs, with its page, its table and its scores, on classes of 100 small
images each; only the detector is a stub, a filter. Each evaluation has a process of its own, whose peak memory counts
everything, Python and its packages included.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measures import make_class
from benchmarks.timing import medians
from datasets.images import load_rgb
from datasets.loader import make_loader
from datasets.meta import Entry
from datasets.transforms import image_from_tensor
from page.page import HtmlReport
from utils.evaluation_types import Prediction
from utils.measures.class_measures import pixel_measures
from utils.report import evaluate_and_report
from utils.results import ResultsWriter, Run
from utils.runtime import peak_memory_mib
from utils.stopwatch import Stopwatch

CLASS_IMAGES = 100
SIDE = 128  # of the small images
PHOTOGRAPH_SIDE, INPUT_SIDE = 1024, 518  # as in MVTec, and as ViT-L-14-336 takes it


class BrightnessDetector:
    """Stands for a method: the map is the image's brightness, smoothed."""

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        """Maps [B, S, S] of images [B, 3, S, S]."""
        maps = F.avg_pool2d(images.mean(dim=1, keepdim=True), 5, stride=1, padding=2)[:, 0]
        return Prediction(maps=maps, text_prob=maps.mean(dim=(1, 2)).sigmoid())

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        """The sum of both."""
        return text_prob + map_max


def draw_class(folder: Path, number: int) -> None:
    """Write a class's images, half of them with a bright square and its mask."""
    rng = np.random.default_rng(number)
    for i in range(CLASS_IMAGES):
        image = cv2.resize(rng.integers(60, 160, (16, 16, 3), dtype=np.uint8), (SIDE, SIDE))
        name = f"{number:04}_{i:03}.png"
        if i % 2:
            mask = np.zeros((SIDE, SIDE), np.uint8)
            y, x = rng.integers(0, SIDE - 24, 2)
            mask[y : y + 24, x : x + 24] = 255
            image[mask > 0] = np.minimum(image[mask > 0].astype(int) + 40, 255)
            cv2.imwrite(str(folder / f"mask_{name}"), mask)
        cv2.imwrite(str(folder / name), image)


def entries_of(images: int) -> list[Entry]:
    """The entries of as many images, class by class."""
    entries = []
    for index in range(images):
        number, i = divmod(index, CLASS_IMAGES)
        name = f"{number:04}_{i:03}.png"
        entries.append(Entry(name, f"mask_{name}" if i % 2 else "", f"class {number:04}", "", i % 2))
    return entries


def evaluate_once(folder: Path, images: int) -> dict[str, float]:
    """Evaluate the first images in `folder`; seconds by part, and the peak memory of this process in MiB."""
    torch.set_num_threads(1)
    entries = entries_of(images)
    device, stopwatch = torch.device("cpu"), Stopwatch()
    began = perf_counter()
    with tempfile.TemporaryDirectory() as out:
        run = Run(folder=Path(out), title="scale", images=images, classes=images // CLASS_IMAGES, description={})
        page = HtmlReport(run, lambda image: image_from_tensor(image.image))
        loader = make_loader(entries, folder, SIDE, batch_size=50, num_workers=1)
        writers = [ResultsWriter(run, device, stopwatch), page]
        evaluate_and_report(BrightnessDetector(), loader, entries, run, writers, device=device, stopwatch=stopwatch)
    peak = peak_memory_mib(device)["host"]
    return {"seconds": perf_counter() - began, "peak": peak, **stopwatch.seconds}


def evaluation_table(sizes: Sequence[int], workers: int) -> str:
    """Evaluations of data sets of these sizes, each in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        classes = math.ceil(max(sizes) / CLASS_IMAGES)
        with ProcessPoolExecutor(workers) as executor:
            list(executor.map(draw_class, [Path(folder)] * classes, range(classes), chunksize=8))
        for images in sizes:
            command = [sys.executable, __file__, "--evaluate", folder, str(images)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            found = json.loads(done.stdout)
            peak = rows[0][-2] if rows else found["peak"]
            per_image = [1000 * found[part] / images for part in ("seconds", "measures", "output")]
            rows.append((images, images // CLASS_IMAGES, *per_image, found["peak"], found["peak"] / peak))
    headers = ("images", "classes", "ms an image", "of it measures", "of it page", "peak MiB", "of the first")
    return tabulate(rows, headers=headers, floatfmt=("", "", ".2f", ".2f", ".2f", ".0f", ".3f"))


def measures_table(repeats: int) -> str:
    """Seconds of all pixel measures over the number of pixels n, and of them by n log n."""
    ways = {}
    for maps in (1, 4, 16, 64, 256):
        made = make_class(maps, 256, 0.03, np.random.default_rng(0))
        ways[maps * 256 * 256] = lambda made=made: pixel_measures(*made)
    rows = [(n, seconds, 1e9 * seconds / (n * math.log2(n))) for n, seconds in medians(ways, repeats).items()]
    return tabulate(rows, headers=("pixels n", "seconds", "ns / (n log2 n)"), floatfmt=("", ".4f", ".2f"))


def loader_table(repeats: int, count: int = 24) -> str:
    """Images a second through the loader, and by decoding alone."""
    rng = np.random.default_rng(0)
    size = (PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE)
    rows = []
    for suffix in ("png", "jpg"):
        with tempfile.TemporaryDirectory() as folder:
            names = [f"{i}.{suffix}" for i in range(count)]
            for name in names:
                picture = cv2.resize(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), size)
                noise = rng.integers(-6, 7, picture.shape)
                cv2.imwrite(f"{folder}/{name}", np.clip(picture + noise, 0, 255).astype(np.uint8))
            entries = [Entry(name, "", "photograph", "", 0) for name in names]

            def decode(folder: str = folder, names: Sequence[str] = tuple(names)) -> None:
                for name in names:
                    load_rgb(Path(folder) / name)

            def load(workers: int, folder: str = folder, entries: Sequence[Entry] = tuple(entries)) -> None:
                for _ in make_loader(entries, folder, INPUT_SIDE, batch_size=4, num_workers=workers):
                    pass

            ways = {"decoding alone, one process": decode}
            ways |= {f"loader, {n} workers": lambda n=n, load=load: load(n) for n in (0, 1, 2)}
            seconds = medians(ways, repeats)
            for name, value in seconds.items():
                rows.append((suffix, name, count / value, seconds["decoding alone, one process"] / value))
    headers = ("", "", "images a second", "of decoding alone")
    return tabulate(rows, headers=headers, floatfmt=("", "", ".1f", ".2f"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images",
        type=int,
        nargs="+",
        default=[1000, 10000, 50000],
        help="sizes of the data sets, multiples of 100, the smallest first (default: %(default)s)",
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="that draw the images (default: %(default)s)")
    parser.add_argument("--evaluate", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.evaluate:
        folder, images = args.evaluate
        print(json.dumps(evaluate_once(Path(folder), int(images))))
        return
    torch.set_num_threads(1)
    print(f"Evaluation, {SIDE} px, {CLASS_IMAGES} images a class\n")
    print(evaluation_table(args.images, args.workers))
    print("\nPixel measures of one class, 256 px\n")
    print(measures_table(args.repeats))
    print(f"\nReading photographs of {PHOTOGRAPH_SIDE} px for an input of {INPUT_SIDE} px\n")
    print(loader_table(args.repeats))


if __name__ == "__main__":
    main()
