"""DP-CLIP: zero-shot anomaly detection with feature decoupling and channel purification.

Its image tower is a frozen ViT with adapters after some of its blocks, and projected taps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.anomaly_map import (
    PATCH_TEMPERATURE,
    adapter_upsampling,
    anomalous_probabilities,
    gaussian_matrix,
    min_max,
    resample,
)
from models.backbone import Backbone
from models.dual_path import attend, project
from models.linear import use_fastest_kernels
from models.losses import MomentumPrototypes, decoupling_loss, dice_loss, focal_loss, state_means, token_labels
from utils.distributed import sum_over_processes, world_size
from utils.evaluation_types import Prediction

# Gaussian filter on the grid of tokens, by domain: standard deviation in tokens, window in tokens.
SMOOTHING = {"industrial": (1.0, 7), "medical": (1.5, 9)}


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """How an image adapter is built and placed, as the options say it; weights trained with one set fit no other."""

    features_list: tuple[int, ...]  # 1-based numbers of the tapped blocks, ascending
    image_adapt_layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)  # 0-based numbers of the blocks whose output is adapted
    image_adapt_weight: float = 0.1  # share of the adapted tokens in what goes on, in [0, 1]
    relu: bool = False  # whether the projections end in a LeakyReLU
    grn: bool = True  # whether channels are purified; left out to see what that contributes
    align_corners: bool = True  # whether the outermost tokens lie at the image's border, not at their patches' centres
    grn_over_batch: bool = False  # see `Fidelity`

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint records beside blocks and fidelity."""
        own = {name: value for name, value in vars(self).items() if name not in ("features_list", "grn_over_batch")}
        return own | {"image_adapt_layers": list(self.image_adapt_layers)}


