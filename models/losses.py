"""What SDP+ and DP-CLIP minimise: segmentation losses, and DP-CLIP's feature decoupling with its prototypes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.distributed import sum_over_processes

FOCUS = 2  # exponent of the focal loss, Lin et al. (arXiv:1708.02002), whose gamma = 2
SMOOTH = 1e-5  # bounds the one-hot target away from 0 and 1, and the logarithm's argument away from 0


def focal_loss(anomalous: Tensor, mask: Tensor) -> Tensor:
    """Focal loss of the probability [..., B, S, S] that a pixel is anomalous, the mean over all; `mask` bool [B, S, S].

    Lin et al. (arXiv:1708.02002), equation 4, without class weights. The truth's probability is smoothed by s, SMOOTH,
    to t p + (1 - t)(1 - p) + s with t = 1 - s or s.
    """
    of_truth = torch.where(mask, anomalous, 1 - anomalous) * (1 - 2 * SMOOTH) + 2 * SMOOTH
    return -((1 - of_truth) ** FOCUS * of_truth.log()).mean()


def dice_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """Dice loss of a region's probability [..., B, S, S] and of its mask, bool [B, S, S], the mean over all images.

    Milletari et al. (arXiv:1606.04797), section 3, with sums in place of sums of squares, smoothed by one.
    """
    p, m = probability.flatten(-2), mask.flatten(-2).to(probability.dtype)
    coefficient = (2 * torch.linalg.vecdot(p, m) + 1) / (p.sum(dim=-1) + m.sum(dim=-1) + 1)
    return 1 - coefficient.mean()


def token_labels(masks: Tensor, grid: int) -> Tensor:
    """Tell which tokens are anomalous, bool [B, N], from pixels bool [B, S, S] by nearest neighbour."""
    return (F.interpolate(masks[:, None].float(), size=grid, mode="nearest") > 0.5).flatten(1)


def state_means(tokens: Tensor, anomalous: Tensor) -> Tensor | None:
    """Unit-length means, rows normal and anomalous [2, D], of a batch's tokens [B, N, D] by their labels, bool [B, N].

    The batch is that of all processes together; None where it has tokens of one kind only.
    """
    kinds = torch.stack([~anomalous, anomalous])
    sums = torch.stack([tokens[kind].sum(dim=0) for kind in kinds])
    counts = kinds.sum(dim=(1, 2)).to(sums.dtype)[:, None]
    sums, counts = sum_over_processes(torch.cat([sums, counts], dim=1)).split([sums.shape[1], 1], dim=1)
    return F.normalize(sums / counts, dim=-1) if counts.all() else None


def decoupling_loss(means: Tensor, prototypes: Tensor | None) -> Tensor:
    """Squared similarity of each state's mean to the other state's prototype, on average over both states.

    Both are unit rows normal and anomalous [2, D]. While there are no prototypes, the means, which are to become
    them, are compared with each other.
    """
    if prototypes is None:
        return (means[0] @ means[1]).square()
    return torch.linalg.vecdot(means, prototypes.flip(0)).square().mean()


@dataclass(eq=False)
class MomentumPrototypes:
    """Prototypes of normal and anomalous tokens, which exist from the first batch with both kinds on."""

    momentum: float  # share of a prototype that an update keeps, in [0, 1]
    repeat_update: bool = False  # towards the last means, after a batch that had none
    values: Tensor | None = None  # unit rows normal and anomalous [2, D]
    seen: Tensor | None = None  # the means [2, D] that the next update moves towards

    def see(self, means: Tensor) -> None:
        """Note a tap's means [2, D] for the next update; the first ones become the prototypes at once."""
        self.seen = means.detach()
        if self.values is None:
            self.values = self.seen

    def update(self) -> None:
        """Move the prototypes towards the means seen last, if there are any; to be called after each batch."""
        if self.seen is not None:
            self.values = F.normalize(self.momentum * self.values + (1 - self.momentum) * self.seen, dim=-1)
        if not self.repeat_update:
            self.seen = None

    def state_dict(self) -> dict[str, Tensor | None]:
        """Collect what goes into a checkpoint."""
        return {"values": self.values, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Go on from a checkpoint."""
        self.values, self.seen = state["values"], state["seen"]
