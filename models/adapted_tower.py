"""DP-CLIP's image tower: a frozen ViT with adapters after some of its blocks, and projected taps."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.adapter import ImageAdapter, TokenAdapter
from models.attention import attend, project


class AdaptedFeatures(NamedTuple):
    """Features in the joint embedding.

    Attributes:
        seg: unit-length patch tokens [B, N, D] of each tap.
        det: the image as a whole [B, D], a mean of unit vectors and so no longer than one.
    """

    seg: list[Tensor]
    det: Tensor


def encode_adapted(
    visual: VisionTransformer, adapter: ImageAdapter, images: Tensor, *, activation_checkpointing: bool = False
) -> AdaptedFeatures:
    """Run images through the adapted tower.

    Attention is fused, so that no attention weights are kept. The tower being frozen, gradients flow through its
    blocks to the adapters below but not into their weights, and not at all through what lies before the first adapter.

    Args:
        visual: open_clip's ViT, its parameters frozen.
        adapter: the trained parts.
        images: normalised images [B, 3, S, S].
        activation_checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again.
    """
    settings = adapter.settings
    adapters = dict(zip(settings.adapt_layers, adapter.layer_adapters, strict=True))
    projections = dict(zip(settings.features_list, adapter.seg_proj, strict=True))

    def run(step: Callable[..., Tensor], *arguments) -> Tensor:
        if activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(step, *arguments, use_reentrant=False, preserve_rng_state=False)
        return step(*arguments)

    # [B, 1+N, C]; open_clip has none of no image, which is one process's part of a batch that others share with it
    z = visual._embeds(images) if len(images) else visual._embeds(images.new_zeros(1, *images.shape[1:]))[:0]
    seg = []
    last = max(settings.features_list)
    for number, block in enumerate(visual.transformer.resblocks[:last], 1):
        z = run(_adapted_block, block, adapters.get(number - 1), z, settings.adapt_weight)
        if number in projections:
            seg.append(run(_projected, visual.ln_post, projections[number], z))
    det = run(_projected, visual.ln_post, adapter.det_proj, z).mean(dim=1)
    return AdaptedFeatures(seg, det)


def _adapted_block(block: ResidualAttentionBlock, adapter: TokenAdapter | None, z: Tensor, weight: float) -> Tensor:
    """Tokens [B, 1+N, C] after a block and, where there is one, its adapter, which keeps each token's length."""
    z = z + block.ls_1(attend(block.attn, *project(block.attn, block.ln_1(z))))
    z = z + block.ls_2(block.mlp(block.ln_2(z)))
    if adapter is None:
        return z
    adapted = F.normalize(adapter(z), dim=-1) * z.norm(dim=-1, keepdim=True)
    return weight * adapted + (1 - weight) * z


def _projected(ln_post: Callable[[Tensor], Tensor], projection: TokenAdapter, z: Tensor) -> Tensor:
    """Unit-length patch tokens in the joint embedding [B, N, D], float32, from all tokens [B, 1+N, C]."""
    return F.normalize(projection(ln_post(z[:, 1:])).float(), dim=-1)
