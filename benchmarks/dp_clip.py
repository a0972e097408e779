"""Times and weighs a training step and a prediction of DP-CLIP against a plain implementation of the published kind.

    python benchmarks/dp_clip.py                                     # ViT-L-14-336, 518 px, a batch of one
    python benchmarks/dp_clip.py --model ViT-B-16 --image_size 224

The plain one holds tokens as [1+N, B, C], gets the attention weights from nn.MultiheadAttention and keeps them with
every block's output, computes the gradients of the frozen weights, too, and brings both columns of logits to pixels.
All have the same random weights and image. Times are taken in turn, peak memory (of the process, with nothing taken
off) in a process for each.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import in_own_process, medians, start
from models.adapter import AdapterSettings, ImageAdapter, encode_adapted
from models.anomaly_map import kernel_matrix, upsampling_matrix
from models.dp_clip import anomaly_maps, training_loss
from models.dual_path import STAGES
from models.losses import MomentumPrototypes
from tests.plain_dp_clip import plain_features, plain_losses, plain_maps

DECOUPLING_WEIGHT = 0.1
TEST_ROUNDS = 4  # for each round of training


@dataclass(frozen=True)
class Setup:
    """The same for all: tower, adapter, one batch and its ground truth, and the matrices that make maps."""

    visual: torch.nn.Module
    adapter: ImageAdapter
    images: Tensor  # [B, 3, S, S]
    masks: Tensor  # bool [B, S, S]
    labels: Tensor  # [B]
    text: Tensor  # [B, D, 2]
    upsampling: Tensor  # [S, g]
    blurred_upsampling: Tensor  # [S, g]


def make_setup(model: str, size: int, batch: int, *, frozen: bool) -> Setup:
    """Draw random weights and images under a fixed seed; the text tower is let go of, as its work is done."""
    torch.manual_seed(0)
    config = open_clip.get_model_config(model)
    config["vision_cfg"]["image_size"] = size
    visual = open_clip.CLIP(**config).eval().requires_grad_(not frozen).visual
    depth = len(visual.transformer.resblocks)
    taps = tuple(depth * stage // STAGES for stage in range(1, STAGES + 1))
    settings = AdapterSettings(features_list=taps, adapt_layers=tuple(range(depth // STAGES)), grn_over_batch=True)
    adapter = ImageAdapter(*visual.proj.shape, settings)
    for parameter in adapter.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.1)
    masks = torch.zeros(batch, size, size, dtype=torch.bool)
    masks[0, size // 4 : size // 2, size // 3 : size // 2] = True
    images = torch.randn(batch, 3, size, size)
    text = F.normalize(torch.randn(batch, visual.proj.shape[1], 2), dim=1)
    upsampling = upsampling_matrix(visual.grid_size[0], size, align_corners=True)
    blurred = upsampling @ kernel_matrix(visual.grid_size[0], 7, 1.0)
    return Setup(visual, adapter, images, masks, masks.any((1, 2)).long(), text, upsampling, blurred)


def train(setup: Setup, *, activation_checkpointing: bool = False) -> Tensor:
    """Take a training step but for the optimiser's, which is the same for all; returns the loss."""
    setup.adapter.zero_grad()
    features = encode_adapted(
        setup.visual, setup.adapter, setup.images, activation_checkpointing=activation_checkpointing
    )
    prototypes = MomentumPrototypes(0.999)
    loss = training_loss(features, setup.text, setup.labels, setup.masks, setup.upsampling, prototypes)
    total = loss.total(DECOUPLING_WEIGHT)
    total.backward()
    return total.detach()


def train_plainly(setup: Setup) -> Tensor:
    """Take the same step the plain way, with the gradients of the tower that is not frozen."""
    setup.adapter.zero_grad()
    setup.visual.zero_grad()
    features = plain_features(setup.visual, setup.adapter, setup.images)
    classification, segmentation, decoupling = plain_losses(features, setup.text, setup.labels, setup.masks)
    total = classification + segmentation + DECOUPLING_WEIGHT * decoupling
    total.backward()
    return total.detach()


@torch.inference_mode()
def test(setup: Setup) -> Tensor:
    """Predict the maps [B, S, S] of the batch."""
    seg, _ = encode_adapted(setup.visual, setup.adapter, setup.images)
    return anomaly_maps(seg, setup.text, setup.blurred_upsampling)


@torch.no_grad()
def test_plainly(setup: Setup) -> Tensor:
    """Predict the same maps the plain way."""
    seg, _ = plain_features(setup.visual, setup.adapter, setup.images)
    return plain_maps(seg, setup.text, setup.images.shape[-1])


WAYS = {  # name -> whether its tower is frozen, and what does it
    "train, plain": (False, train_plainly),
    "train": (True, train),
    "train, activation checkpointing": (True, partial(train, activation_checkpointing=True)),
    "test, plain": (False, test_plainly),
    "test": (True, test),
}


def do_twice(name: str, model: str, size: int, batch: int, threads: int) -> None:
    """Do one of the ways twice, in a process whose peak memory is measured."""
    torch.set_num_threads(threads)
    frozen, way = WAYS[name]
    setup = make_setup(model, size, batch, frozen=frozen)
    way(setup)
    way(setup)


def main() -> None:
    args = start(
        __doc__,
        model=("ViT-L-14-336", "open_clip model name"),
        image_size=(518, "side in pixels"),
        batch_size=(1, "images at once"),
        repeats=(3, "timed rounds of training; there are four times as many of testing"),
        threads=(2, "of PyTorch"),
    )
    torch.set_num_threads(args.threads)
    sizes = args.model, args.image_size, args.batch_size
    peaks = {name: in_own_process(do_twice, name, *sizes, args.threads)[1] for name in WAYS}
    setups = {frozen: make_setup(*sizes, frozen=frozen) for frozen in (True, False)}
    ways = {name: partial(way, setups[frozen]) for name, (frozen, way) in WAYS.items()}
    seconds = {}
    for kind, rounds in (("train", args.repeats), ("test", TEST_ROUNDS * args.repeats)):
        own, plain = ways[kind](), ways[f"{kind}, plain"]()
        difference = float((own - plain).abs().max() / plain.abs().max())
        print(f"{kind}: largest relative difference from the plain result {difference:.1e}")
        seconds |= medians({name: way for name, way in ways.items() if name.startswith(kind)}, rounds)
    rows = []
    for name in WAYS:
        plain = f"{name.split(',')[0]}, plain"
        rows.append((name, seconds[name], seconds[plain] / seconds[name], peaks[name], peaks[name] / peaks[plain]))
    headers = ("", "seconds", "times as fast as plain", "peak MiB", "of the plain peak")
    print()
    print(tabulate(rows, headers=headers, floatfmt=("", ".2f", ".2f", ".0f", ".2f")))


if __name__ == "__main__":
    main()
