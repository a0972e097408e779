"""Measures pictures a second and peak memory of the three methods on CUDA, beside open_clip's own encode_image.

    python benchmarks/gpu.py                                                          # ViT-L-14-336 at 518 px
    python benchmarks/gpu.py --model ViT-B-16-plus-240 --image_size 240 --batch_size 64

Prints a Markdown table. Weights, texts and normalised pictures, which lie on the device, are random. A method's rate
is that of its maps and scores there; reading pictures, copying maps and measuring go on beside it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from harness import Options, benchmark, medians
from tabulate import tabulate

from models.backbone import Backbone, load_backbone
from models.dp_clip import AdapterSettings, DPClip, image_adapter_for
from models.dual_path import STAGES
from models.fidelity import Fidelity
from models.sdp import SDP, adapters_for
from tests.random_weights import save_random_weights
from utils.errors import UserError
from utils.runtime import peak_memory_mib

NAME, ARITHMETIC = "object", ("fp32", "tf32", "bf16")
HEADERS = ("", "arithmetic", "compiled", "pictures a second", "of encode_image's", "peak MiB")


def ways_of(backbone: Backbone, images: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Make the predictions of the three methods, with random texts and adapters."""
    visual, fidelity, names = backbone.clip.visual, Fidelity.named("corrected"), [NAME] * len(images)
    text = {NAME: F.normalize(torch.randn(visual.proj.shape[1], 2, device=images.device), dim=0)}
    blocks = {"image_adapt_layers": tuple(range(len(visual.transformer.resblocks) // STAGES))}
    adapter = image_adapter_for(backbone, AdapterSettings(features_list=backbone.features_list, **blocks))
    detectors = {
        "SDP": SDP(backbone, text, fidelity, 8.0),
        "SDP+": SDP(backbone, text, fidelity, 8.0, adapters_for(backbone)),
        "DP-CLIP": DPClip(backbone, adapter, text, "industrial"),
    }
    return {method: partial(detector.predict, images, names) for method, detector in detectors.items()}


def measure(way: Callable[[], Any], images: torch.Tensor, repeats: int) -> tuple[float, float]:
    """Measure pictures a second, and the most memory in MiB, the weights included."""
    synchronise = torch.cuda.synchronize if images.is_cuda else lambda: None
    way(), synchronise()  # which may compile
    if images.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = medians({NAME: lambda: (way(), synchronise())}, repeats)[NAME]
    peak = peak_memory_mib(images.device)
    return len(images) / seconds, peak.get("cuda", peak["host"])


@torch.inference_mode()
def measure_all(load: Callable[..., Backbone], images: torch.Tensor, repeats: int) -> list[tuple[Any, ...]]:
    """Give a row of `HEADERS` for each arithmetic, compiled or not, and way; `load` takes precision and `compile`."""
    rows = []
    for arithmetic, compiled in ((one, way) for one in ARITHMETIC for way in (False, True)):
        torch.set_float32_matmul_precision("high" if arithmetic == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = arithmetic == "tf32"
        encode = load(precision="fp32").clip.encode_image
        encode = partial(torch.compile(encode) if compiled else encode, images)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=arithmetic == "bf16"):
            theirs = measure(encode, images, repeats)
        rows.append(("open_clip's encode_image", arithmetic, compiled, theirs[0], 1.0, theirs[1]))
        del encode  # so that the memory below is ours
        ways = ways_of(load(precision="bf16" if arithmetic == "bf16" else "fp32", compile=compiled), images)
        for method, way in ways.items():
            rate, peak = measure(way, images, repeats)
            rows.append((method, arithmetic, compiled, rate, rate / theirs[0], peak))
        del ways, way
    return rows


@benchmark(model="ViT-L-14-336", image_size=518, batch_size=16, repeats=10)
def main(args: Options) -> None:
    if not torch.cuda.is_available():
        raise UserError("benchmarks/gpu.py measures a CUDA device, and PyTorch finds none here")
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device="cuda")
    weights = str(save_random_weights(args.model, args.folder / "random.safetensors"))
    given = {"model": args.model, "pretrained": weights, "image_size": args.image_size, "features_list": None}
    load = partial(load_backbone, **given, fidelity=Fidelity.named("corrected"), device=images.device)
    rows = measure_all(load, images, args.repeats)
    print(f"{torch.cuda.get_device_name()}\n\n{tabulate(rows, HEADERS, 'github', floatfmt='.2f')}")
