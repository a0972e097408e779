"""SDP+: SDP's maps plus those of trained linear adapters. CLIP-AD (arXiv:2311.00453), section 3.4."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.anomaly_map import PATCH_TEMPERATURE, adapter_upsampling, anomalous_probabilities, resample
from models.backbone import Backbone
from models.dual_path import Tap
from models.linear import use_fastest_kernels
from models.losses import dice_loss, focal_loss
from models.sdp import SDP


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
    total = logits.new_zeros(())
    for tap in logits:
        probability = anomalous_probabilities(tap, upsampling)
        total = total + focal_loss(probability, masks) + dice_loss(probability, masks)
    return total


@dataclass(eq=False)
class SDPPlus(SDP):
    """SDP with the maps of adapters that fit its backbone added before the Gaussian filter."""

    adapters: LinearAdapters
    reads_ori = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.upsampling = adapter_upsampling(self.backbone)

    def maps(self, taps: Sequence[Tap], text: Tensor) -> Tensor:
        """SDP's anomaly maps [B, S, S] and the adapters' probabilities, smoothed alike."""
        logits = self.adapters([tap.ori[:, 1:].float() for tap in taps], text)
        probability = anomalous_probabilities(logits, self.upsampling).sum(dim=0)
        return super().maps(taps, text) + resample(probability, self.filter)
