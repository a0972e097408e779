"""open_clip's blocks, taken apart: the projections of `nn.MultiheadAttention`, fused products between, and the MLP."""

import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from models.linear import apply, linear


def project(attn: nn.MultiheadAttention, x: Tensor, parts: slice) -> tuple[Tensor, ...]:
    """Queries, keys and values, or some of them, from one product.

    Args:
        attn: whose input projection is used.
        x: tokens [B, T, C].
        parts: which of (query, key, value), for example `slice(1, 3)` for keys and values.

    Returns:
        One tensor [B, H, T, C/H] for each part.
    """
    width, heads = attn.embed_dim, attn.num_heads
    rows = slice(parts.start * width, parts.stop * width)
    projected = linear(x, attn.in_proj_weight[rows], attn.in_proj_bias[rows])
    split = projected.unflatten(-1, (parts.stop - parts.start, heads, width // heads))  # [B, T, parts, H, C/H]
    return tuple(part.transpose(1, 2) for part in split.unbind(dim=2))


def attend(attn: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Output [B, T, C] of attention over [B, H, T, C/H]; softmax(q k^T / sqrt(C/H)) v, then the projection."""
    # Flash attention, which CUDA takes for half precision, refuses a batch of no image.
    per_head = F.scaled_dot_product_attention(q, k, v, is_causal=causal) if len(q) else q
    return apply(attn.out_proj, per_head.transpose(1, 2).flatten(2))


def run_mlp(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Output [B, T, C] of a block's MLP, of its normalised input `ln_2(z)` [B, T, C]."""
    return apply(block.mlp.c_proj, block.mlp.gelu(apply(block.mlp.c_fc, x)))
