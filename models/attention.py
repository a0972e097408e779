"""open_clip's attention taken apart: `nn.MultiheadAttention`'s projections, and fused products between them."""

import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from models.linear import ConvolutionLinear, convolution


def project(attn: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute queries, keys and values of tokens [B, T, C], each [B, H, T, C/H]."""
    linear = convolution if isinstance(attn.out_proj, ConvolutionLinear) else F.linear
    qkv = linear(x, attn.in_proj_weight, attn.in_proj_bias)  # [B, T, 3 C]
    return qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def attend(attn: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute softmax(q k^T / sqrt(C/H)) v of [B, H, T, C/H], and project it: [B, T, C]."""
    # Flash attention, which CUDA takes for half precision, refuses a batch of no image.
    per_head = F.scaled_dot_product_attention(q, k, v) if len(q) else q
    return attn.out_proj(per_head.transpose(1, 2).flatten(2))


def run_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Run a block on tokens [B, T, C]."""
    x = x + block.ls_1(attend(block.attn, *project(block.attn, block.ln_1(x))))
    return x + block.ls_2(block.mlp(block.ln_2(x)))
