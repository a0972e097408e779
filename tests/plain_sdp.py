"""SDP as section 3 of the CLIP-AD paper describes it, plainly: two passes, attention and products written out."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dual_path import STAGES


def plain_dual_path(
    visual: nn.Module, images: Tensor, features_list: Sequence[int], stages: int = STAGES
) -> list[tuple[Tensor, Tensor]]:
    """Compute both paths' taps: one pass over the blocks for the original path, one for the surgery path.

    Returns:
        for each tap its original tokens [B, 1+N, C] and its surgery features [B, 1+N, D].
    """
    blocks = visual.transformer.resblocks
    z = visual._embeds(images)
    inputs, ori = [], {}
    for number, block in enumerate(blocks, 1):
        inputs.append(z)
        z = z + plain_attention(block.attn, block.ln_1(z), value_only=False)
        z = z + block.mlp(block.ln_2(z))
        ori[number] = z
    taps, s = [], None
    for number, block in enumerate(blocks, 1):
        a = plain_attention(block.attn, block.ln_1(inputs[number - 1]), value_only=True)
        s = a if (number - 1) % (len(blocks) // stages) == 0 else s + a
        if number in features_list:
            tokens = torch.cat([ori[number][:, :1], s[:, 1:]], dim=1)
            taps.append((ori[number], visual.ln_post(tokens) @ visual.proj))
    return taps


def plain_attention(attn: nn.MultiheadAttention, x: Tensor, *, value_only: bool) -> Tensor:
    """Attend over tokens [B, T, C], unfused, with a QKV product of its own; `value_only` takes V for Q and K."""
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.reshape(*x.shape[:2], 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)  # [B, heads, T, d] each
    if value_only:
        q = k = v
    weights = (q @ k.transpose(-1, -2) * attn.head_dim**-0.5).softmax(dim=-1)
    return attn.out_proj((weights @ v).transpose(1, 2).reshape(x.shape))


def plain_token_scores(features: Sequence[Tensor], text: Tensor, *, redundancy_removal: bool = True) -> Tensor:
    """Sum over the taps what SDP gives patches [B, N], by the products of size D; features [B, 1+N, D], text [D, 2]."""
    total = 0
    for tap in features:
        f = F.normalize(tap, dim=-1)
        w = (f[:, 0] @ text).softmax(dim=-1)
        w = w / w.mean(dim=-1, keepdim=True)
        products = f[:, :, None] * text.T[None, None] * w[:, None, :, None]  # [B, 1+N, 2, D]
        if redundancy_removal:
            products = products - products.mean(dim=2, keepdim=True)
        total = total + products.sum(dim=-1)
    return total[:, 1:, 1]


def plain_patch_embeddings(visual: nn.Module, images: Tensor) -> Tensor:
    """Run open_clip's own blocks and projection, which give each patch an embedding [B, N, D], too."""
    z = visual._embeds(images)
    for block in visual.transformer.resblocks:
        z = block(z)
    return (visual.ln_post(z) @ visual.proj)[:, 1:]
