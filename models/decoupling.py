"""DP-CLIP's feature decoupling: normal and anomalous tokens are driven apart, each from the other's prototype."""

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.distributed import sum_over_processes


def token_labels(masks: Tensor, grid: int) -> Tensor:
    """Which tokens are anomalous, bool [B, N], from pixels bool [B, S, S] by nearest neighbour."""
    tokens = F.interpolate(masks[:, None].float(), size=grid, mode="nearest")[:, 0] > 0.5
    return tokens.flatten(1)


def state_means(tokens: Tensor, anomalous: Tensor) -> Tensor | None:
    """Unit-length means of all normal and of all anomalous tokens of a batch, that of all processes together.

    Args:
        tokens: unit-length patch tokens [B, N, D].
        anomalous: bool [B, N].

    Returns:
        Rows normal and anomalous [2, D], or None where the batch has tokens of one kind only.
    """
    kinds = torch.stack([~anomalous, anomalous])
    sums = torch.stack([tokens[kind].sum(dim=0) for kind in kinds])
    counts = kinds.sum(dim=(1, 2)).to(sums.dtype)[:, None]
    sums, counts = sum_over_processes(torch.cat([sums, counts], dim=1)).split([sums.shape[1], 1], dim=1)
    return F.normalize(sums / counts, dim=-1) if counts.all() else None


def decoupling_loss(means: Tensor, prototypes: Tensor | None) -> Tensor:
    """Squared similarity of each state's mean to the other state's prototype, on average over both states.

    Args:
        means: as `state_means` gives them [2, D].
        prototypes: unit rows normal and anomalous [2, D]; None where there are none yet, so that the means, which are
            to become the prototypes, are compared with each other.
    """
    if prototypes is None:
        return (means[0] @ means[1]).square()
    return torch.linalg.vecdot(means, prototypes.flip(0)).square().mean()
