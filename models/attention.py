"""open_clip's attention taken apart: `nn.MultiheadAttention`'s projections, and fused products between them."""

import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from models.linear import ConvolutionLinear, convolution

ALL = slice(None)  # tokens


def project(attn: nn.MultiheadAttention, x: Tensor, rows: slice = ALL) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, H, rows, C/H] of some of the tokens [B, T, C], keys and values [B, H, T, C/H] of all."""
    linear = convolution if isinstance(attn.out_proj, ConvolutionLinear) else F.linear
    weight, bias, width = attn.in_proj_weight, attn.in_proj_bias, attn.embed_dim
    if rows == ALL:
        qkv = linear(x, weight, bias).chunk(3, dim=-1)
    else:
        keys_and_values = linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
        qkv = linear(x[:, rows], weight[:width], bias[:width]), *keys_and_values
    q, k, v = (part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in qkv)
    return q, k, v


def attend(attn: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Output [B, T, C] of attention over [B, H, T, C/H]: softmax(q k^T / sqrt(C/H)) v, then the projection."""
    # Flash attention, which CUDA takes for half precision, refuses a batch of no image.
    per_head = F.scaled_dot_product_attention(q, k, v, is_causal=causal) if len(q) else q
    return attn.out_proj(per_head.transpose(1, 2).flatten(2))


def run_block(block: ResidualAttentionBlock, x: Tensor, rows: slice = ALL, *, causal: bool = False) -> Tensor:
    """Some of the tokens [B, T, C] after a block: [B, rows, C]."""
    x = x[:, rows] + block.ls_1(attend(block.attn, *project(block.attn, block.ln_1(x), rows), causal=causal))
    return x + block.ls_2(block.mlp(block.ln_2(x)))
