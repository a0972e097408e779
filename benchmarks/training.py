"""Times SDP+'s training with the cache of patch tokens against training that encodes in every epoch.

    python benchmarks/training.py                    # ViT-B-16-plus-240, 240 px, 32 images, 5 epochs

The backbone has random weights; images and masks are those of the demo data set, which demo/draw.py draws. Also says
how much of the rate at which this machine multiplies matrices a step on cached tokens attains.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import medians, ratio_table, start
from datasets.registry import get_spec
from engine.data_sets import read_test_split
from engine.sdp_plus_training import train_epoch
from engine.tokens import TokenSource, token_source
from engine.training import epoch_order, shared_steps
from engine.training_data import TrainingSet
from engine.training_options import SDPPlusTrainingOptions
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.sdp_plus import adapter_upsampling, adapters_for
from tests.random_weights import random_backbone


def train(args: argparse.Namespace, tokens: TokenSource, backbone: Backbone, text: Tensor) -> list[float]:
    """Train adapters, and return the losses of every step."""
    torch.manual_seed(0)
    adapters = adapters_for(backbone)
    optimizer = torch.optim.Adam(adapters.parameters(), lr=1e-4)
    losses = []
    for epoch in range(1, args.epochs + 1):
        order = epoch_order(args.images, seed=42, epoch=epoch, shuffled=True)
        batches = tokens.batches(order, args.batch_size)
        steps = shared_steps(batches, args.images, args.batch_size)
        losses += train_epoch(adapters, optimizer, steps, text, adapter_upsampling(backbone))
    return losses


def step_shares(args: argparse.Namespace, tokens: TokenSource, backbone: Backbone, text: Tensor) -> str:
    """Say how a step on tokens at hand divides into its matrix products and the rest."""
    batch = next(tokens.batches(range(args.batch_size), args.batch_size))
    adapters = adapters_for(backbone)
    optimizer = torch.optim.Adam(adapters.parameters(), lr=1e-4)
    upsampling = adapter_upsampling(backbone)
    taps, images, patches, width = batch.tokens.shape
    embed_dim = adapters.fc[0].out_features
    layer, tokens_of_a_tap = adapters.fc[0], batch.tokens[0]
    gradient = torch.randn(images, patches, embed_dim)

    def products() -> None:  # of one tap: the layer, and the gradient of its weights
        torch.autograd.grad(layer(tokens_of_a_tap), layer.weight, gradient)

    seconds = medians(
        {
            "step": lambda: list(train_epoch(adapters, optimizer, [(batch, 1.0)], text, upsampling)),
            "products": lambda: [products() for _ in range(taps)],
        },
        args.repeats,
    )
    operations = taps * 4 * images * patches * width * embed_dim
    return (
        f"a step on cached tokens takes {seconds['step'] * 1e3:.0f} ms, of which the layers' matrix products alone "
        f"take {seconds['products'] * 1e3:.0f} ms: {operations / seconds['step'] / 1e9:.0f} of "
        f"{operations / seconds['products'] / 1e9:.0f} GFLOP/s, {seconds['products'] / seconds['step']:.0%}"
    )


def main() -> None:
    args = start(
        __doc__,
        model=("ViT-B-16-plus-240", "open_clip model name"),
        images=(32, "to train on"),
        epochs=(5, "of the training"),
        batch_size=(8, "images a step"),
        repeats=(15, "timed steps"),
    )
    spec = get_spec("demo")
    demo = read_test_split(spec, spec.folder)
    stride = len(demo.entries) // args.images
    images = TrainingSet([replace(demo, entries=demo.entries[::stride][: args.images])])
    with tempfile.TemporaryDirectory() as folder:
        backbone = random_backbone(args.model, Path(folder))
        embed_dim = backbone.clip.visual.output_dim
        text = torch.nn.functional.normalize(torch.randn(1, embed_dim, 2), dim=1).expand(args.images, -1, -1)
        seconds, losses = {}, {}
        for name, options in {
            "encoding in every epoch": {"no_cache": True},
            "cache, fp16": {"cache_precision": "fp16"},
            "cache, fp32": {"cache_precision": "fp32"},
        }.items():
            place = {"save_path": Path(folder), "cache_dir": Path(folder) / name.replace(" ", "_")}
            own = SDPPlusTrainingOptions(train_dataset=("demo",), batch_size=args.batch_size, **place, **options)
            began = perf_counter()
            tokens = token_source(own, backbone, Fidelity.named("corrected"), images)
            losses[name] = torch.tensor(train(args, tokens, backbone, text))
            seconds[name] = perf_counter() - began
        reference = losses["encoding in every epoch"]
        print(f"{backbone.image_size} px, {torch.get_num_threads()} threads; filling the cache is part of its time\n")
        print(ratio_table(seconds))
        for name in ("cache, fp16", "cache, fp32"):
            difference = ((losses[name] - reference).abs() / reference).max()
            print(f"largest relative difference of a loss with {name}: {difference:.1e}")
        print(step_shares(args, tokens, backbone, text))


if __name__ == "__main__":
    main()
