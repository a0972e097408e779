"""Compares predict.py's whole loop, and the page of app.py, with their detector alone, on batches that lie ready.

    python benchmarks/predicting.py                                               # ViT-B-16-plus-240, 240 px
    python benchmarks/predicting.py --model ViT-L-14-336 --image_size 518 --images 8 --batch_size 2 --repeats 1

The whole loop reads JPEG photographs and finds their regions; with outputs it also writes overlays, small pictures,
lines, table and page. The page reads, predicts and draws them for a browser. Weights are random. Seconds are wall time;
where other programs have the processor as well, processor seconds, of threads and reading processes, say more. At the
end a fresh predict.py is timed to its answer.
"""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import torch
from harness import PROJECT, Options, benchmark, draw_photographs, print_table, rounds

from datasets.transforms import normalised
from engine.arrivals import Arrival
from engine.inspection import Inspector
from engine.predicting import Predictor
from engine.prediction_options import PageOptions, PredictionOptions
from engine.prediction_writer import PredictionWriter
from tests.random_weights import save_random_weights

COLUMNS = ("", "images a second", "share of the detector's", "processor s an image", "share that is its own")


@benchmark(model="ViT-B-16-plus-240", image_size=240, images=32, size=1024, batch_size=8, repeats=3, device="cpu")
def main(args: Options) -> None:
    paths = draw_photographs(args.folder / "photographs", args.images, args.size)
    given = {key: getattr(args, key) for key in ("model", "image_size", "batch_size", "device")}
    given["pretrained"] = str(save_random_weights(args.model, args.folder / "random.safetensors"))
    given["cache_dir"] = args.folder / "cache"
    predictor = Predictor(PredictionOptions(inputs=(str(args.folder),), threshold=0.5, **given))
    prepared, name = predictor.dataset(paths), predictor.options.object
    images = torch.stack([normalised(prepared[index][1].image) for index in range(len(paths))]).to(args.device)
    inspector, numbers = Inspector(PageOptions(**given)), count()
    choice = replace(inspector.first, object=name, normal=tuple(map(str, paths)), rate=0.5)

    def alone() -> None:
        for batch in images.split(args.batch_size):
            predictor.detector.predict(batch, [name] * len(batch)).maps.cpu()

    def without_outputs() -> None:
        for _, found in predictor.predict(paths, range(len(paths)), "predicting"):
            found.row(None, 0.5)

    def with_outputs() -> None:
        own = replace(predictor.options, save_path=args.folder / f"results {next(numbers)}")
        with PredictionWriter(own, {"folder": str(args.folder / "photographs")}, paths, None, ()) as writer:
            for index, found in predictor.predict(paths, writer.order, "predicting"):
                writer.write(Arrival(paths[index], writer.files[str(paths[index])]), found)
            writer.finish()

    ways = {"the detector alone": alone, "without outputs": without_outputs, "with outputs": with_outputs}
    ways["the page of app.py"] = lambda: inspector.inspect(choice.normal, choice)
    taken = rounds(ways.values(), args.repeats)
    wall, processor = np.median(taken, axis=0).T
    shares = np.median(taken[:, :1] / taken, axis=0).T  # each of the same round
    print(f"{torch.get_num_threads()} threads")
    rows = zip(ways, args.images / wall, shares[0], processor / args.images, shares[1], strict=True)
    print_table(dict.fromkeys(COLUMNS, ".2f"), rows)
    command = [sys.executable, PROJECT / "predict.py", "-", *(f"--{key}={value}" for key, value in given.items())]
    ask = partial(subprocess.run, command, input=f"{paths[0]}\n", text=True, capture_output=True, check=True)
    ((wall, processor),) = rounds([ask], repeats=1)[0]
    print(f"\na fresh predict.py with these weights, to its first answer: {wall:.1f} s, {processor:.1f} processor s")
