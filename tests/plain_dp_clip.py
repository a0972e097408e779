"""DP-CLIP plainly, as published implementations compute it: features, losses and maps from their definitions."""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from models.dp_clip import AdaptedFeatures, ImageAdapter


def plain_features(visual: nn.Module, adapter: ImageAdapter, images: Tensor) -> AdaptedFeatures:
    """Run the tower block by block; every block's tokens and attention weights are held until the end."""
    settings = adapter.settings
    z = visual._embeds(images).transpose(0, 1)  # [1+N, B, C]
    kept = []
    for number, block in enumerate(visual.transformer.resblocks):
        attention = copy.copy(block.attn)
        attention.batch_first = False
        x = block.ln_1(z)
        attended, weights = attention(x, x, x, need_weights=True)
        z = z + attended
        z = z + block.mlp(block.ln_2(z))
        if number in settings.image_adapt_layers:
            layer = adapter.layer_adapters[settings.image_adapt_layers.index(number)]
            y = F.leaky_relu(_grn(layer.grn, layer.fc(z), dim=1 if settings.grn_over_batch else 0))
            y = y * z.norm(dim=-1, keepdim=True) / y.norm(dim=-1, keepdim=True)
            z = settings.image_adapt_weight * y + (1 - settings.image_adapt_weight) * z
        kept.append((z, weights))

    def project(head: nn.Module, tap: int) -> Tensor:
        """Unit-length patch tokens [B, N, D]."""
        tokens = visual.ln_post(kept[tap - 1][0].transpose(0, 1)[:, 1:])
        projected = _grn(head.grn, head.fc(tokens), dim=1)
        return F.normalize(F.leaky_relu(projected) if settings.relu else projected, dim=-1)

    seg = [project(head, tap) for tap, head in zip(settings.features_list, adapter.seg_proj, strict=True)]
    return AdaptedFeatures(seg, project(adapter.det_proj, settings.features_list[-1]).mean(dim=1))


def _grn(module: nn.Module, x: Tensor, dim: int) -> Tensor:
    """Normalise the responses of x over `dim`, channels last; nothing where the adapter does without."""
    if isinstance(module, nn.Identity):
        return x
    g = x.norm(p=2, dim=dim, keepdim=True)
    return x + module.weight * (x * (g / (g.mean(dim=-1, keepdim=True) + 1e-6))) + module.bias


def plain_losses(
    features: AdaptedFeatures, text: Tensor, labels: Tensor, masks: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the losses of a first training step: classification, segmentation and decoupling.

    Args:
        features: of the images.
        text: text features of each image's class [B, D, 2].
        labels: 1 where an image is anomalous [B].
        masks: bool [B, S, S].
    """
    mask = masks.float()
    target = torch.stack([1 - mask, mask], dim=1)
    segmentation, decoupling, prototypes = 0, 0, None
    for tap in features.seg:
        logits = _logits(tap, text)
        p = F.interpolate(logits, size=mask.shape[-1], mode="bilinear", align_corners=True).softmax(dim=1)
        pt = (p * target.clamp(1e-5, 1 - 1e-5)).sum(dim=1) + 1e-5
        segmentation = segmentation - ((1 - pt) ** 2 * pt.log()).mean()
        segmentation = segmentation + _dice(p[:, 0], 1 - mask) + _dice(p[:, 1], mask)
        small = F.interpolate(mask[:, None], size=logits.shape[-1], mode="nearest")[:, 0].flatten(1) > 0.5
        vn, va = (F.normalize(tap[chosen].mean(dim=0), dim=-1) for chosen in (~small, small))
        if prototypes is None:
            decoupling = decoupling + (va @ vn) ** 2
            prototypes = vn.detach(), va.detach()
        else:
            pn, pa = prototypes
            decoupling = decoupling + ((va @ pn) ** 2 + (vn @ pa) ** 2) / 2
    return F.cross_entropy((features.det[:, None] @ text)[:, 0], labels), segmentation, decoupling


def _logits(tap: Tensor, text: Tensor) -> Tensor:
    """Logits of both states as an image [B, 2, g, g], from a tap's tokens [B, g^2, D]."""
    grid = math.isqrt(tap.shape[1])
    return (100 * tap @ text).transpose(1, 2).unflatten(2, (grid, grid))


def _dice(probability: Tensor, mask: Tensor) -> Tensor:
    p, m = probability.flatten(1), mask.flatten(1)
    return 1 - ((2 * (p * m).sum(1) + 1) / (p.sum(1) + m.sum(1) + 1)).mean()


def plain_maps(seg: Sequence[Tensor], text: Tensor, size: int, kernel: int = 7, sigma: float = 1.0) -> Tensor:
    """Sum the taps' token scores, blurred on the grid and brought to pixels: [B, size, size]."""
    maps = 0
    for tap in seg:
        normal, anomalous = _logits(tap, text).unbind(dim=1)
        scores = gaussian_blur(((anomalous + 1 - normal) / 2)[:, None], [kernel, kernel], [sigma, sigma])
        maps = maps + F.interpolate(scores, size=size, mode="bilinear", align_corners=True)
    return maps[:, 0]
