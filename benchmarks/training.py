"""Times SDP+'s training with the cache of patch tokens against training that encodes in every epoch.

    python benchmarks/training.py                    # ViT-B-16-plus-240, 240 px, 32 images, 5 epochs

The backbone has random weights; images and masks are those of the demo data set, which demo/draw.py draws. Also says
how much of the rate at which this machine multiplies matrices a step on cached tokens attains.
"""

from dataclasses import replace

import torch
from harness import Options, benchmark, medians, print_ratios, timed
from torch import Tensor

from datasets.registry import get_spec
from engine.data_sets import read_test_split
from engine.sdp_plus_training import SDPPlusTraining
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


def step_shares(training: SDPPlusTraining, repeats: int) -> str:
    """Say how a step on tokens at hand divides into its matrix products and the rest."""
    batch = next(training.tokens(range(training.options.batch_size)))
    layer = training.trained.fc[0]
    gradient = torch.randn(*batch.tokens.shape[1:3], layer.out_features)

    def step() -> None:
        training.forward_backward(batch, 1.0, 1.0)
        training.step()

    def products() -> None:  # of every tap: the layer, and the gradient of its weights
        for tokens in batch.tokens:
            torch.autograd.grad(layer(tokens), layer.weight, gradient)

    whole, part = medians({step: step, products: products}, repeats).values()
    work = 4e-9 * batch.tokens.numel() * layer.out_features  # thousands of millions of operations
    return (
        f"a step on cached tokens takes {whole * 1e3:.0f} ms, of which the layers' matrix products alone take "
        f"{part * 1e3:.0f} ms: {work / whole:.0f} of {work / part:.0f} GFLOP/s, {part / whole:.0%}"
    )


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
    print(step_shares(training, args.repeats))
