"""Going on with a training that was stopped: from where, and what it must agree in with the run before."""

import argparse
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models.checkpoints import read_checkpoint
from utils.arguments import as_given
from utils.distributed import from_main, is_main, world_size
from utils.errors import UserError
from utils.lock import locked
from utils.runtime import start_log


def add_resume_option(group: argparse._ArgumentGroup) -> None:
    """Add the option to go on."""
    group.add_argument("--resume", action="store_true", help="go on with the training in --save_path, if there is one")


@contextmanager
def start_training(
    args: argparse.Namespace, state_file: Path, method: str, free: Collection[str]
) -> Iterator[dict[str, Any] | None]:
    """Start the log, and read where an earlier run of this training stopped.

    Other runs are kept out of `--save_path` while the block lasts.

    Args:
        args: the resolved options.
        state_file: what training writes after each epoch, `plain_arguments` under "arguments" in it.
        method: what is trained, under "method" in it.
        free: options that may differ from the earlier run's, since what is trained does not depend on them.

    Yields:
        The state file's content; None to start from the beginning.

    Raises:
        UserError: another run is writing there, or there is an earlier run that was not to be gone on with, that
            was of another method, or that had other options.
    """
    with locked(args.save_path):
        if is_main() and not args.resume and state_file.exists():
            raise UserError(
                f"{args.save_path} holds a training already: go on with it by --resume, choose another --save_path, or "
                "delete it"
            )
        start_log(args.save_path / "train.log", append=args.resume)
        yield from_main(lambda: _earlier_state(args, state_file, method, free) if state_file.exists() else None)


def _earlier_state(args: argparse.Namespace, state_file: Path, method: str, free: Collection[str]) -> dict[str, Any]:
    state = read_checkpoint(state_file)
    before = state.get("arguments")
    if not isinstance(before, Mapping):
        raise UserError(f"{state_file} is no state to resume from: it has no 'arguments'")
    if state.get("method") != method:
        raise UserError(
            f"{state_file} is of a training of {state.get('method')}, not of {method}: choose another --save_path"
        )
    for key, value in plain_arguments(args).items():
        if key not in free and before.get(key) != value:
            together = " for all processes together" if key == "batch_size" and world_size() > 1 else ""
            raise UserError(
                f"--{key} is {as_given(value)}{together}, but was {as_given(before.get(key))} in the training of "
                f"{state_file}: give the same, or start anew in another --save_path"
            )
    return state


@contextmanager
def restoring(state_file: Path) -> Iterator[None]:
    """Say in one sentence that a state file's content, which the block restores, is not what a training leaves.

    Raises:
        UserError: the block stumbled over it.
    """
    try:
        yield
    except torch.OutOfMemoryError:  # a RuntimeError, but not the file's fault
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(f"{state_file} is no state to resume from ({reason}): start anew without it") from error


def plain_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The options as data that a checkpoint may hold; the size of a batch is that of all processes together."""
    plain = {key: _plain(value) for key, value in vars(args).items()}
    return plain | {"batch_size": args.batch_size * world_size()}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
