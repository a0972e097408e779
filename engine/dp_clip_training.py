"""Training of DP-CLIP's image adapter, on augmented images, inside the frozen tower."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset

from datasets.loader import Batch, empty_batch, in_batches, make_loader
from datasets.training_images import TrainingImages
from engine.loading import adapter_settings
from engine.training import Training
from engine.training_options import DPClipTrainingOptions
from models.adapter_checkpoint import DP_CLIP, OPTIMIZER
from models.anomaly_map import adapter_upsampling
from models.backbone import Backbone
from models.dp_clip import ImageAdapter, encode_adapted, image_adapter_for, training_loss
from models.fidelity import Fidelity
from models.losses import MomentumPrototypes
from utils.distributed import sum_gradients, sum_over_processes

DECAY = 0.5  # of the learning rate, at each milestone
BLANK = 1e-3  # a tap whose loss is that of a blank map, but for this share of it, counts as blank


@dataclass(kw_only=True, eq=False)
class DPClipTraining(Training):
    """The training of an image adapter, in the precision of the backbone's tower, with the loss scaled for fp16."""

    key = "dp_clip"
    method = DP_CLIP
    newest_file = "image_adapter.pth"
    optimizer_key = OPTIMIZER
    betas = (0.5, 0.999)
    nearest_masks = True
    remedy = "choose a smaller --learning_rate, or --clip_gradient 1"

    options: DPClipTrainingOptions
    trained: ImageAdapter

    def __post_init__(self) -> None:
        super().__post_init__()
        self.accumulate = self.options.accumulate
        self.upsampling = adapter_upsampling(self.backbone, align_corners=self.trained.settings.align_corners)
        self.labels = torch.tensor([int(entry.anomaly != 0) for part in self.images for entry in part.entries])
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, self.options.milestones, DECAY)
        self.scaler = torch.amp.GradScaler(self.backbone.device.type, enabled=self.backbone.precision == "fp16")
        repeat_update = self.fidelity.repeated_prototype_update
        self.prototypes = MomentumPrototypes(self.options.momentum_alpha, repeat_update=repeat_update)

    @staticmethod
    def untrained(options: DPClipTrainingOptions, backbone: Backbone, fidelity: Fidelity) -> ImageAdapter:
        return image_adapter_for(backbone, adapter_settings(options, backbone, fidelity))

    def batches(self, epoch: int, order: Sequence[int]) -> Iterable[Batch]:
        options, firsts = self.options, accumulate((len(part.entries) for part in self.images), initial=0)
        settings = {"image_size": self.backbone.image_size, "augmented": not options.no_augmentation}
        datasets = [
            TrainingImages(images=part, first=first, seed=options.seed, epoch=epoch, **settings)
            for part, first in zip(self.images, firsts, strict=False)
        ]
        reading = {"num_workers": options.num_workers, "pin_memory": self.backbone.device.type == "cuda"}
        return make_loader(ConcatDataset(datasets), in_batches(order, options.batch_size), seed=options.seed, **reading)

    def forward_backward(self, batch: Batch | None, share: float, part: float) -> dict[str, float] | None:
        batch = batch or empty_batch(self.backbone.image_size)
        device = self.text.device
        images, masks = (values.to(device, non_blocking=True) for values in (batch.images, batch.masks))
        features = self.backbone.run_image_tower(
            encode_adapted, self.trained, images, activation_checkpointing=self.options.activation_checkpointing
        )
        text, labels = self.text[batch.indices], self.labels[batch.indices].to(device)
        weight = self.options.decoupling_weight
        found = training_loss(features, text, labels, masks, self.upsampling, self.prototypes, weight)
        if len(images) and not found["loss"].isfinite():
            return None
        self.scaler.scale(share * part * found["loss"]).backward()
        self.prototypes.update()
        losses = torch.stack([*found.values()]).detach()
        losses = sum_over_processes(part * losses if len(images) else torch.zeros_like(losses))
        return dict(zip(found, losses.tolist(), strict=True))

    def step(self) -> None:
        """As in `Training`; gradients that overflow in fp16 are dropped, and the loss is scaled less from then on."""
        sum_gradients(self.trained.parameters())
        if self.options.clip_gradient is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained.parameters(), self.options.clip_gradient)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.scaler.get_scale() >= scale:  # or the step was passed over
            self.scheduler.step()

    def doubts(self, epoch: int) -> Iterable[str]:
        """Name the taps that call no pixel anomalous: they hardly learn any more, as their probabilities are all 0."""
        blank = self.log.epoch_mean(epoch, "blank_tap")
        for number, block in enumerate(self.backbone.features_list, 1):
            mean = self.log.epoch_mean(epoch, f"tap_{number}")
            if abs(mean - blank) <= BLANK * blank:
                yield (
                    f"tap {number}, after block {block}, calls no pixel anomalous any more: its loss in epoch {epoch}, "
                    f"{mean:.4f}, is that of a blank map; start over with another --seed or --clip_gradient 0.05, or "
                    f"without block {block} in --features_list"
                )

    def checkpoint(self, epoch: int) -> dict[str, Any]:
        entries = {OPTIMIZER: self.optimizer.state_dict(), "settings": self.trained.settings.record}
        return super().checkpoint(epoch, **entries)

    def state_dict(self) -> dict[str, Any]:  # the optimiser's is in the checkpoint
        return {name: getattr(self, name).state_dict() for name in ("scheduler", "scaler", "prototypes")}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        super().restore(state, path)
        self.scaler.load_state_dict(state["scaler"])
        if not self.fidelity.resume_starts_anew:
            self.scheduler.load_state_dict(state["scheduler"])
            device, prototypes = self.backbone.device, state["prototypes"].items()
            prototypes = {key: value if value is None else value.to(device) for key, value in prototypes}
            self.prototypes.load_state_dict(prototypes)
