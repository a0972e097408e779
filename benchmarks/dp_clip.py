"""Times and weighs a training step and a prediction of DP-CLIP against a plain implementation of the published kind.

    python benchmarks/dp_clip.py                                     # ViT-L-14-336, 518 px, a batch of one
    python benchmarks/dp_clip.py --model ViT-B-16 --image_size 224

The plain one holds tokens as [1+N, B, C], gets the attention weights from nn.MultiheadAttention and keeps them with
every block's output, computes the gradients of the frozen weights, too, and brings both columns of logits to pixels.
All have the same random weights and image. Times are taken in turn, peak memory (of the process, with nothing taken
off) in a process for each.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import medians
from models.adapted_tower import AdaptedFeatures, encode_adapted
from models.adapter import AdapterSettings, ImageAdapter
from models.anomaly_map import kernel_matrix, upsampling_matrix
from models.dp_clip import anomaly_maps, training_loss
from models.dual_path import STAGES
from models.prototypes import MomentumPrototypes
from utils.runtime import peak_memory_mib

DECOUPLING_WEIGHT = 0.1
TEST_ROUNDS = 4  # for each round of training


@dataclass(frozen=True)
class Setup:
    """The same for all: tower, adapter, one batch and its ground truth."""

    visual: torch.nn.Module
    adapter: ImageAdapter
    images: Tensor
    masks: Tensor
    labels: Tensor
    text: Tensor

    @property
    def grid(self) -> int:
        return self.visual.grid_size[0]


def make_setup(args: argparse.Namespace, *, frozen: bool) -> Setup:
    """Random weights and images under a fixed seed; the text tower is built and let go of, as its work is done."""
    torch.manual_seed(0)
    config = open_clip.get_model_config(args.model)
    config["vision_cfg"]["image_size"] = args.image_size
    visual = open_clip.CLIP(**config).eval().requires_grad_(not frozen).visual
    depth = len(visual.transformer.resblocks)
    taps = tuple(depth * stage // STAGES for stage in range(1, STAGES + 1))
    settings = AdapterSettings(features_list=taps, adapt_layers=tuple(range(depth // STAGES)), grn_over_batch=True)
    adapter = ImageAdapter(*visual.proj.shape, settings)
    for parameter in adapter.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.1)
    masks = torch.zeros(args.batch_size, args.image_size, args.image_size, dtype=torch.bool)
    masks[0, args.image_size // 4 : args.image_size // 2, args.image_size // 3 : args.image_size // 2] = True
    return Setup(
        visual,
        adapter,
        torch.randn(args.batch_size, 3, args.image_size, args.image_size),
        masks,
        masks.any((1, 2)).long(),
        F.normalize(torch.randn(args.batch_size, visual.proj.shape[1], 2), dim=1),
    )


def our_step(setup: Setup, *, activation_checkpointing: bool = False) -> Callable[[], Tensor]:
    """A training step but for the optimiser's, which is the same; returns the loss."""
    upsampling = upsampling_matrix(setup.grid, setup.images.shape[-1], align_corners=True)

    def step() -> Tensor:
        setup.adapter.zero_grad()
        features = encode_adapted(
            setup.visual, setup.adapter, setup.images, activation_checkpointing=activation_checkpointing
        )
        prototypes = MomentumPrototypes(0.999)
        loss = training_loss(features, setup.text, setup.labels, setup.masks, upsampling, prototypes)
        total = loss.total(DECOUPLING_WEIGHT)
        total.backward()
        return total.detach()

    return step


def our_prediction(setup: Setup) -> Callable[[], Tensor]:
    """Maps of the batch."""
    upsampling = upsampling_matrix(setup.grid, setup.images.shape[-1], align_corners=True)
    matrix = upsampling @ kernel_matrix(setup.grid, 7, 1.0)

    @torch.inference_mode()
    def predict() -> Tensor:
        seg, _ = encode_adapted(setup.visual, setup.adapter, setup.images)
        return anomaly_maps(seg, setup.text, matrix)

    return predict


def plain_grn(module, x: Tensor) -> Tensor:
    g = x.norm(p=2, dim=1, keepdim=True)
    n = g / (g.mean(dim=-1, keepdim=True) + 1e-6)
    return x + module.weight * (x * n) + module.bias


def plain_features(setup: Setup) -> AdaptedFeatures:
    """The tower block by block, attention weights and all; they are returned to nobody but held until the end."""
    visual, settings = setup.visual, setup.adapter.settings
    z = visual._embeds(setup.images).transpose(0, 1)  # [1+N, B, C]
    kept, seg = [], []
    for number, block in enumerate(visual.transformer.resblocks):
        block.attn.batch_first = False
        x = block.ln_1(z)
        attention, weights = block.attn(x, x, x, need_weights=True)
        z = z + attention
        z = z + block.mlp(block.ln_2(z))
        if number in settings.adapt_layers:
            layer = setup.adapter.layer_adapters[settings.adapt_layers.index(number)]
            y = F.leaky_relu(plain_grn(layer.grn, layer.fc(z)))
            y = y * z.norm(dim=-1, keepdim=True) / y.norm(dim=-1, keepdim=True)
            z = settings.adapt_weight * y + (1 - settings.adapt_weight) * z
        kept.append((z, weights))
    for tap, projection in zip(settings.features_list, setup.adapter.seg_proj, strict=True):
        seg.append(plain_projection(visual, projection, kept[tap - 1][0]))
    return AdaptedFeatures(seg, plain_projection(visual, setup.adapter.det_proj, z).mean(dim=1))


