"""Times SDP+'s training with the cache of patch tokens against training that encodes in every epoch.

    python benchmarks/training.py                    # ViT-B-16-plus-240, 240 px, 32 images, 5 epochs

The backbone has random weights; images and masks are those of the demo data set, which demo/draw.py draws. Also says
how much of the rate at which this machine multiplies matrices a step on cached tokens attains, compiled and not.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from harness import Options, benchmark, medians, print_ratios, print_table, timed
from torch import Tensor

from datasets.registry import get_spec
from engine.data_sets import read_test_split
from engine.sdp_plus_training import SDPPlusTraining
from engine.tokens import TokenBatch
from engine.training_options import SDPPlusTrainingOptions
from engine.training_sets import fingerprints
from models.fidelity import Fidelity
from models.sdp import adapters_for
from tests.random_weights import random_backbone

WAYS = {
    "encoding in every epoch": {"no_cache": True},
    "cache, fp16": {"cache_precision": "fp16"},
    "cache, fp32": {"cache_precision": "fp32"},
}


def print_shares(trainings: Mapping[str, SDPPlusTraining], batch: TokenBatch, repeats: int) -> None:
    """Print how much of a step on tokens at hand its matrix products take, and the rate of both in GFLOP/s."""
    layer = next(iter(trainings.values())).trained.fc[0]
    gradient = torch.randn(*batch.tokens.shape[1:3], layer.out_features)

    def step(training: SDPPlusTraining) -> None:
        training.forward_backward(batch, 1.0, 1.0)
        training.step()

    def products() -> None:  # of every tap: the layer, and the gradient of its weights
        for tokens in batch.tokens:
            torch.autograd.grad(layer(tokens), layer.weight, gradient)

    ways = {"its matrix products alone": products} | {name: partial(step, one) for name, one in trainings.items()}
    seconds = medians(ways, repeats)
    alone = seconds["its matrix products alone"]
    work = 4e-9 * batch.tokens.numel() * layer.out_features  # thousands of millions of operations
    rows = [(name, 1e3 * value, work / value, alone / value) for name, value in seconds.items()]
    print_table({"a step on cached tokens": "", "ms": ".1f", "GFLOP/s": ".0f", "share of the products": ".2f"}, rows)


@benchmark(model="ViT-B-16-plus-240", images=32, epochs=5, batch_size=8, repeats=15)
def main(args: Options) -> None:
    spec = get_spec("demo")
    demo = read_test_split(spec, spec.folder)
    entries = demo.entries[:: len(demo.entries) // args.images][: args.images]
    backbone = random_backbone(args.model, args.folder)
    text = torch.nn.functional.normalize(torch.randn(1, backbone.clip.visual.output_dim, 2), dim=1)
    parts = {"images": [replace(demo, entries=entries)], "text": text.expand(args.images, -1, -1)}
    parts |= {"backbone": backbone, "fidelity": Fidelity.named("corrected")}
    parts["fingerprints"] = fingerprints(parts["images"])
    common = {"train_dataset": ("demo",), "batch_size": args.batch_size, "save_path": args.folder}

    def train(name: str) -> tuple[SDPPlusTraining, Tensor]:
        """Get the tokens and take the steps of all epochs; returns the training and its losses."""
        options = SDPPlusTrainingOptions(cache_dir=args.folder / name, **common, **WAYS[name])
        torch.manual_seed(0)
        training = SDPPlusTraining(options=options, trained=adapters_for(backbone), **parts)
        training.begin()
        epochs = range(1, args.epochs + 1)
        return training, torch.tensor([one["loss"] for epoch in epochs for one in training.steps(epoch)])

    seconds, losses = {}, {}
    for name in WAYS:
        seconds[name], (training, losses[name]) = timed(train, name)
    print(f"{backbone.image_size} px, {torch.get_num_threads()} threads; filling the cache is part of its time\n")
    print_ratios(seconds)
    (_, reference), *cached = losses.items()
    for name, own in cached:
        off = ((own - reference).abs() / reference).max()
        print(f"largest relative difference of a loss with {name}: {off:.1e}")
    of_both = {"options": training.options, "trained": training.trained}
    compiled = SDPPlusTraining(**of_both, **parts | {"backbone": replace(backbone, compile=True)})
    batch = next(training.tokens(range(args.batch_size)))
    print()
    print_shares({"a step": training, "a compiled step": compiled}, batch, args.repeats)
