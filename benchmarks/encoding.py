"""Times the dual path against open_clip's own encode_image, and against a plain implementation in two passes.

    python benchmarks/encoding.py                                              # ViT-B-16-plus-240, 240 px
    python benchmarks/encoding.py --model ViT-L-14-336 --image_size 518 --batch_size 1

All three have the same random weights and images. The plain one runs the original path with attention weights
kept, then the surgery path with projections of its own, both unfused.
"""

import argparse
import sys
from pathlib import Path

import open_clip
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import medians, ratio_table
from models.dual_path import STAGES, encode_dual_path


def plain_attention(block, x: Tensor, *, value_only: bool) -> Tensor:
    """Unfused attention with its own QKV product; `value_only` puts V in the place of Q and K."""
    attn = block.attn
    qkv = torch.nn.functional.linear(x, attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.reshape(*x.shape[:2], 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    if value_only:
        q = k = v
    weights = (q @ k.transpose(-1, -2) * attn.head_dim**-0.5).softmax(dim=-1)
    return attn.out_proj((weights @ v).transpose(1, 2).reshape(x.shape))


def plain_dual_path(visual, images: Tensor, features_list: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Both paths' taps: one pass over the blocks for the original path, one for the surgery path."""
    blocks = visual.transformer.resblocks
    z = visual._embeds(images)
    inputs, ori = [], {}
    for number, block in enumerate(blocks, 1):
        inputs.append(z)
        z = z + plain_attention(block, block.ln_1(z), value_only=False)
        z = z + block.mlp(block.ln_2(z))
        ori[number] = z
    taps, s = [], None
    for number, block in enumerate(blocks, 1):
        a = plain_attention(block, block.ln_1(inputs[number - 1]), value_only=True)
        s = a if (number - 1) % (len(blocks) // STAGES) == 0 else s + a
        if number in features_list:
            tokens = torch.cat([ori[number][:, :1], s[:, 1:]], dim=1)
            taps.append((ori[number], visual.ln_post(tokens) @ visual.proj))
    return taps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16-plus-240", help="open_clip model name (default: %(default)s)")
    parser.add_argument("--image_size", type=int, default=240, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="images at once (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    args = parser.parse_args()
    torch.manual_seed(0)
    config = open_clip.get_model_config(args.model)
    config["vision_cfg"]["image_size"] = args.image_size
    model = open_clip.CLIP(**config).eval().requires_grad_(False).to(args.device)
    depth = len(model.visual.transformer.resblocks)
    features_list = [depth * stage // STAGES for stage in range(1, STAGES + 1)]
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=args.device)

    def ours(with_ori: bool):
        taps = encode_dual_path(model.visual, images, features_list, shared_buffers=False, with_ori=with_ori)
        if images.is_cuda:
            torch.cuda.synchronize()
        return taps

    with torch.inference_mode():
        reference = plain_dual_path(model.visual, images, features_list)
        difference = max(
            float((tap.surgery - surgery).abs().max() / surgery.abs().max())
            for tap, (_, surgery) in zip(ours(with_ori=False), reference, strict=True)
        )
        seconds = medians(
            {
                "dual path for SDP": lambda: ours(with_ori=False),
                "dual path with the original tokens": lambda: ours(with_ori=True),
                "open_clip's encode_image": lambda: model.encode_image(images),
                "plain, two passes, unfused": lambda: plain_dual_path(model.visual, images, features_list),
            },
            args.repeats,
        )
    print(
        f"{args.model}, {args.image_size} px, batch {args.batch_size}, {args.device}, "
        f"{torch.get_num_threads()} threads, median of {args.repeats} rounds; "
        f"largest relative difference from the plain features {difference:.1e}\n"
    )
    print(ratio_table(seconds))


if __name__ == "__main__":
    main()
