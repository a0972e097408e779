"""Times SDP+'s training with the cache of patch tokens against training that encodes in every epoch.

    python benchmarks/training.py                    # ViT-B-16-plus-240, 240 px, 32 images, 5 epochs

The backbone has random weights; images and masks are those of the demo data set, which demo/draw.py draws. Also says
how much of the rate at which this machine multiplies matrices a step on cached tokens attains.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import medians, ratio_table, start
from datasets.registry import get_spec
from engine.data_sets import TrainingSet, read_test_split
from engine.sdp_plus_training import SDPPlusTraining
from engine.tokens import token_source
from engine.training_options import SDPPlusTrainingOptions
from models.fidelity import Fidelity
from models.sdp_plus import adapters_for
from tests.random_weights import random_backbone


def train(training: SDPPlusTraining, epochs: int) -> list[float]:
    """Take the steps of all epochs, and return their losses."""
    return [losses["loss"] for epoch in range(1, epochs + 1) for losses in training.steps(epoch)]


def step_shares(training: SDPPlusTraining, repeats: int) -> str:
    """Say how a step on tokens at hand divides into its matrix products and the rest."""
    size = training.options.batch_size
    batch = next(training.tokens.batches(range(size), size))
    taps, images, patches, width = batch.tokens.shape
    embed_dim = training.trained.fc[0].out_features
    layer, tokens_of_a_tap = training.trained.fc[0], batch.tokens[0]
    gradient = torch.randn(images, patches, embed_dim)

    def step() -> None:
        training.forward_backward(batch, 1.0, 1.0)
        training.step()

    def products() -> None:  # of one tap: the layer, and the gradient of its weights
        torch.autograd.grad(layer(tokens_of_a_tap), layer.weight, gradient)

    seconds = medians({"step": step, "products": lambda: [products() for _ in range(taps)]}, repeats)
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
            fidelity = Fidelity.named("corrected")
            tokens = token_source(own, backbone, fidelity, images)
            torch.manual_seed(0)
            training = SDPPlusTraining(
                options=own,
                backbone=backbone,
                fidelity=fidelity,
                images=images,
                text=text,
                trained=adapters_for(backbone),
                tokens=tokens,
            )
            losses[name] = torch.tensor(train(training, args.epochs))
            seconds[name] = perf_counter() - began
        reference = losses["encoding in every epoch"]
        print(f"{backbone.image_size} px, {torch.get_num_threads()} threads; filling the cache is part of its time\n")
        print(ratio_table(seconds))
        for name in ("cache, fp16", "cache, fp32"):
            difference = ((losses[name] - reference).abs() / reference).max()
            print(f"largest relative difference of a loss with {name}: {difference:.1e}")
        print(step_shares(training, args.repeats))


if __name__ == "__main__":
    main()
