"""Train DP-CLIP's image adapter on one data set or several; train_DP_CLIP.sh runs it with the paper's settings."""

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from data.resuming import add_resume_option, plain_arguments, restoring, start_training
from data.testing import add_seed_option
from data.training import (
    TrainingSet,
    add_training_data_options,
    epoch_order,
    shared_steps,
    step_count,
    training_set_from_options,
)
from datasets.loader import Batch, ErrorRaisingLoader, empty_batch, loader_in_order
from models.backbone import Backbone
from models.checkpoints import load_into, save_checkpoint
from models.dp_clip import image_adapter_for
from models.dp_clip_checkpoint import KEY, METHOD, OPTIMIZER, checkpoint_of
from models.dp_clip_options import adapter_settings, add_adapter_options, add_optimisation_options, training_settings
from models.dp_clip_training import DPClipTraining
from models.fidelity import Fidelity
from models.options import (
    add_dp_clip_prompt_options,
    add_model_options,
    backbone_from_options,
    dp_clip_text_features_from_options,
    find_device,
    resolve_model_options,
)
from models.text import discard_text_tower
from utils.arguments import positive_int
from utils.distributed import is_main
from utils.epochs import TrainingLog
from utils.errors import UserError, run
from utils.runtime import random_states, restore_random_states, seed_everything

logger = logging.getLogger(__name__)

# Options that may change when a training is resumed: no parameter of the adapter depends on them.
FREE = {
    *("resume", "epochs", "save_freq", "save_path", "num_workers", "device", "train_dataset_dir", "cache_dir"),
    "activation_checkpointing",
}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the image adapter of DP-CLIP.")
    add_training_data_options(parser, batch_size=3)
    add_model_options(parser, fidelity="released")
    add_dp_clip_prompt_options(parser)
    add_adapter_options(parser)
    add_optimisation_options(parser)
    group = parser.add_argument_group("training")
    group.add_argument("--save_path", type=Path, required=True, help="folder for checkpoints, curves and the log")
    group.add_argument("--epochs", type=positive_int, default=20, help="passes over the images (default: %(default)s)")
    group.add_argument("--no_augmentation", action="store_true", help="train on the images as they are tested")
    group.add_argument(
        "--save_freq",
        type=positive_int,
        default=1,
        help="epochs between two checkpoints image_adapter_EPOCH.pth (default: %(default)s)",
    )
    add_resume_option(group)
    add_seed_option(parser, default=111)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and leave checkpoints and curves."""
    args = parse_arguments(arguments)
    args.fidelity = args.fidelity or "released"
    resolve_model_options(args)
    state_file = args.save_path / "last.pth"
    with start_training(args, state_file, METHOD, FREE) as state:
        train(args, state_file, state)


def train(args: argparse.Namespace, state_file: Path, state: dict[str, Any] | None) -> None:
    """Train to the last epoch.

    Args:
        args: the resolved options.
        state_file: where to keep what `--resume` needs.
        state: what it held after an earlier run; None to start from the beginning.
    """
    fidelity = Fidelity.named(args.fidelity, "dp_clip")
    images = training_set_from_options(args)
    backbone = backbone_from_options(args, find_device(args.device), "dp_clip")
    settings = adapter_settings(args, backbone, fidelity)
    texts = [dp_clip_text_features_from_options(args, backbone, part.described_phrases) for part in images.parts]
    text = torch.stack([texts[part][name] for part, name in images.classes])  # [n, D, 2]
    discard_text_tower(backbone)

    seed_everything(args.seed)
    adapter = image_adapter_for(backbone, settings)
    training = DPClipTraining(backbone, adapter, fidelity, training_settings(args))
    log = TrainingLog(args.save_path)
    trained = 0
    if state is not None:
        with restoring(state_file):
            load_into(adapter, state[KEY], state_file, "the image adapter")
            training.resume(state[OPTIMIZER], state)
            restore_random_states(state["random_states"])
            log = TrainingLog(args.save_path, state["log"])
            trained = int(state["epoch"])
        logger.info("going on after epoch %d", trained)
    logger.info(
        "training %d parameters on %d images for %d epochs, in %s fidelity",
        sum(parameter.numel() for parameter in adapter.parameters()),
        len(text),
        args.epochs,
        args.fidelity,
    )

    for epoch in range(trained + 1, args.epochs + 1):
        loader = _epoch_loader(args, images, backbone, epoch)
        batches = shared_steps(loader, len(text), args.batch_size)
        count = step_count(len(text), args.batch_size)
        steps = tqdm(
            train_epoch(training, batches, count, images, text, args.accumulate, len(log.steps)),
            total=-(-count // args.accumulate),
            unit="step",
            desc=f"epoch {epoch}",
            dynamic_ncols=True,
            disable=not is_main(),
        )
        for losses in steps:
            log.add_step(epoch, **losses)
            steps.set_postfix_str(f"loss {losses['loss']:.3f}")
        means = ", ".join(f"{name} {log.epoch_mean(epoch, name):.4f}" for name in losses)
        rate = training.scheduler.get_last_lr()[0]
        logger.info("epoch %d of %d: %s; learning rate %g", epoch, args.epochs, means, rate)

        origin = {"train_dataset": args.train_dataset, "train_classes": args.train_classes, "shot": args.shot}
        checkpoint = checkpoint_of(adapter, training.optimizer.state_dict(), backbone, args.fidelity, epoch, **origin)
        if epoch == args.epochs or epoch % args.save_freq == 0:
            save_checkpoint(args.save_path / f"image_adapter_{epoch}.pth", checkpoint)
        save_checkpoint(args.save_path / "image_adapter.pth", checkpoint)
        resuming = {
            **training.state_dict(),
            "random_states": random_states(),
            "arguments": plain_arguments(args),
            "log": log.state(),
        }
        log.write()  # before the state: a run that goes on after this epoch does not write it again
        save_checkpoint(state_file, checkpoint | resuming)
    logger.info("the curves of the loss are in %s", args.save_path)
    logger.info("test with --checkpoint %s", args.save_path / "image_adapter.pth")


def _epoch_loader(args: argparse.Namespace, images: TrainingSet, backbone: Backbone, epoch: int) -> ErrorRaisingLoader:
    """The batches of an epoch, shuffled by seed and epoch."""
    return loader_in_order(
        images.augmented(backbone.image_size, args.seed, epoch, augmented=not args.no_augmentation),
        epoch_order(len(images.entries), args.seed, epoch, shuffled=True),
        args.batch_size,
        args.num_workers,
        pin_memory=backbone.device.type == "cuda",
        seed=args.seed,
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
        training: whose steps.
        batches: the epoch's, this process's part of each and what share of it that is, see `shared_steps`.
        count: how many there are.
        images: the training set.
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
            places = (images.place(index) for index in batch.indices)
            files = ", ".join(str(part.root / entry.img_path) for part, entry in places)
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


if __name__ == "__main__":
    run(main, parallel=True)
