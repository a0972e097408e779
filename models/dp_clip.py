"""DP-CLIP: zero-shot anomaly detection with feature decoupling and channel purification."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.adapter import AdaptedFeatures, AdapterSettings, ImageAdapter, encode_adapted
from models.anomaly_map import (
    PATCH_TEMPERATURE,
    adapter_upsampling,
    anomalous_probabilities,
    gaussian_matrix,
    min_max,
    resample,
)
from models.backbone import Backbone
from models.linear import use_fastest_kernels
from models.losses import MomentumPrototypes, decoupling_loss, dice_loss, focal_loss, state_means, token_labels
from utils.evaluation_types import Prediction

# Gaussian filter on the grid of tokens, by domain: standard deviation in tokens, window in tokens.
SMOOTHING = {"industrial": (1.0, 7), "medical": (1.5, 9)}


def image_adapter_for(backbone: Backbone, settings: AdapterSettings) -> ImageAdapter:
    """An untrained image adapter that fits a backbone, on its device."""
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

    The batch's means are shown to the prototypes, whose update is left to the caller.
    """
    anomalous = token_labels(masks, upsampling.shape[1])
    segmentation = decoupling = features.det.new_zeros(())
    for seg in features.seg:
        probability = anomalous_probabilities(anomalous_logits(seg, text), upsampling)
        segmentation = segmentation + focal_loss(probability, masks)
        segmentation = segmentation + dice_loss(1 - probability, ~masks) + dice_loss(probability, masks)
        means = state_means(seg, anomalous)
        if means is not None:
            decoupling = decoupling + decoupling_loss(means, prototypes.values)
            prototypes.see(means)
    similarity = (features.det[:, None] @ text)[:, 0]  # [B, 2]
    classification = F.cross_entropy(similarity, labels)
    total = classification + segmentation + decoupling_weight * decoupling
    return {"loss": total, "classification": classification, "segmentation": segmentation, "decoupling": decoupling}


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

    def __post_init__(self) -> None:
        blur = gaussian_matrix(self.backbone.grid, *SMOOTHING[self.domain]).to(self.backbone.device)
        self.smooth_upsampling = adapter_upsampling(self.backbone) @ blur  # [S, g]

    @torch.inference_mode()
    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        """Anomaly maps [B, S, S] of normalised images [B, 3, S, S], and `text_prob` [B].

        The latter is the similarity of image and anomalous text, a cosine brought from [-1, 1] to [0, 1].
        """
        text = torch.stack([self.text_features[name] for name in class_names])  # [B, D, 2]
        seg, det = self.backbone.run_image_tower(encode_adapted, self.adapter, images)
        similarity = (det * text[..., 1]).sum(dim=-1)
        maps = anomaly_maps(seg, text, self.smooth_upsampling)
        return Prediction(maps=maps, text_prob=(similarity + 1) / 2)

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        """Image scores of one class: the maximum of the map, in industry averaged with the image's similarity.

        Maps and similarities are brought to [0, 1] over the class's test images.
        """
        highest = min_max(map_max, low=map_min.min())
        return highest if self.domain == "medical" else (highest + min_max(text_prob)) / 2
