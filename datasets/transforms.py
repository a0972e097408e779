"""From an image of any size to the square tensor the backbone takes, and the same for its mask."""

from functools import cache

import numpy as np
import torch
from PIL import Image

# Of the images OpenAI trained CLIP on; the same for every backbone preset.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
STRIP = 1 << 22  # pixels
PICTURE_SIDE = 1024  # pixels, of what is shown


def as_array(image: Image.Image) -> np.ndarray:
    """Copy an RGB image's pixels, uint8 [H, W, 3], in strips, as NumPy would hold them all twice on the way."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def resize_rgb(image: Image.Image, size: int) -> np.ndarray:
    """Resize an RGB image to a square, bicubic and antialiased, the aspect not kept: uint8 [S, S, 3]."""
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC))


def image_transform(image: Image.Image, size: int) -> torch.Tensor:
    """Resize as `resize_rgb` does, for `normalised`, which is for the backbone's device: uint8 [3, S, S]."""
    return torch.from_numpy(resize_rgb(image, size)).permute(2, 0, 1).contiguous()


def image_from_tensor(image: torch.Tensor) -> np.ndarray:
    """Restore the picture that `image_transform` made a tensor of: uint8 [S, S, 3]."""
    return image.permute(1, 2, 0).numpy()


@cache
def _scale(device: torch.device) -> tuple[torch.Tensor, ...]:
    """White, and CLIP's means and standard deviations [3, 1, 1], as tensors, since CUDA divides by numbers roughly."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        return torch.tensor(255.0, device=device), mean, std


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Normalise images with CLIP's mean and standard deviation: float32 from uint8, [3, S, S] or [B, 3, S, S]."""
    white, mean, std = _scale(images.device)
    return images.float().div_(white).sub_(mean).div_(std)


def unnormalised(images: torch.Tensor) -> torch.Tensor:
    """Restore the images that `normalised` made its own of: uint8 from float32."""
    white, mean, std = _scale(images.device)
    return (images * (white * std)).add_(white * mean).round_().clamp_(0, 255).byte()


def mask_transform(mask: np.ndarray, size: tuple[int, int], *, nearest: bool = False) -> torch.Tensor:
    """Resize a mask, bool [H, W], to a height and width, and binarise it at one half.

    Bilinear and antialiased, or by the nearest neighbour, as DP-CLIP does for training.
    """
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], method)
    return torch.from_numpy(np.asarray(grey) > 127.5)
