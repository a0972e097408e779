"""Times what the page of app.py does for several pictures against the model alone, on batches in memory.

    python benchmarks/uploads.py                                           # ViT-B-16-plus-240, 240 px
    python benchmarks/uploads.py --model ViT-L-14-336 --device cuda --batch_size 16

The weights are random, and so are the pictures: JPEG files of `size` x `size` pixels, which the page reads, predicts
and draws with their maps.
"""

from dataclasses import replace

import numpy as np
import torch
from harness import Options, benchmark, medians
from PIL import Image

from datasets.loader import in_batches
from engine.inspection import Inspector
from engine.prediction_options import PageOptions
from tests.random_weights import save_random_weights
from utils.arguments import options_from
from utils.files import write_json


@benchmark(model="ViT-B-16-plus-240", image_size=240, images=16, size=1024, batch_size=8, repeats=3, device="cpu")
def main(args: Options) -> None:
    rng = np.random.default_rng(0)
    paths = [str(args.folder / f"{number}.jpg") for number in range(args.images)]
    for path in paths:
        noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        noise.resize((args.size, args.size), Image.Resampling.BICUBIC).save(path)
    weights = save_random_weights(args.model, args.folder / "weights.safetensors")
    prompts = args.folder / "prompts.json"  # few, as the text is not what is timed
    write_json(prompts, {"normal": ["good {}"], "anomalous": ["bad {}"], "templates": ["a photo of a {}."]})
    of_model = {key: getattr(args, key) for key in ("model", "image_size", "batch_size", "device")}
    inspector = Inspector(
        options_from(PageOptions, {**of_model, "pretrained": weights, "prompts": prompts, "cache_dir": args.folder})
    )
    choice = replace(inspector.first, object="metal nut", normal=tuple(paths), rate=0.5)
    predictor = inspector.detector(choice)[0].predictor
    images = torch.randn(args.images, 3, args.image_size, args.image_size, device=args.device)
    batches = [images[list(batch)] for batch in in_batches(range(args.images), args.batch_size)]

    def model_alone() -> None:
        for batch in batches:
            predictor.detector.predict(batch, ["metal nut"] * len(batch)).maps.cpu()

    ways = {"the model alone": model_alone, "the page": lambda: inspector.inspect(paths, choice)}
    alone, page = medians(ways, args.repeats).values()
    print(f"the model alone {args.images / alone:.2f} images a second, the page {args.images / page:.2f}")
    print(f"{100 * alone / page:.0f} % of the model's rate")
