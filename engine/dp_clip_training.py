"""Train DP-CLIP's image adapter: epochs over augmented images, with a checkpoint after each."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets.loader import Batch, empty_batch, in_batches, make_loader
from engine.loading import adapter_settings, backbone_from_options, dp_clip_text_features, find_device
from engine.options import resolve
from engine.training import (
    STATE,
    epoch_order,
    restored,
    shared_steps,
    start_training,
    state_of,
    step_count,
    with_progress,
)
from engine.training_data import TrainingSet, read_training_set
from engine.training_options import DPClipTrainingOptions, OptimisationOptions
from models.adapted_tower import encode_adapted
from models.adapter import ImageAdapter
from models.backbone import Backbone
from models.checkpoints import load_into, save_checkpoint
from models.dp_clip import image_adapter_for, training_loss
from models.dp_clip_checkpoint import KEY, METHOD, OPTIMIZER, checkpoint_of
from models.fidelity import Fidelity
from models.patch_logits import adapter_upsampling
from models.prototypes import MomentumPrototypes
from models.text import discard_text_tower
from utils.arguments import plain_record
from utils.distributed import sum_gradients, sum_over_processes
from utils.errors import UserError
from utils.runtime import seed_everything

logger = logging.getLogger(__name__)

BETAS = (0.5, 0.999)
DECAY = 0.5  # of the learning rate, at each milestone

# Options that may change when a training is resumed: no parameter of the adapter depends on them.
FREE = {
    *("resume", "epochs", "save_freq", "save_path", "num_workers", "device", "train_dataset_dir", "cache_dir"),
    "activation_checkpointing",
}


def train(options: DPClipTrainingOptions) -> None:
    """Train, and leave checkpoints and curves in `--save_path`."""
    options = resolve(options, fidelity="released")
    with start_training(options, METHOD, FREE) as state:
        _train(options, state)


def _train(options: DPClipTrainingOptions, state: dict[str, Any] | None) -> None:
    fidelity = Fidelity.named(options.fidelity, "dp_clip")
    images = read_training_set(options, options.seed)
    backbone = backbone_from_options(options, fidelity, find_device(options.device))
    settings = adapter_settings(options, backbone, fidelity)  # a mistake in them is told before sentences are encoded
    texts = [
        dp_clip_text_features(options, backbone, part.phrases(described=True, called=options.obj_name))
        for part in images.parts
    ]
    text = torch.stack([texts[part][name] for part, name in images.classes])  # [n, D, 2]
    discard_text_tower(backbone)

    seed_everything(options.seed)
    adapter = image_adapter_for(backbone, settings)
    training = DPClipTraining(backbone, adapter, fidelity, options)

    def restore(state: Mapping[str, Any], state_file: Path) -> None:
        load_into(adapter, state[KEY], state_file, "the image adapter")
        training.resume(state[OPTIMIZER], state)

    log, trained = restored(options, state, restore)
    logger.info(
        "training %d parameters on %d images for %d epochs, in %s fidelity",
        sum(parameter.numel() for parameter in adapter.parameters()),
        len(text),
        options.epochs,
        options.fidelity,
    )

    count = step_count(len(text), options.batch_size)
    for epoch in range(trained + 1, options.epochs + 1):
        order = epoch_order(len(text), options.seed, epoch, shuffled=True)
        loader = make_loader(
            images.augmented(backbone.image_size, options.seed, epoch, augmented=not options.no_augmentation),
            in_batches(order, options.batch_size),
            options.num_workers,
            pin_memory=backbone.device.type == "cuda",
            seed=options.seed,
        )
        batches = shared_steps(loader, len(text), options.batch_size)
        losses_of_steps = train_epoch(training, batches, count, images, text, options.accumulate, len(log.steps))
        steps = with_progress(losses_of_steps, -(-count // options.accumulate), epoch)
        for losses in steps:
            log.add_step(epoch, **losses)
            steps.set_postfix_str(f"loss {losses['loss']:.3f}")
        means = ", ".join(f"{name} {log.epoch_mean(epoch, name):.4f}" for name in losses)
        rate = training.scheduler.get_last_lr()[0]
        logger.info("epoch %d of %d: %s; learning rate %g", epoch, options.epochs, means, rate)

        origin = {name: plain_record(options)[name] for name in ("train_dataset", "train_classes", "shot")}
        optimizer_state = training.optimizer.state_dict()
        checkpoint = checkpoint_of(adapter, optimizer_state, backbone, options.fidelity, epoch, **origin)
        if epoch == options.epochs or epoch % options.save_freq == 0:
            save_checkpoint(options.save_path / f"image_adapter_{epoch}.pth", checkpoint)
        save_checkpoint(options.save_path / "image_adapter.pth", checkpoint)
        resuming = {**training.state_dict(), **state_of(options, log)}
        log.write()  # before the state: a run that goes on after this epoch does not write it again
        save_checkpoint(options.save_path / STATE, checkpoint | resuming)
    logger.info("the curves of the loss are in %s", options.save_path)
    logger.info("test with --checkpoint %s", options.save_path / "image_adapter.pth")


class DPClipTraining:
    """The state of a training, and the two halves of its steps.

    Args:
        backbone: the frozen CLIP; its precision is that of the tower, with the loss scaled for fp16.
        adapter: what is trained.
    """

    def __init__(
        self, backbone: Backbone, adapter: ImageAdapter, fidelity: Fidelity, options: OptimisationOptions
    ) -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.fidelity = fidelity
        self.options = options
        self.upsampling = adapter_upsampling(backbone)
        self.optimizer = torch.optim.Adam(adapter.parameters(), lr=options.learning_rate, betas=BETAS)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, options.milestones, DECAY)
        self.scaler = torch.amp.GradScaler(backbone.device.type, enabled=backbone.precision == "fp16")
        self.prototypes = MomentumPrototypes(options.momentum_alpha, repeat_update=fidelity.repeated_prototype_update)

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
            encode_adapted, self.adapter, images, activation_checkpointing=self.options.activation_checkpointing
        )
        loss = training_loss(features, text, labels, masks, self.upsampling, self.prototypes)
        total = loss.total(self.options.decoupling_weight)
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
        if self.options.clip_gradient is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), self.options.clip_gradient)
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


def train_epoch(
    training: DPClipTraining,
    batches: Iterable[tuple[Batch | None, float]],
    count: int,
    images: TrainingSet,
    text: Tensor,
    accumulate: int,
    steps_before: int,
) -> Iterator[dict[str, float]]:
    """Take the steps of an epoch.

    Args:
        batches: the epoch's, this process's part of each and what share of it that is, see `shared_steps`.
        count: how many there are.
        text: text features of every image's class [n, D, 2].
        accumulate: batches a step; the last step may have fewer.
        steps_before: number of steps taken in earlier epochs.

    Yields:
        The loss of each step and its parts, the mean over its batches.

    Raises:
        UserError: a loss is not finite.
    """
    device = text.device
    parts: list[dict[str, float]] = []
    for number, (own, share_of_batch) in enumerate(batches):
        batch = own or empty_batch(training.backbone.image_size)
        first = number - number % accumulate
        in_step = min(accumulate, count - first)
        losses = training.forward_backward(
            batch.images.to(device, non_blocking=True),
            batch.masks.to(device, non_blocking=True),
            torch.tensor([int(entry.anomaly != 0) for entry in batch.entries], dtype=torch.int64, device=device),
            text[batch.indices],
            share=1 / in_step,
            part=share_of_batch,
        )
        if losses is None:
            files = ", ".join(str(images.file(index)) for index in batch.indices)
            raise UserError(
                f"the loss of step {steps_before + first // accumulate + 1} is not finite, on {files}: choose a "
                "smaller --learning_rate, or --clip_gradient 1, and with --amp or --precision fp16 try fp32; the "
                "checkpoint of the epoch before is kept"
            )
        parts.append(losses)
        if len(parts) == in_step:
            training.step()
            yield {name: sum(part[name] for part in parts) / in_step for name in losses}
            parts = []
