"""What both trainings have in common: the order of the images, the steps, and going on with one that was stopped."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from engine.training_options import TrainingOptions
from models.checkpoints import read_checkpoint
from utils.arguments import as_given, plain_record
from utils.distributed import from_main, is_main, rank, world_size
from utils.epochs import TrainingLog
from utils.errors import UserError
from utils.runtime import locked, random_states, restore_random_states, start_log

logger = logging.getLogger(__name__)

STATE = "last.pth"  # in --save_path: what `--resume` needs


class Indexed(Protocol):
    """A batch that knows which images it holds."""

    indices: list[int]


BatchT = TypeVar("BatchT", bound=Indexed)
T = TypeVar("T")


def epoch_order(count: int, seed: int, epoch: int, *, shuffled: bool) -> Sequence[int]:
    """The order in which an epoch, counted from 1, takes the images; of several processes, this one's."""
    order = np.random.default_rng([seed, epoch]).permutation(count).tolist() if shuffled else range(count)
    return order[rank() :: world_size()]


def step_count(count: int, batch_size: int) -> int:
    """Number of the steps of an epoch of `count` images, of which each process takes `batch_size` a step."""
    return -(-count // (batch_size * world_size()))


def shared_steps(batches: Iterable[BatchT], count: int, batch_size: int) -> Iterator[tuple[BatchT | None, float]]:
    """The steps of an epoch, in which every process takes `batch_size` images, or as many as there are.

    Args:
        batches: of this process's images, which are every n-th of the epoch's from its rank on.
        count: number of images of all processes.
        batch_size: images of a batch.

    Yields:
        This process's part of a step, None where the last step has no image for it, and what share of the step's
        images that is.
    """
    batches = iter(batches)
    together = batch_size * world_size()  # see `step_count`
    for first in range(0, count, together):
        part = next(batches, None)
        yield part, 0.0 if part is None else len(part.indices) / min(together, count - first)


def with_progress(steps: Iterable[T], total: int, epoch: int) -> "tqdm[T]":
    """Show how far an epoch is."""
    return tqdm(steps, total=total, unit="step", desc=f"epoch {epoch}", dynamic_ncols=True, disable=not is_main())


@contextmanager
def start_training(options: TrainingOptions, method: str, free: Collection[str]) -> Iterator[dict[str, Any] | None]:
    """Start the log, and read where an earlier run of this training stopped.

    Other runs are kept out of `--save_path` while the block lasts.

    Args:
        method: what is trained, under "method" in the state file.
        free: options that may differ from the earlier run's, since what is trained does not depend on them.

    Yields:
        The state file's content; None to start from the beginning.

    Raises:
        UserError: another run is writing there, or there is an earlier run that was not to be gone on with, that
            was of another method, or that had other options.
    """
    state_file = options.save_path / STATE
    with locked(options.save_path):
        if is_main() and not options.resume and state_file.exists():
            raise UserError(
                f"{options.save_path} holds a training already: go on with it by --resume, choose another "
                "--save_path, or delete it"
            )
        start_log(options.save_path / "train.log", append=options.resume)
        yield from_main(lambda: _earlier_state(options, state_file, method, free) if state_file.exists() else None)


def _earlier_state(options: TrainingOptions, state_file: Path, method: str, free: Collection[str]) -> dict[str, Any]:
    state = read_checkpoint(state_file)
    before = state.get("arguments")
    if not isinstance(before, Mapping):
        raise UserError(f"{state_file} is no state to resume from: it has no 'arguments'")
    if state.get("method") != method:
        raise UserError(
            f"{state_file} is of a training of {state.get('method')}, not of {method}: choose another --save_path"
        )
    for key, value in _arguments(options).items():
        if key not in free and before.get(key) != value:
            together = " for all processes together" if key == "batch_size" and world_size() > 1 else ""
            raise UserError(
                f"--{key} is {as_given(value)}{together}, but was {as_given(before.get(key))} in the training of "
                f"{state_file}: give the same, or start anew in another --save_path"
            )
    return state


def _arguments(options: TrainingOptions) -> dict[str, Any]:
    """The options as a state file has them; the size of a batch is that of all processes together."""
    return plain_record(options) | {"batch_size": options.batch_size * world_size()}


def state_of(options: TrainingOptions, log: TrainingLog) -> dict[str, Any]:
    """What a state file holds beside the checkpoint and the state of the optimisation."""
    return {"random_states": random_states(), "arguments": _arguments(options), "log": log.state()}


def restored(
    options: TrainingOptions, state: Mapping[str, Any] | None, restore: Callable[[Mapping[str, Any], Path], None]
) -> tuple[TrainingLog, int]:
    """The log of a training, and after how many epochs it goes on; a new one without a state.

    Args:
        state: see `start_training`.
        restore: restores what is trained and its optimisation, from the state and the path of its file.

    Raises:
        UserError: the state is not what a training leaves.
    """
    if state is None:
        return TrainingLog(options.save_path), 0
    state_file = options.save_path / STATE
    try:
        restore(state, state_file)
        restore_random_states(state["random_states"])
        log, trained = TrainingLog(options.save_path, state["log"]), int(state["epoch"])
    except torch.OutOfMemoryError:  # a RuntimeError, but not the file's fault
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(f"{state_file} is no state to resume from ({reason}): start anew without it") from error
    logger.info("going on after epoch %d", trained)
    return log, trained
