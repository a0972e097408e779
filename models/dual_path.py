"""The staged dual path: the plain ViT and, beside it, value-value attention summed over each of four stages.

CLIP-AD (arXiv:2311.00453), section 3.3. Both paths share one QKV product a block and never write in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from models.attention import ALL, attend, project

STAGES = 4
CLASS_TOKEN = slice(1)


@dataclass(frozen=True)
class Tap:
    """Features after one block.

    Attributes:
        ori: tokens of the original path [B, 1+N, C], class token first; None where they were not asked for.
        surgery: tokens of the surgery path in the joint embedding [B, 1+N, D], not normalised. Its class token
            is the original path's. None where they were not asked for.
    """

    ori: Tensor | None
    surgery: Tensor | None


def encode_dual_path(
    visual: VisionTransformer,
    images: Tensor,
    features_list: Sequence[int],
    *,
    shared_buffers: bool,
    with_ori: bool = True,
    with_surgery: bool = True,
) -> list[Tap]:
    """Run both paths through a ViT and tap them.

    Args:
        visual: open_clip's ViT, its depth a multiple of four.
        images: normalised images [B, 3, S, S].
        features_list: 1-based numbers of the blocks to tap after.
        shared_buffers: reproduce the released code's taps, see `Fidelity.taps_share_buffers`.
        with_ori: return the original path's tokens too. Without them the last block's query, output projection
            and MLP are not computed for all tokens.
        with_surgery: run the surgery path, too.

    Returns:
        One `Tap` for each entry of `features_list`, in its order.
    """
    blocks = visual.transformer.resblocks
    depth = len(blocks)
    stage_length = depth // STAGES
    taps = set(features_list)
    summed_at = {}
    if with_surgery:
        summed_at = {tap: _stage_end(tap, stage_length) if shared_buffers else tap for tap in taps}
    last = max(min(max(taps) + shared_buffers, depth), *summed_at.values(), 0)
    surgery_blocks = {n for end in summed_at.values() for n in range(_stage_start(end, stage_length), end + 1)}

    z = visual._embeds(images)  # [B, 1+N, C]
    s = None
    ori: dict[int, Tensor] = {}
    stage_sum: dict[int, Tensor] = {}
    for number in range(1, last + 1):
        block = blocks[number - 1]
        rows = CLASS_TOKEN if number == last and not with_ori else ALL
        attention, surgery = _two_paths(block, block.ln_1(z), rows, with_surgery=number in surgery_blocks)
        z = z[:, rows] + block.ls_1(attention)
        if shared_buffers and number - 1 in taps:
            ori[number - 1] = z
        if number < last or number in taps - ori.keys():
            z = z + block.ls_2(block.mlp(block.ln_2(z)))
        if number in taps and (not shared_buffers or number == depth):
            ori[number] = z
        if surgery is not None:
            starts_stage = number == _stage_start(number, stage_length)
            s = surgery if starts_stage else s + surgery
            stage_sum.update((tap, s) for tap, end in summed_at.items() if end == number)

    return [
        Tap(
            ori=ori[tap] if with_ori else None,
            surgery=_embed(visual, ori[tap], stage_sum[tap]) if with_surgery else None,
        )
        for tap in features_list
    ]


def _stage_start(number: int, stage_length: int) -> int:
    """First block of the stage that block `number` belongs to (both 1-based)."""
    return (number - 1) // stage_length * stage_length + 1


def _stage_end(number: int, stage_length: int) -> int:
    """Last block of the stage that block `number` belongs to (both 1-based)."""
    return _stage_start(number, stage_length) + stage_length - 1


def _two_paths(
    block: ResidualAttentionBlock, x: Tensor, rows: slice, *, with_surgery: bool
) -> tuple[Tensor, Tensor | None]:
    """Attention output of the original path and, if asked for, of the surgery path.

    Args:
        x: the block's normalised input `ln_1(z)` [B, T, C].
        rows: the tokens whose output the original path gives.
        with_surgery: also return `out_proj(softmax(V V^T / sqrt(C/H)) V)` [B, T, C].
    """
    q, k, v = project(block.attn, x, rows)
    attention = attend(block.attn, q, k, v)
    surgery = attend(block.attn, v, v, v) if with_surgery else None
    return attention, surgery


def _embed(visual: VisionTransformer, ori: Tensor, stage_sum: Tensor) -> Tensor:
    """Surgery tokens with the original path's class token, in the joint embedding [B, 1+N, D]."""
    tokens = torch.cat([ori[:, :1], stage_sum[:, 1:]], dim=1)
    return visual.ln_post(tokens) @ visual.proj
