"""Segmentation losses of the anomalous probability, as APRIL-GAN and its heirs use them.

With two columns that sum to one, everything is said by the anomalous one.
"""

import torch
from torch import Tensor

FOCUS = 2  # exponent of the focal loss, Lin et al. (arXiv:1708.02002), whose gamma = 2
SMOOTH = 1e-5  # bounds the one-hot target away from 0 and 1, and the logarithm's argument away from 0


def focal_loss(anomalous: Tensor, mask: Tensor) -> Tensor:
    """Focal loss without class weights, the mean over all pixels.

    Lin et al. (arXiv:1708.02002), equation 4, with the one-hot target kept within [1e-5, 1 - 1e-5].

    Args:
        anomalous: probability that a pixel is anomalous, [B, S, S] in [0, 1].
        mask: ground truth, bool or 0 and 1, [B, S, S].
    """
    target = mask.to(anomalous.dtype).clamp(SMOOTH, 1 - SMOOTH)
    of_truth = target * anomalous + (1 - target) * (1 - anomalous) + SMOOTH
    return -((1 - of_truth) ** FOCUS * of_truth.log()).mean()


def dice_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """One less the soft Dice coefficient of each image, whose sums are smoothed by one; the mean over the batch.

    Milletari et al. (arXiv:1606.04797), section 3, with sums in place of sums of squares.

    Args:
        probability: that a pixel belongs to the region, [B, S, S] in [0, 1].
        mask: the region, bool or 0 and 1, [B, S, S].
    """
    p, m = probability.flatten(1), mask.flatten(1).to(probability.dtype)
    coefficient = (2 * torch.linalg.vecdot(p, m) + 1) / (p.sum(dim=1) + m.sum(dim=1) + 1)
    return 1 - coefficient.mean()
