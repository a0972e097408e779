"""Train SDP+'s linear adapters: epochs over patch tokens, with checkpoints and a validation after some of them."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.image_set import ImageSet
from engine.data_sets import evaluation_loader
from engine.detectors import METHODS, Method
from engine.loading import backbone_from_options, find_device
from engine.options import resolve
from engine.tokens import TokenBatch, token_source
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
from engine.training_data import read_training_set, read_validation_set
from engine.training_options import SDPPlusTrainingOptions
from models.adapter_checkpoint import KEYS, SDP_PLUS, checkpoint_of
from models.backbone import Backbone
from models.checkpoints import load_into, save_checkpoint
from models.fidelity import Fidelity
from models.sdp_plus import LinearAdapters, adapter_upsampling, adapters_for, training_loss
from utils.arguments import plain_record
from utils.distributed import is_main, sum_gradients
from utils.errors import UserError
from utils.evaluation import evaluate
from utils.results import mean_measures, results_table, write_results
from utils.runtime import seed_everything
from utils.stopwatch import Stopwatch

logger = logging.getLogger(__name__)

# Options that may change when a training is resumed: no parameter of the adapters depends on them.
FREE = {
    *("resume", "epochs", "print_freq", "save_freq", "save_path", "num_workers", "device", "smoothing"),
    *("train_dataset_dir", "test_dataset", "test_dataset_dir", "test_classes", "cache_dir", "cache_memory"),
}


def train(options: SDPPlusTrainingOptions) -> None:
    """Train, and leave checkpoints and curves in `--save_path`."""
    options = resolve(options)
    with start_training(options, SDP_PLUS, FREE) as state:
        _train(options, state)


def _train(options: SDPPlusTrainingOptions, state: dict[str, Any] | None) -> None:
    method, fidelity = METHODS["sdp_plus"].load(), Fidelity.named(options.fidelity)
    images = read_training_set(options, options.seed)
    validation_images = read_validation_set(options, images)
    backbone = backbone_from_options(options, fidelity, find_device(options.device))
    texts = [_class_texts(options, method, backbone, part) for part in images.parts]
    text = torch.stack([texts[part][name] for part, name in images.classes])  # [n, D, 2]
    seed_everything(options.seed)  # before images are encoded: it also keeps convolutions in float32
    tokens = token_source(options, backbone, fidelity, images)

    adapters = adapters_for(backbone)
    optimizer = torch.optim.Adam(adapters.parameters(), lr=options.learning_rate)

    def restore(state: Mapping[str, Any], state_file: Path) -> None:
        load_into(adapters, state[KEYS[SDP_PLUS]], state_file, "the adapters")
        optimizer.load_state_dict(state["optimizer"])

    log, trained = restored(options, state, restore)
    logger.info("training on %d images for %d epochs", len(text), options.epochs)
    validate = None
    if validation_images is not None:
        validate = _validation(options, method, adapters, backbone, fidelity, validation_images)
    upsampling = adapter_upsampling(backbone)
    count, size = len(text), options.batch_size
    newest = options.save_path / STATE  # which holds the adapters, too, if no epoch is left
    for epoch in range(trained + 1, options.epochs + 1):
        is_last = epoch == options.epochs
        order = epoch_order(count, options.seed, epoch, shuffled=not fidelity.unshuffled_training)
        steps = shared_steps(tokens.batches(order, size), count, size)
        steps = with_progress(steps, step_count(count, size), epoch)
        for loss in train_epoch(adapters, optimizer, steps, text, upsampling):
            log.add_step(epoch, loss=loss)
        if is_last or epoch % options.print_freq == 0:
            logger.info("epoch %d of %d: loss %.4f", epoch, options.epochs, log.epoch_mean(epoch))

        origin = {name: plain_record(options)[name] for name in ("train_dataset", "train_classes")}
        checkpoint = checkpoint_of(SDP_PLUS, adapters, backbone, options.fidelity, epoch, **origin)
        if is_last or epoch % options.save_freq == 0:
            newest = options.save_path / f"epoch_{epoch}.pth"
            save_checkpoint(newest, checkpoint)
            if validate is not None:
                log.add_validation(epoch, validate(epoch))
            log.write()
        resuming = {"optimizer": optimizer.state_dict(), **state_of(options, log)}
        save_checkpoint(options.save_path / STATE, checkpoint | resuming)
    logger.info("the curves of loss and validation are in %s", options.save_path)
    logger.info("test with --checkpoint %s", newest)


def _class_texts(
    options: SDPPlusTrainingOptions, method: Method, backbone: Backbone, images: ImageSet
) -> dict[str, Tensor]:
    """Text features [D, 2] of the classes of one data set, by its own defaults where the options are silent."""
    return method.text_features(resolve(options, images.spec), backbone, images.phrases(called=options.obj_name))


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


def _validation(
    options: SDPPlusTrainingOptions,
    method: Method,
    adapters: LinearAdapters,
    backbone: Backbone,
    fidelity: Fidelity,
    images: ImageSet,
) -> Callable[[int], dict[str, float | None]]:
    """What evaluates the adapters, as they are by then, after an epoch.

    It writes all measures to validation/epoch_N, and returns their means; of several processes, the main one does.
    """
    own = resolve(options, images.spec, **method.defaults(images.spec))
    text = _class_texts(options, method, backbone, images)
    detector = method.detector(own, backbone, fidelity, adapters, text)
    loader = evaluation_loader(images, backbone, options, options.seed)

    def validate(epoch: int) -> dict[str, float | None]:
        with logging_redirect_tqdm():
            results = list(evaluate(detector, loader, images.entries, device=backbone.device, stopwatch=Stopwatch()))
        if not is_main():
            return {}
        title = f"{method.name} on {images.spec.name} after epoch {epoch}"
        logger.info("%s\n%s", title, results_table(results))
        description = {"method": method.name, "dataset": images.spec.name, "epoch": epoch}
        write_results(options.save_path / "validation" / f"epoch_{epoch}", title, results, description)
        return mean_measures(results)

    return validate
