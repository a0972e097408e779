"""Times SDP+'s training with the cache of patch tokens against training that encodes in every epoch.

    python benchmarks/training.py                    # ViT-B-16-plus-240, 240 px, 32 images, 5 epochs

The backbone has random weights; images and masks are those of the demo data set, which demo/draw.py draws.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from harness import Options, benchmark, print_ratios, timed
from torch import Tensor

from datasets.registry import get_spec
from engine.data_sets import read_test_split
from engine.options import SDPPlusTrainingOptions
from engine.sdp_plus_training import SDPPlusTraining
from models.fidelity import Fidelity
from models.sdp_plus import adapters_for
from tests.random_weights import random_backbone

WAYS = {
    "encoding in every epoch": {"no_cache": True},
    "cache, fp16": {"cache_precision": "fp16"},
    "cache, fp32": {"cache_precision": "fp32"},
}


@benchmark(model="ViT-B-16-plus-240", images=32, epochs=5, batch_size=8)
def main(args: Options) -> None:
    spec = get_spec("demo")
    demo = read_test_split(spec, spec.folder)
    entries = demo.entries[:: len(demo.entries) // args.images][: args.images]
    with tempfile.TemporaryDirectory() as folder:
        backbone = random_backbone(args.model, Path(folder))
        text = torch.nn.functional.normalize(torch.randn(1, backbone.clip.visual.output_dim, 2), dim=1)
        parts = {"images": [replace(demo, entries=entries)], "text": text.expand(args.images, -1, -1)}
        parts |= {"backbone": backbone, "fidelity": Fidelity.named("corrected")}
        common = {"train_dataset": ("demo",), "batch_size": args.batch_size, "save_path": Path(folder)}

        def train(name: str) -> Tensor:
            """Get the tokens, take the steps of all epochs, and return the losses."""
            options = SDPPlusTrainingOptions(cache_dir=Path(folder, name), **common, **WAYS[name])
            torch.manual_seed(0)
            training = SDPPlusTraining(options=options, trained=adapters_for(backbone), **parts)
            epochs = range(1, args.epochs + 1)
            return torch.tensor([one["loss"] for epoch in epochs for one in training.steps(epoch)])

        seconds, losses = {}, {}
        for name in WAYS:
            seconds[name], losses[name] = timed(train, name)
        print(f"{backbone.image_size} px, {torch.get_num_threads()} threads; filling the cache is part of its time\n")
        print_ratios(seconds)
        (_, reference), *cached = losses.items()
        for name, own in cached:
            off = ((own - reference).abs() / reference).max()
            print(f"largest relative difference of a loss with {name}: {off:.1e}")
