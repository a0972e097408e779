"""The examination before a long run: device, memory, disk, prompts, weights and data set, each with its problems."""

import platform
from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch
from tabulate import tabulate

from data.build import PROJECT
from data.checkup import EMPTY, check_data_set
from data.common import counts_table
from datasets.meta import Entry, Meta
from datasets.registry import get_spec
from engine.loading import backbone_from_options, find_device
from engine.options import ExaminationOptions, resolve
from models import needs
from models.fidelity import Fidelity
from models.prompts import read_prompts
from models.weight_checks import ANEW, SUMS_FOLDERS, check_sums, check_weights, unreadable
from utils.errors import UserError
from utils.machine import GIB, Room, check_room, device_memory, disk, host_memory
from utils.problems import ERROR, WARNING, Problem

PER = 100  # images that needs are told for where no data set is named
NO_DRIVER_USE = "install PyTorch for the GPU's driver, see https://pytorch.org/get-started"

Findings = tuple[str, list[Problem]]  # what to say in any case, and the problems


def examine(args: ExaminationOptions) -> Iterator[Findings]:
    """Check one thing after another.

    Args:
        args: of the command line.
    """
    device, problems = _device(args.device)
    memory = host_memory()
    room = memory if device.type == "cpu" else device_memory(device)
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, open_clip {open_clip.__version__}"
    facts = (versions, f"device: {device}", memory, room)
    yield "\n".join(map(str, dict.fromkeys(facts))), problems
    for folder in SUMS_FOLDERS:
        yield "", check_sums(folder)

    spec = None if args.dataset is None else get_spec(args.dataset)
    yield "", _prompts(args.prompts or (spec and spec.domain))
    meta = EMPTY
    if spec is not None:
        meta, problems = check_data_set(spec, args.data_path or PROJECT / spec.folder, args.meta, args.classes)
        yield counts_table(meta, spec.published) if meta["test"] else "", problems

    try:
        args = resolve(args)
        dimensions = needs.dimensions_of(args.model, args.pretrained, args.image_size, args.features_list)
    except UserError as error:
        yield ("", [Problem(ERROR, str(error), "see --help for what --model, --pretrained and the others take")])
        return
    yield _room(args, dimensions, meta, memory, room)
    path, problems = check_weights(args.model, args.pretrained)
    yield "" if path is None else f"weights: {path}", problems
    if path is None:
        return
    if needs.loading_bytes(dimensions) > memory.free:
        yield "they were not loaded to see whether they fit: there is too little memory", []
    else:
        yield _backbone(args, device, path)


def _device(name: str) -> tuple[torch.device, list[Problem]]:
    """The device called `name`, the CPU if there is none."""
    try:
        device = find_device(name)
    except UserError as error:
        return torch.device("cpu"), [Problem(ERROR, str(error), "name one that is there, or leave --device out")]
    if name == "auto" and device.type == "cpu" and Path("/proc/driver/nvidia/version").exists():
        return device, [Problem(WARNING, "there is an NVIDIA GPU that PyTorch cannot use", NO_DRIVER_USE)]
    return device, []


def _prompts(name: str | None) -> list[Problem]:
    try:
        if name is not None:
            read_prompts(name)
    except UserError as error:
        return [Problem(ERROR, str(error), "correct the file, or choose other --prompts")]
    return []


def _room(args: ExaminationOptions, of: needs.Dimensions, meta: Meta, memory: Room, room: Room) -> Findings:
    """A table of what a run needs, and whether there is as much."""
    name, largest = _largest_class(meta["test"])
    to_train = _trainable(meta["test"])
    cache = disk(args.cache_dir)
    batch = needs.weight_bytes(of) + needs.activation_bytes(of, args.batch_size)
    ahead = needs.read_ahead_bytes(of, args.batch_size, args.num_workers)
    maps = needs.map_bytes(of, largest or PER)
    tokens = needs.token_bytes(of, to_train or PER)
    loading = needs.loading_bytes(of)
    of_class = f"the {largest} images of {name}" if largest else f"each {PER} images of a class"
    of_training = f"these {to_train} images" if to_train else f"each {PER} images"
    rows = [
        ("memory", "weights while they are loaded", loading),
        (room.name, f"weights, and a batch of {args.batch_size}", batch),
        ("memory", f"batches that {args.num_workers} workers read ahead", ahead),
        ("memory", f"maps and masks of {of_class}", maps),
        (cache.name, f"to train SDP+: patch tokens of {of_training}", tokens),
    ]
    table = tabulate(
        [(what, size / GIB, place) for place, what, size in rows], headers=["needed for", "GiB", "of"], floatfmt=".2f"
    )
    running = ahead + (maps if largest else 0) + (batch if room == memory else 0)
    problems = check_room(
        "the run", max(loading, running), memory, "take a smaller --batch_size or --image_size, or close other programs"
    )
    if room != memory:
        problems += check_room("the model", batch, room, "take a smaller --batch_size, or --device cpu")
    if to_train:
        remedy = "name another disk with --cache_dir, or train with --no_cache"
        problems += check_room("the cache of patch tokens", tokens, cache, remedy, optional=True)
    return f"{table}\n{cache}", problems


def _largest_class(classes: dict[str, list[Entry]]) -> tuple[str, int]:
    """The class with the most images, and their number; 0 where there are none."""
    return max(((name, len(entries)) for name, entries in classes.items()), key=lambda c: c[1], default=("", 0))


def _trainable(classes: dict[str, list[Entry]]) -> int:
    """How many images SDP+ could be trained on, see `engine.training_data`."""
    entries = [entry for group in classes.values() for entry in group]
    known = [entry for entry in entries if entry.anomaly == 0 or entry.mask_path]
    return len(known) if any(entry.mask_path for entry in known) else 0


def _backbone(args: ExaminationOptions, device: torch.device, path: Path) -> Findings:
    """Load the weights in `path` for good, as nothing less shows that they are whole and fit."""
    try:
        backbone = backbone_from_options(args, Fidelity.named(args.fidelity), device)
    except UserError as error:
        return "", [Problem(ERROR, str(error), ANEW)]
    except OSError as error:
        return "", [unreadable(path, error)]
    except (MemoryError, RuntimeError) as error:  # CUDA's, which are many
        what = f"the model cannot be loaded on {device} ({str(error).partition(chr(10))[0]})"
        return "", [Problem(ERROR, what, "free memory, or try --device cpu")]
    return f"they fit, SHA-256 {backbone.weights.sha256}", []
