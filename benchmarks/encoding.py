"""Times the dual path against open_clip's own encode_image, and against a plain implementation in two passes.

    python benchmarks/encoding.py                                              # ViT-B-16-plus-240, 240 px
    python benchmarks/encoding.py --model ViT-L-14-336 --image_size 518 --batch_size 1

All three have the same random weights and images. The plain one runs the original path with attention weights
kept, then the surgery path with projections of its own, both unfused. At the end it says where the time goes on a CPU.
"""

from copy import deepcopy

import torch
from harness import Options, benchmark, difference, medians, print_ratios, print_table
from torch.profiler import ProfilerActivity, profile

from models.dual_path import STAGES, Tap, encode_dual_path
from models.linear import use_fastest_kernels
from tests.plain_sdp import plain_dual_path
from tests.random_weights import random_clip

SHOWN = 8  # operators


@benchmark(model="ViT-B-16-plus-240", image_size=240, batch_size=8, repeats=7, device="cpu")
@torch.inference_mode()
def main(args: Options) -> None:
    model = random_clip(args.model, args.image_size).eval().to(args.device)
    fast = use_fastest_kernels(deepcopy(model), torch.device(args.device), "fp32")  # as a run loads it
    depth = len(model.visual.transformer.resblocks)
    features_list = [depth * stage // STAGES for stage in range(1, STAGES + 1)]
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=args.device)

    def ours(with_ori: bool) -> list[Tap]:
        taps = encode_dual_path(fast.visual, images, features_list, shared_buffers=False, with_ori=with_ori)
        if images.is_cuda:
            torch.cuda.synchronize()
        return taps

    ways = {
        "dual path for SDP": lambda: ours(with_ori=False),
        "dual path with the original tokens": lambda: ours(with_ori=True),
        "open_clip's encode_image": lambda: model.encode_image(images),
        "plain, two passes, unfused": lambda: plain_dual_path(model.visual, images, features_list),
    }
    taps, *_, reference = (way() for way in ways.values())
    off = max(difference(tap.surgery, surgery) for tap, (_, surgery) in zip(taps, reference, strict=True))
    print(f"{torch.get_num_threads()} threads; largest relative difference from the plain features {off:.1e}\n")
    print_ratios(medians(ways, args.repeats))
    if args.device != "cpu":  # where the operators' time is another's than the CPU's
        return
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as seen:
        ours(with_ori=False)
    parts = sorted(seen.key_averages(), key=lambda part: -part.self_cpu_time_total)
    whole = sum(part.self_cpu_time_total for part in parts)  # microseconds
    rates = ((part, part.flops / 1e3 / part.self_cpu_time_total if part.flops else None) for part in parts[:SHOWN])
    rows = [(part.key, part.self_cpu_time_total / whole, rate) for part, rate in rates]
    print("\nOf a pass of the dual path for SDP:\n")
    print_table({"operator": "", "share of the time": ".3f", "GFLOP/s": ".0f"}, rows)
