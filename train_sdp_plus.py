"""Train SDP+'s linear adapters on a data set with masks; train_SDP_plus.sh runs it with the paper's settings."""

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from data.options import EvaluationSet, fill_in_from_data_set, loader_from_options
from data.resuming import add_resume_option, plain_arguments, restoring, start_training
from data.testing import add_seed_option
from data.tokens import TokenBatch, add_token_options, token_source_from_options
from data.training import (
    add_training_data_options,
    add_validation_options,
    epoch_order,
    shared_steps,
    step_count,
    training_set_from_options,
    validation_set_from_options,
)
from models.backbone import Backbone
from models.checkpoints import load_into, save_checkpoint
from models.fidelity import Fidelity
from models.options import (
    add_map_options,
    add_model_options,
    add_prompt_options,
    backbone_from_options,
    find_device,
    resolve_model_options,
    text_features_from_options,
)
from models.prompts import read_prompts
from models.sdp_plus import LinearAdapters, SDPPlus, adapter_upsampling, adapters_for, training_loss
from models.sdp_plus_checkpoint import KEY, METHOD, checkpoint_of
from utils.arguments import positive_float, positive_int
from utils.distributed import is_main, sum_gradients
from utils.epochs import TrainingLog
from utils.errors import UserError, run
from utils.evaluation import evaluate
from utils.results import mean_measures, results_table, write_results
from utils.runtime import random_states, restore_random_states, seed_everything
from utils.stopwatch import Stopwatch

logger = logging.getLogger(__name__)

