"""Compares the rate of predict.py's whole loop with that of its detector alone, on batches that lie ready.

    python benchmarks/predicting.py                                               # ViT-B-16-plus-240, 240 px
    python benchmarks/predicting.py --model ViT-L-14-336 --images 8 --batch_size 2 --repeats 1

The whole loop reads JPEG photographs and finds their regions; with outputs it also writes overlays, small pictures,
lines, table and page. Weights are random. Seconds are wall time; where other programs have the processor as well,
processor seconds, of threads and reading processes, say more. At the end a fresh predict.py is timed to its answer.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from harness import PROJECT, Options, benchmark, print_table, seconds_of

from datasets.transforms import normalised
from engine.arrivals import Arrival
from engine.predicting import Predictor
from engine.prediction_options import PredictionOptions
from engine.prediction_writer import PredictionWriter
from tests.random_weights import save_random_weights

COLUMNS = ("", "images a second", "share of the detector's", "processor s an image", "share that is its own")


def draw_photographs(folder: Path, count: int, size: int) -> list[Path]:
    """Write JPEG files of smooth and fine noise."""
    rng, paths = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(count):
        smooth = cv2.resize(rng.random((16, 16, 3), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(255 * smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:03}.jpg")
        cv2.imwrite(str(paths[-1]), pixels)
    return paths


def first_answer(model: list[str], path: Path) -> None:
    """Start predict.py, ask for one photograph, and wait for the answer and the end."""
    command = [sys.executable, PROJECT / "predict.py", "-", *model]
    subprocess.run(command, input=f"{path}\n", text=True, capture_output=True, check=True)


@benchmark(model="ViT-B-16-plus-240", images=32, size=1024, batch_size=8, repeats=3)
def main(args: Options) -> None:
    folder = args.folder
    paths = draw_photographs(folder / "photographs", args.images, args.size)
    weights = save_random_weights(args.model, folder / "random.safetensors")
    model = ["--model", args.model, "--pretrained", str(weights), "--cache_dir", str(folder / "cache")]
    given = {"model": args.model, "pretrained": str(weights), "cache_dir": folder / "cache"}
    options = PredictionOptions(inputs=(str(folder),), batch_size=args.batch_size, threshold=0.5, **given)
    predictor, rounds = Predictor(options), iter(range(1000))
    prepared = predictor.dataset(paths)
    images = [normalised(prepared[index][1].image) for index in range(len(paths))]
    batches = [torch.stack(images[at : at + args.batch_size]) for at in range(0, len(images), args.batch_size)]

    def alone() -> None:
        for batch in batches:
            predictor.detector.predict(batch, [predictor.options.object] * len(batch))

    def without_outputs() -> None:
        for _, found in predictor.predict(paths, range(len(paths)), "predicting"):
            found.row(None, 0.5)

    def with_outputs() -> None:
        own = replace(predictor.options, save_path=folder / f"results {next(rounds)}")
        settings = {"folder": str(folder / "photographs")}
        with PredictionWriter(own, settings, paths, None, ()) as writer:
            for index, found in predictor.predict(paths, writer.order, "predicting"):
                writer.write(Arrival(paths[index], writer.files[str(paths[index])]), found)
            writer.finish()

    ways = {"the detector alone": alone, "without outputs": without_outputs, "with outputs": with_outputs}
    taken = [[seconds_of(way) for way in ways.values()] for _ in range(args.repeats + 1)][1:]
    walls, processors = ([[one[kind] for one in each] for each in taken] for kind in (0, 1))
    rows = []
    for place, way in enumerate(ways):
        rate = median(row[0] / row[place] for row in walls)  # of the same round
        work = median(row[0] / row[place] for row in processors)
        wall = median(row[place] for row in walls)
        rows.append((way, args.images / wall, rate, median(row[place] for row in processors) / args.images, work))
    print(f"{torch.get_num_threads()} threads")
    print_table(dict.fromkeys(COLUMNS, ".2f"), rows)
    wall, processor = seconds_of(lambda: first_answer(model, paths[0]))
    print(f"\na fresh predict.py with these weights, to its first answer: {wall:.1f} s, {processor:.1f} processor s")
