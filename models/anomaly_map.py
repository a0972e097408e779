"""From a grid of patch scores to a smooth map of pixels, by matrices, and from maps to scores in [0, 1].

Bilinear resizing and Gaussian filtering are linear and separable, so a map M becomes A M A^T with one small matrix A
for rows and columns. A is taken from the reference implementations, applied to the unit vectors; the product runs on
any device.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from models.backbone import Backbone

PATCH_TEMPERATURE = 100.0  # of the adapters' logits


def upsampling_matrix(grid: int, size: int, *, align_corners: bool) -> Tensor:
    """Bilinear interpolation of `grid` samples to `size`, float32 [size, grid], as `torch.nn.functional`'s."""
    units = torch.eye(grid)[None]  # [1, grid signals, grid]
    return F.interpolate(units, size=size, mode="linear", align_corners=align_corners)[0].T.contiguous()


def adapter_upsampling(backbone: Backbone, *, align_corners: bool = True) -> Tensor:
    """Make the matrix [S, g] that brings the adapters' logits to pixels, on the backbone's device."""
    return upsampling_matrix(backbone.grid, backbone.image_size, align_corners=align_corners).to(backbone.device)


def gaussian_matrix(size: int, sigma: float, window: int | None = None) -> Tensor:
    """Gaussian filter of `size` samples, float32 [size, size], as `scipy.ndimage.gaussian_filter`'s defaults.

    `sigma` is in samples: below 0.1 nothing is filtered, as the window is one sample. With an odd `window` it is that
    of `torchvision.transforms.functional.gaussian_blur`, which mirrors the signal without its last sample.
    """
    settings = {} if window is None else {"mode": "mirror", "radius": window // 2}
    return torch.from_numpy(gaussian_filter(np.eye(size), (sigma, 0), **settings).astype(np.float32))


def resample(maps: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix to rows and columns: [B, g, g] and [S, g] to [B, S, S]."""
    return matrix @ maps @ matrix.T


def anomalous_probabilities(logits: Tensor, upsampling: Tensor) -> Tensor:
    """Probability [..., S, S] that a pixel is anomalous, from anomalous less normal logits [..., N] and [S, g]."""
    grid = upsampling.shape[1]
    return resample(logits.unflatten(-1, (grid, grid)), upsampling).sigmoid()


def min_max(values: np.ndarray, low: float | None = None) -> np.ndarray:
    """Values of one class scaled so that `low`, by default the least of them, becomes 0 and the greatest 1.

    They are returned unchanged where nothing is greater than `low`, and where there is a single value.
    """
    low, high = values.min() if low is None else low, values.max()
    return (values - low) / (high - low) if len(values) > 1 and high > low else values
