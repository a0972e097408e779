"""One training of DP-CLIP's image adapter: its optimiser, schedule and prototypes, and what a batch does to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.adapted_tower import encode_adapted
from models.adapter import ImageAdapter
from models.backbone import Backbone
from models.dp_clip import training_loss
from models.fidelity import Fidelity
from models.patch_logits import adapter_upsampling
from models.prototypes import MomentumPrototypes
from utils.distributed import sum_gradients, sum_over_processes

BETAS = (0.5, 0.999)
DECAY = 0.5  # of the learning rate, at each milestone


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How an image adapter is trained.

    Attributes:
        learning_rate: of Adam.
        milestones: steps after which the learning rate is halved.
        decoupling_weight: of the decoupling loss.
        momentum_alpha: share of a prototype that an update keeps, in [0, 1].
        clip_gradient: greatest length of the gradient; None to leave it as it is.
        activation_checkpointing: see `encode_adapted`.
    """

    learning_rate: float
    milestones: tuple[int, ...]
    decoupling_weight: float
    momentum_alpha: float
    clip_gradient: float | None
    activation_checkpointing: bool


class DPClipTraining:
    """The state of a training, and the two halves of its steps.

    Args:
        backbone: the frozen CLIP; its precision is that of the tower, with the loss scaled for fp16.
        adapter: what is trained.
        fidelity: its switches.
        settings: see there.
    """

    def __init__(
        self, backbone: Backbone, adapter: ImageAdapter, fidelity: Fidelity, settings: TrainingSettings
    ) -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.fidelity = fidelity
        self.settings = settings
        self.upsampling = adapter_upsampling(backbone)
        self.optimizer = torch.optim.Adam(adapter.parameters(), lr=settings.learning_rate, betas=BETAS)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, settings.milestones, DECAY)
        self.scaler = torch.amp.GradScaler(backbone.device.type, enabled=backbone.precision == "fp16")
        self.prototypes = MomentumPrototypes(settings.momentum_alpha, repeat_update=fidelity.repeated_prototype_update)

    def forward_backward(
        self, images: Tensor, masks: Tensor, labels: Tensor, text: Tensor, share: float = 1.0, part: float = 1.0
    ) -> dict[str, float] | None:
        """Add a batch's gradients to those that are there, and let the prototypes follow it.

        Args:
            images: normalised [B, 3, S, S].
            masks: ground truth, bool [B, S, S].
            labels: 0 normal, 1 anomalous, int64 [B].
            text: text features of each image's class [B, D, 2].
            share: what the gradients are multiplied by.
            part: what share of the batch's images these are; those of other processes are the rest.

        Returns:
            The loss of the whole batch and its parts, before any weighting; None where that of these images is not
            finite, and no gradient was added.
        """
        features = self.backbone.run_image_tower(
            encode_adapted, self.adapter, images, activation_checkpointing=self.settings.activation_checkpointing
        )
        loss = training_loss(features, text, labels, masks, self.upsampling, self.prototypes)
        total = loss.total(self.settings.decoupling_weight)
        if len(images) and not total.isfinite():
            return None
        self.scaler.scale(share * part * total).backward()
        self.prototypes.update()
        losses = torch.stack([total, *loss]).detach()
        losses = sum_over_processes(part * losses if len(images) else torch.zeros_like(losses))
        return dict(zip(("loss", *loss._fields), losses.tolist(), strict=True))

    def step(self) -> None:
        """Move the parameters along the gradients that were added up.

        Where these have overflowed in fp16, they are dropped and the loss is scaled less from then on.
        """
        sum_gradients(self.adapter.parameters())
        if self.settings.clip_gradient is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), self.settings.clip_gradient)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.scaler.get_scale() >= scale:  # or the step was passed over
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs beside the adapter's and the optimiser's state."""
        return {
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "prototypes": self.prototypes.state_dict(),
        }

    def resume(self, optimizer_state: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Go on from the states of the optimiser and the rest; the adapter's is loaded by the caller."""
        self.optimizer.load_state_dict(optimizer_state)
        self.scaler.load_state_dict(state["scaler"])
        if not self.fidelity.resume_starts_anew:
            self.scheduler.load_state_dict(state["scheduler"])
            self.prototypes.load_state_dict(
                {
                    name: value if value is None else value.to(self.backbone.device)
                    for name, value in state["prototypes"].items()
                }
            )
