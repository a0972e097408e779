"""open_clip's attention taken apart: `nn.MultiheadAttention`'s projections, and fused products between them."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.linear import kernel_of

ALL = slice(None)  # tokens


def project(attn: nn.MultiheadAttention, x: Tensor, rows: slice = ALL) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, H, rows, C/H] of some of the tokens [B, T, C], keys and values [B, H, T, C/H] of all."""
    linear, width = kernel_of(attn.out_proj), attn.embed_dim
    if rows == ALL:
        q, k, v = linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    else:
        q = linear(x[:, rows], attn.in_proj_weight[:width], attn.in_proj_bias[:width])
        k, v = linear(x, attn.in_proj_weight[width:], attn.in_proj_bias[width:]).chunk(2, dim=-1)
    return _split_heads(attn, q), _split_heads(attn, k), _split_heads(attn, v)


def _split_heads(attn: nn.MultiheadAttention, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)


def attend(attn: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Output [B, T, C] of attention over [B, H, T, C/H]: softmax(q k^T / sqrt(C/H)) v, then the projection."""
    # Flash attention, which CUDA takes for half precision, refuses a batch of no image.
    per_head = F.scaled_dot_product_attention(q, k, v, is_causal=causal) if len(q) else q
    return attn.out_proj(per_head.transpose(1, 2).flatten(2))