class GRN(nn.Module):
    """Global response normalisation of ConvNeXt V2 (arXiv:2301.00808), over tokens.

    With g the length of a channel over all tokens of an image, a channel is scaled by `1 + weight * g / mean(g)`,
    and shifted by `bias`. With `over_batch`, g is the length over the images of a batch instead, token by token; in
    training, over those of all processes.
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


class TokenAdapter(nn.Sequential):
    """From tokens [B, T, width] to [B, T, out]: a linear layer without bias, GRN and LeakyReLU where asked for."""

    def __init__(self, width: int, out: int, *, relu: bool, grn: bool, grn_over_batch: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(width, out, bias=False)
        nn.init.xavier_uniform_(self.fc.weight)
        self.grn = GRN(out, over_batch=grn_over_batch) if grn else nn.Identity()
        self.activation = nn.LeakyReLU(0.01) if relu else nn.Identity()


class ImageAdapter(nn.Module):
    """All that DP-CLIP trains: adapters of width C after blocks, projections from C to D of the taps and the image."""

    def __init__(self, width: int, embed_dim: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings
        layer = partial(TokenAdapter, width, width, relu=True, grn=settings.grn, grn_over_batch=settings.grn_over_batch)
        projection = partial(TokenAdapter, width, embed_dim, relu=settings.relu, grn=settings.grn)
        self.layer_adapters = nn.ModuleList(layer() for _ in settings.image_adapt_layers)
        self.seg_proj = nn.ModuleList(projection() for _ in settings.features_list)
        self.det_proj = projection()


class AdaptedFeatures(NamedTuple):
    """Features in the joint embedding."""

    seg: list[Tensor]  # unit-length patch tokens [B, N, D] of each tap
    det: Tensor  # the image as a whole [B, D], a mean of unit vectors and so no longer than one
    tokens: Sequence[Tensor] = ()  # patch tokens [B, N, C] of each tap before their projection


def encode_adapted(
    visual: VisionTransformer, adapter: ImageAdapter, images: Tensor, *, activation_checkpointing: bool = False
) -> AdaptedFeatures:
    """Run normalised images [B, 3, S, S] through the adapted tower.

    The tower being frozen, gradients flow through its blocks to the adapters below but not into their weights, and not
    at all through what lies before the first adapter. With `activation_checkpointing` only the blocks' inputs are kept
    for the backward pass, and the rest is computed again.
    """
    settings = adapter.settings
    adapters = dict(zip(settings.image_adapt_layers, adapter.layer_adapters, strict=True))
    projections = dict(zip(settings.features_list, adapter.seg_proj, strict=True))

    def run(step: Callable[..., Tensor], *arguments) -> Tensor:
        if activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(step, *arguments, use_reentrant=False, preserve_rng_state=False)
        return step(*arguments)

    # [B, 1+N, C]; open_clip has none of no image, which is one process's part of a batch that others share with it
    z = visual._embeds(images) if images.shape[0] else visual._embeds(images.new_zeros(1, *images.shape[1:]))[:0]
    seg, tokens = [], []
    for number, block in enumerate(visual.transformer.resblocks[: settings.features_list[-1]], 1):
        z = run(_adapted_block, block, adapters.get(number - 1), z, settings.image_adapt_weight)
        if number in projections:
            seg.append(run(_projected, visual.ln_post, projections[number], z))
            tokens.append(z[:, 1:])
    det = run(_projected, visual.ln_post, adapter.det_proj, z).mean(dim=1)
    return AdaptedFeatures(seg, det, tokens)


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


def image_adapter_for(backbone: Backbone, settings: AdapterSettings) -> ImageAdapter:
    """Make an untrained image adapter that fits a backbone, on its device."""
    adapter = ImageAdapter(*backbone.clip.visual.proj.shape, settings)
    return use_fastest_kernels(adapter, backbone.device, backbone.precision)


def anomalous_logits(seg: Tensor, text: Tensor) -> Tensor:
    """Anomalous less normal logit of each token [B, N], of a tap [B, N, D] and its images' text [B, D, 2].

    Its sigmoid is the softmax's anomalous column.
    """
    return PATCH_TEMPERATURE * (seg @ (text[..., 1:] - text[..., :1]))[..., 0]


def training_loss(
    features: AdaptedFeatures,
    text: Tensor,  # of each image's class [B, D, 2], unit columns
    labels: Tensor,  # 0 normal, 1 anomalous, int64 [B]
    masks: Tensor,  # ground truth, bool [B, S, S]
    upsampling: Tensor,  # from tokens to pixels [S, g]
    prototypes: MomentumPrototypes,
    decoupling_weight: float,
) -> dict[str, Tensor]:
    """Loss of a batch and its parts, of the image label, of the pixels and of the decoupling (not weighted).

    Then the pixels' by tap, `tap_1` first, and that of a tap which calls no pixel anomalous, `blank_tap`. The batch's
    means are shown to the prototypes, whose update is left to the caller.
    """
    anomalous = token_labels(masks, upsampling.shape[1])
    decoupling, taps = features.det.new_zeros(()), []
    for seg in features.seg:
        probability = anomalous_probabilities(anomalous_logits(seg, text), upsampling)
        taps.append(_segmentation_loss(probability, masks))
        means = state_means(seg, anomalous)
        if means is not None:
            decoupling = decoupling + decoupling_loss(means, prototypes.values)
            prototypes.see(means)
    similarity = (features.det[:, None] @ text)[:, 0]  # [B, 2]
    classification = F.cross_entropy(similarity, labels)
    segmentation = torch.stack(taps).sum()
    total = classification + segmentation + decoupling_weight * decoupling
    parts = {"loss": total, "classification": classification, "segmentation": segmentation, "decoupling": decoupling}
    by_tap = {f"tap_{number}": loss for number, loss in enumerate(taps, 1)}
    return parts | by_tap | {"blank_tap": _segmentation_loss(torch.zeros_like(probability), masks)}


def _segmentation_loss(anomalous: Tensor, masks: Tensor) -> Tensor:
    """Loss of the probability [B, S, S] that a pixel is anomalous; `masks` are bool."""
    return focal_loss(anomalous, masks) + dice_loss(1 - anomalous, ~masks) + dice_loss(anomalous, masks)


def anomaly_maps(seg: Sequence[Tensor], text: Tensor, matrix: Tensor) -> Tensor:
    """Maps [B, S, S]: a token scores (a + 1 - n) / 2 for its logits a and n, summed over the taps.

    From unit-length patch tokens of each tap [B, N, D], text as above, and a matrix to smooth pixels [S, g].
    """
    grid = matrix.shape[1]
    scores = sum((anomalous_logits(tap, text) + 1) / 2 for tap in seg)
    return resample(scores.unflatten(1, (grid, grid)), matrix)


@dataclass(eq=False)
class DPClip:
    """Maps and scores from a frozen CLIP, a trained image adapter and text features."""

    backbone: Backbone
    adapter: ImageAdapter
    text_features: Mapping[str, Tensor]  # class -> unit columns normal and anomalous [D, 2]
    domain: str  # "industrial" or "medical", which decides how maps are smoothed and images scored
    token_smoothing: float | None = None  # standard deviation of the filter in tokens; None for the domain's

    def __post_init__(self) -> None:
        sigma, window = SMOOTHING[self.domain]
        sigma = sigma if self.token_smoothing is None else self.token_smoothing
        blur = gaussian_matrix(self.backbone.grid, sigma, window).to(self.backbone.device)
        upsampling = adapter_upsampling(self.backbone, align_corners=self.adapter.settings.align_corners)
        self.smooth_upsampling = upsampling @ blur  # [S, g]
        # Of a distance to normal images, which is a cosine, too: half of the sum over the taps, at the logits' scale.
        self.memory_weight = PATCH_TEMPERATURE * len(self.backbone.features_list) / 2

    @torch.inference_mode()
    def predict(self, images: Tensor, class_names: Sequence[str], *, with_tokens: bool = False) -> Prediction:
        """Anomaly maps [B, S, S] of normalised images [B, 3, S, S], and `text_prob` [B]; on request patch tokens.

        The second is the similarity of image and anomalous text, a cosine brought from [-1, 1] to [0, 1].
        """
        text = torch.stack([self.text_features[name] for name in class_names])  # [B, D, 2]
        encoded = self.backbone.run_image_tower(encode_adapted, self.adapter, images)
        similarity = (encoded.det * text[..., 1]).sum(dim=-1)
        maps = anomaly_maps(encoded.seg, text, self.smooth_upsampling)
        return Prediction(maps, (similarity + 1) / 2, encoded.tokens if with_tokens else None)

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        """Image scores of one class: the maximum of the map, in industry averaged with the image's similarity.

        Maps and similarities are brought to [0, 1] over the class's test images.
        """
        highest = min_max(map_max, low=map_min.min())
        return highest if self.domain == "medical" else (highest + min_max(text_prob)) / 2