def plain_projection(visual, projection, z: Tensor) -> Tensor:
    """Unit-length patch tokens [B, N, D] from all tokens [1+N, B, C]."""
    tokens = visual.ln_post(z.transpose(0, 1)[:, 1:])
    return F.normalize(plain_grn(projection.grn, projection.fc(tokens)), dim=-1)


def plain_logits(setup: Setup, tap: Tensor) -> Tensor:
    """Logits of both columns as an image [B, 2, g, g]."""
    return (100 * tap @ setup.text).transpose(1, 2).unflatten(2, (setup.grid, setup.grid))


def plain_dice(probability: Tensor, mask: Tensor) -> Tensor:
    p, m = probability.flatten(1), mask.flatten(1)
    return 1 - ((2 * (p * m).sum(1) + 1) / (p.sum(1) + m.sum(1) + 1)).mean()


def plain_step(setup: Setup) -> Callable[[], Tensor]:
    """See `our_step`."""

    def step() -> Tensor:
        setup.adapter.zero_grad()
        setup.visual.zero_grad()
        seg, det = plain_features(setup)
        size = setup.images.shape[-1]
        mask = setup.masks.float()
        target = torch.stack([1 - mask, mask], dim=1)
        small = F.interpolate(mask[:, None], size=setup.grid, mode="nearest")[:, 0].flatten(1) > 0.5
        total = F.cross_entropy((det[:, None] @ setup.text)[:, 0], setup.labels)
        prototypes = None
        for tap in seg:
            logits = F.interpolate(plain_logits(setup, tap), size=size, mode="bilinear", align_corners=True)
            p = logits.softmax(dim=1)
            pt = (p * target.clamp(1e-5, 1 - 1e-5)).sum(dim=1) + 1e-5
            total = total - ((1 - pt) ** 2 * pt.log()).mean()
            total = total + plain_dice(p[:, 0], 1 - mask) + plain_dice(p[:, 1], mask)
            vn, va = (F.normalize(tap[chosen].mean(dim=0), dim=-1) for chosen in (~small, small))
            if prototypes is None:
                total = total + DECOUPLING_WEIGHT * (va @ vn) ** 2
                prototypes = vn.detach(), va.detach()
            else:
                pn, pa = prototypes
                total = total + DECOUPLING_WEIGHT * ((va @ pn) ** 2 + (vn @ pa) ** 2) / 2
        total.backward()
        return total.detach()

    return step


def plain_prediction(setup: Setup) -> Callable[[], Tensor]:
    """See `our_prediction`."""

    @torch.no_grad()
    def predict() -> Tensor:
        maps = torch.zeros(len(setup.images), 1, *setup.images.shape[-2:])
        for tap in plain_features(setup).seg:
            n, a = plain_logits(setup, tap).unbind(dim=1)
            scores = gaussian_blur(((a + 1 - n) / 2)[:, None], [7, 7], [1.0, 1.0])
            maps += F.interpolate(scores, size=maps.shape[-1], mode="bilinear", align_corners=True)
        return maps[:, 0]

    return predict


WAYS = {  # name -> whether its tower is frozen, and what makes it
    "train, plain": (False, plain_step),
    "train": (True, our_step),
    "train, activation checkpointing": (True, lambda setup: our_step(setup, activation_checkpointing=True)),
    "test, plain": (False, plain_prediction),
    "test": (True, our_prediction),
}


def peak_of(name: str, args: argparse.Namespace) -> float:
    """Peak memory in MiB of a process that does it twice."""
    command = [sys.executable, __file__, "--only", name, "--model", args.model]
    command += ["--image_size", str(args.image_size), "--batch_size", str(args.batch_size)]
    command += ["--threads", str(args.threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-L-14-336", help="open_clip model name (default: %(default)s)")
    parser.add_argument("--image_size", type=int, default=518, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=1, help="images at once (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--only", choices=WAYS, help="do this one twice and print its peak memory in MiB")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only is not None:
        frozen, make = WAYS[args.only]
        way = make(make_setup(args, frozen=frozen))
        way()
        way()
        print(peak_memory_mib(torch.device("cpu"))["host"])
        return

    peaks = {name: peak_of(name, args) for name in WAYS}
    setups = {frozen: make_setup(args, frozen=frozen) for frozen in (True, False)}
    ways = {name: make(setups[frozen]) for name, (frozen, make) in WAYS.items()}
    for kind in ("train", "test"):
        own, plain = ways[kind](), ways[f"{kind}, plain"]()
        difference = float((own - plain).abs().max() / plain.abs().max())
        print(f"{kind}: largest relative difference from the plain result {difference:.1e}")
    seconds = medians({name: way for name, way in ways.items() if name.startswith("train")}, args.repeats)
    seconds |= medians({name: way for name, way in ways.items() if name.startswith("test")}, TEST_ROUNDS * args.repeats)
    rows = []
    for name in WAYS:
        plain = f"{name.split(',')[0]}, plain"
        rows.append((name, seconds[name], seconds[plain] / seconds[name], peaks[name], peaks[name] / peaks[plain]))
    print(
        f"{args.model}, {args.image_size} px, batch {args.batch_size}, {args.threads} threads, median of "
        f"{args.repeats} rounds of training and {TEST_ROUNDS * args.repeats} of testing\n"
    )
    headers = ("", "seconds", "times as fast as plain", "peak MiB", "of the plain peak")
    print(tabulate(rows, headers=headers, floatfmt=("", ".2f", ".2f", ".0f", ".2f")))


if __name__ == "__main__":
    main()
