"""CLIP-AD (arXiv:2311.00453): SDP, without training, sections 3.1 to 3.3; SDP+, with trained adapters, section 3.4.

Tensors: B images of S x S pixels, N = g x g patches, a class token before them, joint embedding of size D.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.anomaly_map import (
    PATCH_TEMPERATURE,
    adapter_upsampling,
    anomalous_probabilities,
    gaussian_matrix,
    min_max,
    resample,
    upsampling_matrix,
)
from models.backbone import Backbone
from models.dual_path import Tap, encode_dual_path
from models.fidelity import Fidelity
from models.linear import use_fastest_kernels
from models.losses import dice_loss, focal_loss
from utils.errors import UserError
from utils.evaluation_types import Prediction

IMAGE_TEMPERATURE = 100.0


def token_scores(taps: Sequence[Tap], text: Tensor, *, redundancy_removal: bool = True) -> Tensor:
    """Anomaly scores of the patch tokens [B, N], summed over the taps; unbounded, larger where more anomalous.

    Per tap and column the products of features, text and weights are taken, less their mean over the two columns;
    summed over D, the anomalous column is half the difference of two weighted similarities, so that nothing of
    size D need be built. The mean is what is redundant, as both columns have it; if it is not removed, a score is the
    anomalous column's weighted similarity. `text` are the features of each image's class [B, D, 2], unit columns.
    """
    total = 0.0
    for tap in taps:
        similarity = F.normalize(tap.surgery.float(), dim=-1) @ text  # [B, 1+N, 2]
        weight = similarity[:, :1].softmax(dim=-1)  # by the class token [B, 1, 2]
        weighted = similarity[:, 1:] * (weight / weight.mean(dim=-1, keepdim=True))
        total = total + ((weighted[..., 1] - weighted[..., 0]) / 2 if redundancy_removal else weighted[..., 1])
    return total


def image_probability(tap: Tap, text: Tensor) -> Tensor:
    """Probability [B] that an image is anomalous, from a tap's surgery class token and text [B, D, 2]."""
    class_token = F.normalize(tap.surgery[:, 0].float(), dim=-1)  # [B, D]
    logits = IMAGE_TEMPERATURE * (class_token[:, None] @ text)[:, 0]  # [B, 2]
    return logits.softmax(dim=-1)[:, 1]


class LinearAdapters(nn.Module):
    """One linear layer for each tap, from the image tower's width C to the joint embedding of size D."""

    def __init__(self, taps: int, width: int, embed_dim: int) -> None:
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(width, embed_dim) for _ in range(taps))

    def forward(self, tokens: Sequence[Tensor], text: Tensor) -> Tensor:
        """Anomalous less normal logit of each patch [taps, B, N]; its sigmoid is the softmax's anomalous column.

        From the original path's patch tokens of each tap [B, N, C], and text of each image's class [B, D, 2].
        """
        towards_anomalous = (text[..., 1] - text[..., 0])[..., None]  # [B, D, 1]
        logits = []
        for layer, x in zip(self.fc, tokens, strict=True):
            embedded = layer(x)  # [B, N, D]
            similarity = (embedded @ towards_anomalous).squeeze(-1)
            logits.append(PATCH_TEMPERATURE * similarity / embedded.norm(dim=-1).clamp_min(1e-12))
        return torch.stack(logits)


def adapters_for(backbone: Backbone) -> LinearAdapters:
    """Untrained adapters that fit a backbone, on its device."""
    adapters = LinearAdapters(len(backbone.features_list), *backbone.clip.visual.proj.shape)
    return use_fastest_kernels(adapters, backbone.device, backbone.precision)


def training_loss(logits: Tensor, masks: Tensor, upsampling: Tensor) -> Tensor:
    """Focal and dice loss of the anomalous probability, summed over the taps.

    From the adapters' logits [taps, B, N], the ground truth, bool [B, S, S], and the matrix to pixels [S, g].
    """
    probabilities = anomalous_probabilities(logits, upsampling)  # [taps, B, S, S]
    return len(logits) * (focal_loss(probabilities, masks) + dice_loss(probabilities, masks))  # which are means


@dataclass(eq=False)
class SDP:
    """Maps and scores from a frozen CLIP and text features; of SDP+, from trained adapters, too."""

    backbone: Backbone
    text_features: Mapping[str, Tensor]  # class -> unit columns normal and anomalous [D, 2]
    fidelity: Fidelity  # how the taps are taken
    smoothing: float  # standard deviation of the Gaussian filter on the maps, in pixels
    adapters: LinearAdapters | None = None  # of SDP+, for this backbone
    encode: Callable[..., list[Tap]] = encode_dual_path
    score: Callable[[Sequence[Tap], Tensor], Tensor] = token_scores  # from taps and text [B, D, 2] to [B, N]

    def __post_init__(self) -> None:
        size, device, sigma = self.backbone.image_size, self.backbone.device, self.smoothing
        if sigma > size:  # the maps would become flat
            raise UserError(f"--smoothing {sigma:g} is wider than the image of {size} pixels; choose a smaller one")
        self.filter = gaussian_matrix(size, sigma).to(device)  # [S, S]
        upsampling = upsampling_matrix(self.backbone.grid, size, align_corners=False)
        self.smooth_upsampling = self.filter @ upsampling.to(device)  # [S, g]
        self.adapter_upsampling = adapter_upsampling(self.backbone)  # [S, g]
        self.memory_weight = len(self.backbone.features_list) / 2  # half of the sum over the taps, as of the text

    @torch.inference_mode()
    def predict(self, images: Tensor, class_names: Sequence[str], *, with_tokens: bool = False) -> Prediction:
        """Anomaly maps [B, S, S] and `text_prob` [B] of normalised images [B, 3, S, S].

        On request with the original path's patch tokens, which SDP+'s adapters read.
        """
        text = torch.stack([self.text_features[name] for name in class_names])  # [B, D, 2]
        taps = self.backbone.run_image_tower(
            self.encode,
            images,
            self.backbone.features_list,
            shared_buffers=self.fidelity.taps_share_buffers,
            with_ori=self.adapters is not None or with_tokens,
        )
        grid = self.backbone.grid
        maps = resample(self.score(taps, text).unflatten(1, (grid, grid)), self.smooth_upsampling)
        if self.adapters is not None:
            logits = self.adapters([tap.ori[:, 1:].float() for tap in taps], text)
            maps = maps + resample(anomalous_probabilities(logits, self.adapter_upsampling).sum(dim=0), self.filter)
        tokens = [tap.ori[:, 1:] for tap in taps] if with_tokens else None
        return Prediction(maps=maps, text_prob=image_probability(taps[-1], text), tokens=tokens)

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        """Image scores of one class: both terms brought to [0, 1] over its test images, then added."""
        return min_max(text_prob) + min_max(map_max)
