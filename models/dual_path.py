"""The staged dual path: the plain ViT and, beside it, value-value attention summed over each of four stages.

CLIP-AD (arXiv:2311.00453), section 3.3. Both paths share one QKV product a block and never write in place.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from models.linear import ConvolutionLinear, convolution

STAGES = 4


def project(attn: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute queries, keys and values of tokens [B, T, C], each [B, H, T, C/H]."""
    linear = convolution if isinstance(attn.out_proj, ConvolutionLinear) else F.linear
    qkv = linear(x, attn.in_proj_weight, attn.in_proj_bias)  # [B, T, 3 C]
    return qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def attend(attn: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute softmax(q k^T / sqrt(C/H)) v of [B, H, T, C/H], and project it: [B, T, C]."""
    # Flash attention, which CUDA takes for half precision, refuses a batch of no image.
    per_head = F.scaled_dot_product_attention(q, k, v) if q.shape[0] else q
    return attn.out_proj(per_head.transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class Tap:
    """Tokens after one block, class token first and not normalised; None is what was not asked for."""

    ori: Tensor | None  # of the original path [B, 1+N, C]
    surgery: Tensor | None  # of the surgery path, in the joint embedding [B, 1+N, D], with the class token of `ori`


def encode_dual_path(
    visual: VisionTransformer,  # its depth a multiple of four
    images: Tensor,  # normalised [B, 3, S, S]
    features_list: Sequence[int],  # 1-based numbers of the blocks to tap after
    *,
    shared_buffers: bool,  # reproduce the released code's taps, see `Fidelity.taps_share_buffers`
    stages: int = STAGES,
    with_ori: bool = True,
    with_surgery: bool = True,
) -> list[Tap]:
    """Run both paths through a ViT and tap them after each block of `features_list`.

    Without the original path's tokens the last block's are computed for the class token alone; without the surgery
    path's, that path is not run.
    """
    blocks = visual.transformer.resblocks
    depth, stage_length = len(blocks), len(blocks) // stages
    taps = set(features_list)
    # Up to which block a tap sees its stage summed: its own, or the stage's last.
    summed_at = {tap: math.ceil(tap / stage_length) * stage_length if shared_buffers else tap for tap in taps}
    ends = summed_at.values() if with_surgery else ()
    surgery_blocks = {number for end in ends for number in range(end - (end - 1) % stage_length, end + 1)}
    last = max(min(max(taps) + shared_buffers, depth), *surgery_blocks, 0)

    z, s = visual._embeds(images), None  # [B, 1+N, C] both
    ori: dict[int, Tensor] = {}
    stage_sum: dict[int, Tensor] = {}
    for number, block in enumerate(blocks[:last], 1):
        q, k, v = project(block.attn, block.ln_1(z))
        if number == last and not with_ori:  # only the class token is read
            q, z = q[:, :, :1], z[:, :1]
        z = z + block.ls_1(attend(block.attn, q, k, v))
        if number in surgery_blocks:
            value_value = attend(block.attn, v, v, v)
            s = value_value if (number - 1) % stage_length == 0 else s + value_value
            stage_sum |= {tap: s for tap, end in summed_at.items() if end == number}
        del q, k, v  # before the MLP, which takes the most memory
        if shared_buffers and number - 1 in taps:  # whose buffer this block's attention was added to
            ori[number - 1] = z
        if number < last or number in taps - ori.keys():
            z = z + block.ls_2(block.mlp(block.ln_2(z)))
        if number in taps and (not shared_buffers or number == depth):
            ori[number] = z

    def surgery(tap: int) -> Tensor:  # [B, 1+N, D]
        tokens = torch.cat([ori[tap][:, :1], stage_sum[tap][:, 1:]], dim=1)
        return visual.ln_post(tokens) @ visual.proj

    return [Tap(ori[tap] if with_ori else None, surgery(tap) if with_surgery else None) for tap in features_list]


def encode_original_path(
    visual: VisionTransformer, images: Tensor, features_list: Sequence[int], **how: bool
) -> list[Tap]:
    """Run the original path alone, see `encode_dual_path`; its projected tokens stand in for the surgery path's."""
    taps = encode_dual_path(visual, images, features_list, **how | {"with_ori": True, "with_surgery": False})
    return [Tap(tap.ori, visual.ln_post(tap.ori) @ visual.proj) for tap in taps]
