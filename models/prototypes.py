"""DP-CLIP's global prototypes of normal and anomalous tokens, which follow the batches' means with momentum."""

import torch.nn.functional as F
from torch import Tensor


class MomentumPrototypes:
    """Two prototypes in the joint embedding; they exist from the first batch with both kinds of token on.

    Args:
        momentum: share of a prototype that an update keeps, in [0, 1].
        repeat_update: update towards the last means again after a batch that had none.

    Attributes:
        values: unit rows normal and anomalous [2, D], or None.
        seen: the means [2, D] that the next update moves towards, or None.
    """

    def __init__(self, momentum: float, *, repeat_update: bool = False) -> None:
        self.momentum = momentum
        self.repeat_update = repeat_update
        self.values: Tensor | None = None
        self.seen: Tensor | None = None

    def see(self, means: Tensor) -> None:
        """Note a tap's means [2, D] for the next update; the first ones become the prototypes at once."""
        self.seen = means.detach()
        if self.values is None:
            self.values = self.seen

    def update(self) -> None:
        """Move the prototypes towards the means seen last, if there are any; to be called after each batch."""
        if self.values is None or self.seen is None:
            return
        self.values = F.normalize(self.momentum * self.values + (1 - self.momentum) * self.seen, dim=-1)
        if not self.repeat_update:
            self.seen = None

    def state_dict(self) -> dict[str, Tensor | None]:
        """What goes into a checkpoint."""
        return {"values": self.values, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Go on from a checkpoint."""
        self.values, self.seen = state["values"], state["seen"]