# Options that may change when a training is resumed: no parameter of the adapters depends on them.
FREE = {
    *("resume", "epochs", "print_freq", "save_freq", "save_path", "num_workers", "device", "smoothing"),
    *("train_dataset_dir", "test_dataset", "test_dataset_dir", "test_classes", "cache_dir", "cache_memory"),
}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the linear adapters of SDP+ (CLIP-AD).")
    add_training_data_options(parser, batch_size=8)
    add_validation_options(parser)
    add_model_options(parser)
    add_prompt_options(parser)
    add_map_options(parser)
    add_token_options(parser)
    group = parser.add_argument_group("training")
    group.add_argument("--save_path", type=Path, required=True, help="folder for checkpoints, curves and the log")
    group.add_argument("--epochs", type=positive_int, default=5, help="passes over the images (default: %(default)s)")
    group.add_argument("--learning_rate", type=positive_float, default=1e-4, help="of Adam (default: %(default)s)")
    group.add_argument(
        "--print_freq",
        type=positive_int,
        default=1,
        help="epochs between two lines of the loss in the log (default: %(default)s)",
    )
    group.add_argument(
        "--save_freq",
        type=positive_int,
        default=1,
        help="epochs between two checkpoints and validations (default: %(default)s)",
    )
    add_resume_option(group)
    add_seed_option(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and leave checkpoints and curves."""
    args = parse_arguments(arguments)
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
    fidelity = Fidelity.named(args.fidelity)
    images = training_set_from_options(args)
    validation_images = validation_set_from_options(args, images)
    backbone = backbone_from_options(args, find_device(args.device))
    texts = [class_texts(args, backbone, part) for part in images.parts]
    text = torch.stack([texts[part][name] for part, name in images.classes])  # [n, D, 2]
    seed_everything(args.seed)  # before images are encoded: it also keeps convolutions in float32
    tokens = token_source_from_options(args, backbone, fidelity, images)

    adapters = adapters_for(backbone)
    optimizer = torch.optim.Adam(adapters.parameters(), lr=args.learning_rate)
    log = TrainingLog(args.save_path)
    trained = 0
    if state is not None:
        with restoring(state_file):
            load_into(adapters, state[KEY], state_file, "the adapters")
            optimizer.load_state_dict(state["optimizer"])
            restore_random_states(state["random_states"])
            log = TrainingLog(args.save_path, state["log"])
            trained = int(state["epoch"])
        logger.info("going on after epoch %d", trained)
    logger.info("training on %d images for %d epochs", len(text), args.epochs)

    validate = None
    if validation_images is not None:
        validate = validation_from_options(args, adapters, backbone, fidelity, validation_images)
    upsampling = adapter_upsampling(backbone)
    newest = state_file  # which holds the adapters, too, if no epoch is left
    for epoch in range(trained + 1, args.epochs + 1):
        is_last = epoch == args.epochs
        order = epoch_order(len(text), args.seed, epoch, shuffled=not fidelity.unshuffled_training)
        batches = tokens.batches(order, args.batch_size)
        steps = tqdm(
            shared_steps(batches, len(text), args.batch_size),
            total=step_count(len(text), args.batch_size),
            unit="step",
            desc=f"epoch {epoch}",
            dynamic_ncols=True,
            disable=not is_main(),
        )
        for loss in train_epoch(adapters, optimizer, steps, text, upsampling):
            log.add_step(epoch, loss=loss)
        if is_last or epoch % args.print_freq == 0:
            logger.info("epoch %d of %d: loss %.4f", epoch, args.epochs, log.epoch_mean(epoch))

        origin = {"epoch": epoch, "train_dataset": args.train_dataset, "train_classes": args.train_classes}
        checkpoint = checkpoint_of(adapters, backbone, args.fidelity, **origin)
        if is_last or epoch % args.save_freq == 0:
            newest = args.save_path / f"epoch_{epoch}.pth"
            save_checkpoint(newest, checkpoint)
            if validate is not None:
                log.add_validation(epoch, validate(epoch))
            log.write()
        resuming = {
            "optimizer": optimizer.state_dict(),
            "random_states": random_states(),
            "arguments": plain_arguments(args),
            "log": log.state(),
        }
        save_checkpoint(state_file, checkpoint | resuming)
    logger.info("the curves of loss and validation are in %s", args.save_path)
    logger.info("test with --checkpoint %s", newest)


def class_texts(args: argparse.Namespace, backbone: Backbone, images: EvaluationSet) -> dict[str, Tensor]:
    """Text features [D, 2] of the classes of one data set, by its own defaults where the options are silent."""
    own = argparse.Namespace(**vars(args))
    fill_in_from_data_set(own, images.spec)
    return text_features_from_options(own, backbone, read_prompts(own.prompts), images.phrases)


def train_epoch(
    adapters: LinearAdapters,
    optimizer: torch.optim.Optimizer,
    steps: Iterable[tuple[TokenBatch | None, float]],
    text: Tensor,
    upsampling: Tensor,
) -> Iterator[float]:
    """Take the steps of an epoch.

    Args:
        adapters: what is trained.
        optimizer: of their parameters.
        steps: tokens and masks, and their share of the step's images, see `shared_steps`.
        text: text features of every image's class [n, D, 2].
        upsampling: see `training_loss`.

    Yields:
        The loss of each step.

    Raises:
        UserError: a loss is not finite.
    """
    for batch, share in steps:
        optimizer.zero_grad()
        loss = torch.zeros((), device=text.device)
        if batch is not None:
            loss = training_loss(adapters(batch.tokens, text[batch.indices]), batch.masks, upsampling)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} on the images numbered {batch.indices}: choose a smaller --learning_rate, "
                "and with --precision fp16 or bf16 try fp32"
            )
        if batch is not None:
            (share * loss).backward()
        value = share * loss.detach()
        sum_gradients(adapters.parameters(), value)
        optimizer.step()
        yield value.item()


def validation_from_options(
    args: argparse.Namespace, adapters: LinearAdapters, backbone: Backbone, fidelity: Fidelity, images: EvaluationSet
) -> Callable[[int], dict[str, float | None]]:
    """What evaluates the adapters, as they are by then, after an epoch.

    It writes all measures to validation/epoch_N, and returns their means; of several processes, the main one does.
    """
    own = argparse.Namespace(**vars(args))
    if own.smoothing is None:
        own.smoothing = images.spec.smoothing_sdp_plus
    fill_in_from_data_set(own, images.spec)
    detector = SDPPlus(adapters, backbone, class_texts(args, backbone, images), fidelity, own.smoothing)
    loader = loader_from_options(own, images, backbone.image_size, pin_memory=backbone.device.type == "cuda")

    def validate(epoch: int) -> dict[str, float | None]:
        with logging_redirect_tqdm():
            results = list(evaluate(detector, loader, images.entries, device=backbone.device, stopwatch=Stopwatch()))
        if not is_main():
            return {}
        title = f"SDP+ on {images.spec.name} after epoch {epoch}"
        logger.info("%s\n%s", title, results_table(results))
        description = {"method": "SDP+", "dataset": images.spec.name, "epoch": epoch}
        write_results(args.save_path / "validation" / f"epoch_{epoch}", title, results, description)
        return mean_measures(results)

    return validate


if __name__ == "__main__":
    run(main, parallel=True)
