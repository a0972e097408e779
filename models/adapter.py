"""DP-CLIP's trained parts: adapters inside the frozen image tower and the projections of its taps."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
