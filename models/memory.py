"""The branch of normal images: how far each patch of an image is from the nearest patch of images known to be normal.

WinCLIP (arXiv:2303.14814, section 4) and APRIL-GAN (arXiv:2305.17382) add such a branch to the map of the text. Nothing
is trained. B images a batch, N = g x g patches of width C; R normal images, of each of which k tokens of each tap are
remembered.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.anomaly_map import resample
from utils.evaluation_types import Detector, Prediction

MOST_TOKENS = 20_000  # that are kept of each tap, of all normal images together
AT_ONCE = 1 << 26  # similarities that are held at once
Remembered = list[Tensor]  # unit tokens of an image that are kept of each tap, [k, C]


class TokenDetector(Detector, Protocol):
    """A detector whose patch tokens can be had."""

    smooth_upsampling: Tensor  # [S, g], which brings scores of patches to smooth maps
    memory_weight: float  # of a cosine distance beside the map of the text

    def predict(self, images: Tensor, class_names: Sequence[str], *, with_tokens: bool = False) -> Prediction:
        """Predict maps and probabilities of normalised images [B, 3, S, S], on request with their `tokens`."""


def tokens_kept(tokens: int, images: int) -> int:
    """Count how many of an image's `tokens` are kept with so many images: all, if `MOST_TOKENS` allows it."""
    return min(tokens, max(1, MOST_TOKENS // images))


@torch.inference_mode()
def remember(detector: TokenDetector, images: Tensor, class_names: Sequence[str], *, of: int) -> list[Remembered]:
    """Choose what to keep of each of normalised normal images [B, 3, S, S], which are `of` so many in all."""
    taps = detector.predict(images.to(detector.smooth_upsampling.device), class_names, with_tokens=True).tokens
    units = [F.normalize(tap.float(), dim=-1) for tap in taps]  # [B, N, C]
    count = tokens_kept(units[0].shape[1], of)
    return [[coreset(tap[i], count) for tap in units] for i in range(len(images))]


def coreset(tokens: Tensor, count: int) -> Tensor:
    """Choose `count` of an image's unit tokens [N, C] that cover the others well: greedy k-centre, [count, C].

    First the token nearest to the mean, then over and over the one that is farthest from those chosen.
    """
    if count >= len(tokens):
        return tokens
    chosen = [int((tokens @ tokens.mean(dim=0)).argmax())]
    nearest = tokens @ tokens[chosen[0]]  # cosine to the nearest that is chosen
    while len(chosen) < count:
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, tokens @ tokens[chosen[-1]])
    return tokens[chosen]


def distances(tokens: Tensor, memory: Tensor) -> Tensor:
    """Cosine distance [B, N, R] of unit tokens [B, N, C] to the nearest one of each normal image [R, k, C]."""
    kept = memory.shape[1]
    group = max(1, AT_ONCE // max(1, tokens.shape[0] * tokens.shape[1] * kept))
    cosines = [(tokens @ part.flatten(0, 1).T).unflatten(-1, (-1, kept)).amax(-1) for part in memory.split(group)]
    return 1 - torch.cat(cosines, dim=-1)


def distance_grids(tokens: Sequence[Tensor], memory: Sequence[Tensor], chosen: Tensor) -> Tensor:
    """Distance [B, K, g, g] of each patch to the nearest of the chosen normal images, averaged over the taps.

    From tokens [B, N, C] and memory [R, k, C] of each tap, and K choices among the R images, bool [B or 1, K, R]. The
    similarities are computed once for all choices.
    """
    total = 0.0
    for tap, kept in zip(tokens, memory, strict=True):
        found = distances(F.normalize(tap.float(), dim=-1), kept)[:, None]  # [B, 1, N, R]
        total = total + found.masked_fill(~chosen[:, :, None], torch.inf).amin(-1)
    grid = round(total.shape[-1] ** 0.5)
    return (total / len(memory)).unflatten(-1, (grid, grid))


def digest_of_image(image: Tensor) -> str:
    """SHA-256 of the values of an image as the detector takes it."""
    return hashlib.sha256(image.cpu().contiguous().numpy()).hexdigest()


@dataclass(frozen=True)
class NormalMemory:
    """What is remembered of normal images, no two of them the same."""

    tokens: Sequence[Tensor]  # unit tokens of each tap, float32 [R, k, C]
    digests: Sequence[str]  # of each image, see `digest_of_image`

    def to(self, device: torch.device) -> "NormalMemory":
        """Move to a device."""
        return replace(self, tokens=[tap.to(device) for tap in self.tokens])

    @property
    def record(self) -> dict[str, Any]:
        """What tells a memory from others, whatever the rounding of its tokens."""
        images = hashlib.sha256(" ".join(sorted(self.digests)).encode()).hexdigest()
        return {"images": len(self.digests), "tokens": self.tokens[0].shape[1], "sha256": images}


@dataclass(eq=False)
class MemoryDetector:
    """A detector whose maps are the sum of its own and the weighted distance to normal images.

    An image that is remembered itself is compared with the others alone (leave-one-out). As fewer images are never
    nearer, the normal images' scores are at least what they would be if each were compared with as many as any other
    image is; so a conformal calibration on them keeps its promise.
    """

    detector: TokenDetector
    memory: NormalMemory  # of two images or more, on the detector's device

    @torch.inference_mode()
    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        """Anomaly maps [B, S, S] and `text_prob` [B] of normalised images [B, 3, S, S]."""
        found = self.detector.predict(images, class_names, with_tokens=True)
        others = [[digest != own for digest in self.memory.digests] for own in map(digest_of_image, images.cpu())]
        chosen = torch.tensor(others, device=images.device)[:, None]  # [B, 1, R]
        grids = distance_grids(found.tokens, self.memory.tokens, chosen)
        return Prediction(found.maps + distance_maps(self.detector, grids[:, 0]), found.text_prob)


def distance_maps(detector: TokenDetector, grids: Tensor) -> Tensor:
    """Make of distances [B, g, g] what they add to a detector's maps [B, S, S]: weighted, upsampled as its text map."""
    return detector.memory_weight * resample(grids.to(detector.smooth_upsampling.device), detector.smooth_upsampling)
