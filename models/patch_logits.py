"""Logits of patches against the two texts of a class, brought to pixels as probabilities."""

from torch import Tensor

from models.anomaly_map import resample, upsampling_matrix
from models.backbone import Backbone

PATCH_TEMPERATURE = 100.0


def anomalous_probabilities(logits: Tensor, upsampling: Tensor) -> Tensor:
    """Probability that a pixel is anomalous, from a grid of logit differences.

    Args:
        logits: [..., N], anomalous less normal.
        upsampling: [S, g].

    Returns:
        [..., S, S] in [0, 1].
    """
    grid = upsampling.shape[1]
    return resample(logits.unflatten(-1, (grid, grid)), upsampling).sigmoid()


def adapter_upsampling(backbone: Backbone) -> Tensor:
    """The matrix [S, g] that brings the adapters' logits to pixels."""
    matrix = upsampling_matrix(backbone.grid, backbone.image_size, align_corners=True)
    return matrix.to(backbone.device)
