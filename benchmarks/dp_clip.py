"""Times and weighs a training step and a prediction of DP-CLIP against a plain implementation of the published kind.

    python benchmarks/dp_clip.py                                     # ViT-L-14-336, 518 px, a batch of one
    python benchmarks/dp_clip.py --model ViT-B-16 --image_size 224

The plain one holds tokens as [1+N, B, C], gets the attention weights from nn.MultiheadAttention and keeps them with
every block's output, computes the gradients of the frozen weights, too, and brings both columns of logits to pixels.
All have the same random weights and image. Times are taken in turn, in four times as many rounds for testing as for
training, peak memory (of the process, with nothing taken off) in a process for each.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from harness import Options, benchmark, difference, in_own_process, medians, print_table
from torch import Tensor

from models.anomaly_map import gaussian_matrix, upsampling_matrix
from models.dp_clip import AdapterSettings, ImageAdapter, anomaly_maps, encode_adapted, training_loss
from models.dual_path import STAGES
from models.losses import MomentumPrototypes
from tests.plain_dp_clip import plain_features, plain_losses, plain_maps
from tests.random_weights import random_clip

DECOUPLING_WEIGHT = 0.1
TEST_ROUNDS = 4  # for each round of training
WAYS = ("train, plain", "train", "train, activation checkpointing", "test, plain", "test")


def make_ways(model: str, size: int, batch: int) -> dict[str, Callable[[], Tensor]]:
    """Draw random weights and one batch under a fixed seed; returns each of `WAYS` to work on them.

    Training is a step but for the optimiser's, which is the same for all, and gives the loss; testing gives the maps
    [B, S, S]. The text tower is let go of, as its work is done.
    """
    visual = random_clip(model, size).eval().visual
    depth = len(visual.transformer.resblocks)
    taps = tuple(depth * stage // STAGES for stage in range(1, STAGES + 1))
    settings = AdapterSettings(features_list=taps, image_adapt_layers=range(depth // STAGES), grn_over_batch=True)
    adapter = ImageAdapter(*visual.proj.shape, settings)
    for parameter in adapter.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.1)
    masks = torch.zeros(batch, size, size, dtype=torch.bool)
    masks[0, size // 4 : size // 2, size // 3 : size // 2] = True
    labels = masks.any((1, 2)).long()
    images = torch.randn(batch, 3, size, size)
    text = F.normalize(torch.randn(batch, visual.proj.shape[1], 2), dim=1)
    upsampling = upsampling_matrix(visual.grid_size[0], size, align_corners=True)
    blurred_upsampling = upsampling @ gaussian_matrix(visual.grid_size[0], 1.0, 7)

    def train(plain: bool = False, activation_checkpointing: bool = False) -> Tensor:
        visual.requires_grad_(plain)
        visual.zero_grad()
        adapter.zero_grad()
        if plain:
            *losses, decoupling = plain_losses(plain_features(visual, adapter, images), text, labels, masks)
            total = sum(losses) + DECOUPLING_WEIGHT * decoupling
        else:
            features = encode_adapted(visual, adapter, images, activation_checkpointing=activation_checkpointing)
            rest = text, labels, masks, upsampling, MomentumPrototypes(0.999), DECOUPLING_WEIGHT
            total = training_loss(features, *rest)["loss"]
        total.backward()
        return total.detach()

    @torch.inference_mode()
    def test(plain: bool = False) -> Tensor:
        if plain:
            return plain_maps(plain_features(visual, adapter, images).seg, text, size)
        return anomaly_maps(encode_adapted(visual, adapter, images).seg, text, blurred_upsampling)

    trainings = partial(train, plain=True), train, partial(train, activation_checkpointing=True)
    return dict(zip(WAYS, (*trainings, partial(test, plain=True), test), strict=True))


def do_twice(name: str, model: str, size: int, batch: int, threads: int) -> None:
    """Do one of the ways twice, in a process whose peak memory is measured."""
    torch.set_num_threads(threads)
    way = make_ways(model, size, batch)[name]
    way()
    way()


@benchmark(model="ViT-L-14-336", image_size=518, batch_size=1, repeats=3, threads=2)
def main(args: Options) -> None:
    torch.set_num_threads(args.threads)
    sizes = args.model, args.image_size, args.batch_size
    peaks = {name: in_own_process(do_twice, name, *sizes, args.threads)[1] for name in WAYS}
    ways, rows = make_ways(*sizes), []
    for kind, rounds in (("train", args.repeats), ("test", TEST_ROUNDS * args.repeats)):
        plain = f"{kind}, plain"
        off = difference(ways[kind](), ways[plain]())
        print(f"{kind}: largest relative difference from the plain result {off:.1e}")
        seconds = medians({name: way for name, way in ways.items() if name.startswith(kind)}, rounds)
        for name, own in seconds.items():
            rows.append((name, own, seconds[plain] / own, peaks[name], peaks[name] / peaks[plain]))
    columns = {"": "", "seconds": ".2f", "times as fast as plain": ".2f", "peak MiB": ".0f", "of the plain peak": ".2f"}
    print()
    print_table(columns, rows)
