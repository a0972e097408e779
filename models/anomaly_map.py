"""From a grid of patch scores to a smooth map of pixels: bilinear resizing and Gaussian filtering as matrices.

Both are linear and separable, so a map M becomes A M A^T with one small matrix A for rows and columns. A is taken
from the reference implementations themselves, applied to the unit vectors; the product runs on any device.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate1d, gaussian_filter1d
from torch import Tensor

from models.backbone import Backbone
from utils.errors import UserError


def upsampling_matrix(grid: int, size: int, *, align_corners: bool) -> Tensor:
    """Bilinear interpolation of `grid` samples to `size`, float32 [size, grid], as `torch.nn.functional`'s."""
    units = torch.eye(grid)[None]  # [1, grid signals, grid]
    return F.interpolate(units, size=size, mode="linear", align_corners=align_corners)[0].T.contiguous()


def gaussian_matrix(size: int, sigma: float) -> Tensor:
    """Gaussian filter of `size` samples, float32 [size, size], as `scipy.ndimage.gaussian_filter`'s defaults.

    A filter that is wider than the signal makes it flat, and is refused.

    Args:
        size: samples a side.
        sigma: standard deviation in samples; below 0.1 nothing is filtered, as the window is one sample.

    Raises:
        UserError: sigma is larger than `size`.
    """
    if sigma > size:
        raise UserError(f"--smoothing {sigma:g} is wider than the image of {size} pixels; choose a smaller one")
    if sigma < 0.1:
        return torch.eye(size)
    units = np.eye(size)
    return torch.from_numpy(gaussian_filter1d(units, sigma, axis=0).astype(np.float32))


def kernel_matrix(size: int, window: int, sigma: float) -> Tensor:
    """Gaussian filter of a fixed window, float32 [size, size], as `torchvision.transforms.functional.gaussian_blur`.

    Args:
        size: samples a side.
        window: samples of the filter, odd; beyond the border the signal is mirrored without its last sample.
        sigma: standard deviation in samples.
    """
    distance = np.arange(window) - window // 2
    kernel = np.exp(-0.5 * (distance / sigma) ** 2)
    units = np.eye(size)
    return torch.from_numpy(correlate1d(units, kernel / kernel.sum(), axis=0, mode="mirror").astype(np.float32))


def resample(maps: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix to rows and columns: [B, g, g] and [S, g] to [B, S, S]."""
    return matrix @ maps @ matrix.T


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


def min_max(values: np.ndarray, low: float | None = None) -> np.ndarray:
    """Values scaled so that `low`, by default the least of them, becomes 0 and the greatest 1.

    They are returned unchanged where nothing is greater than `low`, and where there is a single value.
    """
    low, high = values.min() if low is None else low, values.max()
    return (values - low) / (high - low) if len(values) > 1 and high > low else values
