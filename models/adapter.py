"""DP-CLIP's image tower: a frozen ViT with adapters after some of its blocks, and projected taps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import attend, project
from utils.distributed import sum_over_processes, world_size

LEAKY_SLOPE = 0.01


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """How an image adapter is built and placed; weights trained with one set fit no other.

    Attributes:
        features_list: 1-based numbers of the tapped blocks, ascending.
        adapt_layers: 0-based numbers of the blocks whose output is adapted, ascending.
        adapt_weight: share of the adapted tokens in what goes on, in [0, 1].
        relu: whether the projections end in a LeakyReLU.
        grn: whether responses are normalised; without it, channels are not purified, to see what that contributes.
        grn_over_batch: see `Fidelity`.
    """

    features_list: tuple[int, ...]
    adapt_layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    adapt_weight: float = 0.1
    relu: bool = False
    grn: bool = True
    grn_over_batch: bool = False


class GRN(nn.Module):
    """Global response normalisation: ConvNeXt V2 (arXiv:2301.00808), over tokens.

    With g the length of a channel over all tokens of an image, a channel is scaled by `1 + weight * g / mean(g)`,
    and shifted by `bias`.

    Args:
        channels: size C of the last axis.
        over_batch: take the length over the images of a batch instead, token by token; in training, over those of
            all processes.
    """

    def __init__(self, channels: int, *, over_batch: bool = False) -> None:
        super().__init__()
        self.over_batch = over_batch
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T, C], normalised."""
        length = torch.linalg.vector_norm(x, dim=0 if self.over_batch else 1, keepdim=True)
        if self.over_batch and self.training and world_size() > 1:
            squares = sum_over_processes(length.float().square())
            length = squares.clamp_min(torch.finfo().tiny).sqrt().to(length.dtype)
        response = length / (length.mean(dim=-1, keepdim=True) + 1e-6)
        return x * (1 + self.weight * response) + self.bias


class TokenAdapter(nn.Module):
    """A linear layer without bias, GRN unless that is left out, and, if asked for, a LeakyReLU.

    Args:
        width: channels of the input.
        out: channels of the output.
        relu: end in a LeakyReLU.
        grn: with GRN.
        grn_over_batch: see `GRN`.
    """

    def __init__(self, width: int, out: int, *, relu: bool, grn: bool, grn_over_batch: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(width, out, bias=False)
        nn.init.xavier_uniform_(self.fc.weight)
        self.grn = GRN(out, over_batch=grn_over_batch) if grn else nn.Identity()
        self.activation = nn.LeakyReLU(LEAKY_SLOPE) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """From tokens [B, T, width] to [B, T, out]."""
        return self.activation(self.grn(self.fc(x)))


class ImageAdapter(nn.Module):
    """All that DP-CLIP trains.

    Args:
        width: channels C of the tower's tokens.
        embed_dim: size D of the joint embedding.
        settings: how many adapters there are, and of which kind.
    """

    def __init__(self, width: int, embed_dim: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layer_adapters = nn.ModuleList(
            TokenAdapter(width, width, relu=True, grn=settings.grn, grn_over_batch=settings.grn_over_batch)
            for _ in settings.adapt_layers
        )
        self.seg_proj = nn.ModuleList(
            TokenAdapter(width, embed_dim, relu=settings.relu, grn=settings.grn) for _ in settings.features_list
        )
        self.det_proj = TokenAdapter(width, embed_dim, relu=settings.relu, grn=settings.grn)


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
