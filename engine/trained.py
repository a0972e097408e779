"""What a test is given by --checkpoint: one file, one for each data set, or the epochs or the seeds of one training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.detectors import Method
from engine.options import TestOptions
from models.adapter_checkpoint import FILES, AdapterCheckpoint
from utils.distributed import world_size
from utils.errors import UserError


class Trained(NamedTuple):
    """A checkpoint, and what is tested with it."""

    checkpoint: AdapterCheckpoint | None  # None of a method without
    places: Sequence[int]  # of the data sets, among those that the options name
    epoch: int = 0  # 0 where that does not matter
    seed: int | None = None  # where several of one training are tested


def read_checkpoints(options: TestOptions, method: Method) -> tuple[list[Trained], dict[int, UserError]]:
    """Read the checkpoints: in the order of their epochs, of their seeds, or of the data sets that they are for.

    Of those for a data set each, some may fail, which say why, by their places.
    """
    places = range(len(options.dataset))
    if method.read is None:
        return [Trained(None, places)], {}
    one_for_each = not method.takes_epochs and len(options.checkpoint) == len(places) > 1
    read: dict[Path, AdapterCheckpoint] = {}
    groups: dict[int, list[AdapterCheckpoint]] = {}  # by place, one of several unless it is a folder of several seeds
    failed: dict[int, UserError] = {}
    for place, path in enumerate(options.checkpoint):
        try:
            files = _files(path, method.name)
            read |= {file: method.read(file) for file in files if file not in read}
            groups[place] = [read[file] for file in files]
        except UserError as error:
            failed[place] = error
    if failed and not (one_for_each and groups and world_size() == 1):
        raise next(iter(failed.values()))
    checkpoints = [one for group in groups.values() for one in group]
    _check_options(checkpoints, options)
    seeds = {one.origin.get("seed") for one in checkpoints} - {None}
    if one_for_each:
        if len(seeds) == len(checkpoints) > 1 and not any(differing(checkpoints[0], one) for one in checkpoints):
            raise UserError(
                "--checkpoint names one file for each data set, but they are seeds of one training: to test each data "
                "set with all of them, name the training's folder"
            )
        return [one for place, group in groups.items() for one in _by_seed(group, [place])], failed
    if not (method.takes_epochs or len(checkpoints) == 1 or len(seeds) > 1):
        found = f"--dataset names {len(places)} data sets, --checkpoint {len(options.checkpoint)} files"
        raise UserError(f"{found}: give one for all, one for each, in the same order, or the seeds of one training")
    if len(seeds) > 1:
        return _by_seed(checkpoints, places), {}
    by_epoch = {one.origin.get("epoch", 0): one for one in checkpoints}
    if len(by_epoch) < len(checkpoints):
        raise UserError("--checkpoint names two files of one epoch: test them in separate runs")
    return [Trained(by_epoch[epoch], places, epoch) for epoch in sorted(by_epoch)], {}


def _files(path: Path, method: str) -> list[Path]:
    """Find the last checkpoint of a training's folder, or of each of its seeds; a file is what it is."""
    if not path.is_dir():
        return [path]
    pattern, files = FILES[method].format("*"), []
    for folder in [one for one in path.glob("seed_*") if one.is_dir()] or [path]:
        found = {int(file.stem.rpartition("_")[2]): file for file in folder.glob(pattern) if file.stem[-1].isdigit()}
        if not found:
            raise UserError(f"--checkpoint {folder}: there is no {pattern} in this folder; give that of a training")
        files.append(found[max(found)])
    return files


def _check_options(checkpoints: Sequence[AdapterCheckpoint], options: TestOptions) -> None:
    """Refuse checkpoints that record different values of an option that is left open."""
    for one, first in ((one, checkpoints[0]) for one in checkpoints):
        recorded = first.options.keys() & one.options.keys()  # by both: the authors' files record next to nothing
        names = (name for name in sorted(recorded) if first.options[name] != one.options[name])
        if name := next((name for name in names if getattr(options, name, None) is None), None):
            files = f"--checkpoint {first.path} and {one.path} were trained with different --{name}"
            raise UserError(f"{files}: test them in separate runs, or give the option")


def _by_seed(checkpoints: Sequence[AdapterCheckpoint], places: Sequence[int]) -> list[Trained]:
    """Sort the checkpoints of one training by their seeds; those that differ in anything else are refused."""
    if len(checkpoints) == 1:
        return [Trained(checkpoints[0], places)]
    by_seed: dict[int, AdapterCheckpoint] = {}
    first = checkpoints[0]
    for one in checkpoints:
        seed = one.origin.get("seed")
        if seed is None:
            raise UserError(f"--checkpoint {one.path} does not record its seed: test it in a run of its own")
        if other := by_seed.get(seed):
            raise UserError(f"--checkpoint {other.path} and {one.path} are of one seed, {seed}: leave one of them out")
        if names := differing(first, one):
            files, what = f"--checkpoint {first.path} and {one.path}", ", ".join(names)
            raise UserError(f"{files} differ in more than the seed, in {what}: test them in separate runs")
        by_seed[seed] = one
    return [Trained(by_seed[seed], places, seed=seed) for seed in sorted(by_seed)]


def differing(a: AdapterCheckpoint, b: AdapterCheckpoint) -> list[str]:
    """Name what two checkpoints record otherwise of their trainings, but for the seed and what is drawn by it."""
    one, other = (_settings(checkpoint) for checkpoint in (a, b))
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def _settings(checkpoint: AdapterCheckpoint) -> dict[str, Any]:
    found: dict[str, Any] = {name: value for name, value in checkpoint.origin.items() if name != "seed"}
    for name in ("training", "options", "settings"):
        found |= found.pop(name, {})
    return found if found.get("shot") else found | {"images": checkpoint.images}


def fullest(checkpoints: Sequence[Trained]) -> AdapterCheckpoint | None:
    """Choose the checkpoint that says most of its training, as those that agree may say more or less."""
    return max((one.checkpoint for one in checkpoints), key=lambda one: len(one.options) if one else 0)
