"""The examination before a long run: device, memory, disk, prompts, weights and data set, each with its problems."""

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
from tabulate import tabulate

from data.checks import EMPTY, check_data_set, counts_table
from data.masks import vanishing
from datasets.image_set import ImageSet
from datasets.intensity import find_range
from datasets.meta import Meta, read_phrases
from datasets.registry import PROJECT, get_spec
from engine.loading import backbone_from_options, find_device, with_precision
from engine.needs import Dimensions, dimensions_of
from engine.options import ExaminationOptions, resolve
from models.fidelity import Fidelity
from models.presets import PRETRAINED_MODELS
from models.prompts import read_prompts
from models.weights import how_to_get, local_weights
from utils.errors import ERROR, WARNING, Problem, UserError, unreadable
from utils.files import sha256_of
from utils.names import shown
from utils.runtime import progress

GIB = 1 << 30
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
ARCHIVES = PROJECT / "datasets" / "archives.json"
SUMS = "SHA256SUMS"
SUMS_FOLDERS = (PRETRAINED_MODELS, PRETRAINED_MODELS / "demo")
DOWNLOAD = f"download it again, see {PRETRAINED_MODELS / 'README.md'}"
PER = 100  # images that needs are told for where no data set is named


def examine(options: ExaminationOptions) -> list[Problem]:
    """Check one thing after another, and print what there is to say in any case; nothing is downloaded or written."""
    problems: list[Problem] = []
    if options.archive is not None:
        with _noting(problems, "name the file that was downloaded", options.archive):
            problems += check_archive(options.archive)
        return problems
    device = torch.device("cpu")
    with _noting(problems, "name one that is there, or leave --device out"):
        device = find_device(options.device)
    if options.device == "auto" and device.type == "cpu" and Path("/proc/driver/nvidia/version").exists():
        remedy = "install PyTorch for the GPU's driver, see https://pytorch.org/get-started"
        problems.append(Problem(WARNING, "there is an NVIDIA GPU that PyTorch cannot use", remedy))
    memory = room = host_memory()
    if device.type == "cuda":
        room = Room(f"memory of {device}", *torch.cuda.mem_get_info(device))
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, open_clip {open_clip.__version__}"
    _say("\n".join(map(str, dict.fromkeys((versions, f"device: {device}", memory, room)))))
    for folder in SUMS_FOLDERS:
        problems += check_sums(folder)

    spec = None
    if options.dataset is not None:
        spec = get_spec(options.dataset, options.protocol).with_threshold(options.mask_threshold)
    prompts = options.prompts or (spec and spec.domain)
    if prompts is not None:
        with _noting(problems, "correct the file, or choose other --prompts"):
            read_prompts(prompts)
    meta = EMPTY
    if spec is not None:
        root = options.data_path or spec.folder
        meta, found = check_data_set(spec, root, options.meta, options.classes, options.patterns())
        problems += found
        if options.phrases is not None and meta["test"]:
            with _noting(problems, "correct the file"):
                read_phrases(options.phrases, meta["test"])
        paths = [root / entry.img_path for entries in meta["test"].values() for entry in entries]
        with _noting(problems, "see --help for --intensity"):
            _, said = find_range(options.intensity, paths, options.max_pixels)
            parts = (sentence.rpartition(": ") for sentence in said)
            problems += [Problem(WARNING, f"in {root}, {what}", remedy) for what, _, remedy in parts]
        if meta["test"]:
            _say(counts_table(meta, spec.published))

    of = path = None
    with _noting(problems, "see --help for what --model, --pretrained and the others take"):
        options = resolve(options)
        model, pretrained = options.model, options.pretrained
        of = dimensions_of(model, pretrained, options.image_size, options.features_list)
        path = local_weights(model, pretrained)
        if path is None:
            what = f"the weights '{pretrained}' of {model} are not on this machine"
            remedy = f"without a network {how_to_get(model, pretrained)}"
            problems.append(Problem(WARNING, f"{what} and will be downloaded when first needed", remedy))
    if of is not None:
        problems += _check_needs(options, of, meta, memory, room)
        entries = [entry for group in meta["test"].values() for entry in group]
        remedy = "take --tile or a larger --image_size, or draw the masks thicker"
        whole = entries if options.tile is None else []  # with tiles masks are measured at their own size
        gone = vanishing(ImageSet(spec, options.data_path or spec.folder, whole), of.image_size) if whole else []
        problems += [Problem(WARNING, sentence, remedy) for sentence in gone]
    if path is None:
        return problems
    _say(f"weights: {path}")
    if of.weights > memory.free:
        _say("they were not loaded to see whether they fit: there is too little memory")
        return problems
    try:
        with _noting(problems, DOWNLOAD, path):  # loaded for good, as nothing less shows that they are whole and fit
            options = with_precision(options, device)
            backbone = backbone_from_options(options, Fidelity.named(options.fidelity), device)
            _say(f"the weights fit, SHA-256 {backbone.weights.sha256}")
    except (MemoryError, RuntimeError) as error:  # CUDA's, which are many
        what = f"the model cannot be loaded on {device} ({str(error).partition(chr(10))[0]})"
        problems.append(Problem(ERROR, what, "free memory, or try --device cpu"))
    return problems


def _say(text: str) -> None:
    print(shown(f"{text}\n", keep="\n"), flush=True)


@contextlib.contextmanager
def _noting(problems: list[Problem], remedy: str, reads: str | Path = "a file") -> Iterator[None]:
    """Note it as an error where a block refuses what the user gave, or cannot read the file that it `reads`."""
    try:
        yield
    except UserError as error:
        problems.append(Problem(ERROR, str(error), remedy))
    except OSError as error:
        problems.append(unreadable(error, reads))


class Room(NamedTuple):
    """Bytes that are free now, and bytes in all, of what is called `name`."""

    name: str
    free: int
    total: int

    def __str__(self) -> str:
        return f"{self.name}: {self.free / GIB:.1f} of {self.total / GIB:.1f} GiB free"


def host_memory() -> Room:
    """Find the machine's memory, or the container's if that has less.

    Free is what the system could give without swapping. Where it does not tell, as macOS does not, that is all of it.
    """
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [path.read_text().strip() for path in map(Path, CONTAINER_LIMITS) if path.is_file()]
    total = min([total, *(int(limit) for limit in limits if limit != "max")])
    free = total
    with contextlib.suppress(FileNotFoundError):
        values = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = min(total, int(values["MemAvailable"].split()[0]) << 10)
    return Room("memory", free, total)


def disk(folder: Path) -> Room:
    """Find the disk that a folder is on, or would be; the nearest folder that may be looked at decides."""
    for path in (folder.absolute(), *folder.absolute().parents):
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(path)
            break
    return Room(f"disk of {folder}", usage.free, usage.total)


def check_room(what: str, needed: int, room: Room, remedy: str, *, optional: bool = False) -> list[Problem]:
    """Give an error if `needed` bytes never fit, a warning if not now, or if what takes them is optional."""
    if needed <= room.free:
        return []
    level = ERROR if needed > room.total and not optional else WARNING
    return [Problem(level, f"{what} takes about {needed / GIB:.1f} GiB ({room})", remedy)]


def _check_needs(options: ExaminationOptions, of: Dimensions, meta: Meta, memory: Room, room: Room) -> list[Problem]:
    """Print a table of what a run needs, and check whether there is as much."""
    size, workers, cache = options.batch_size, options.num_workers, disk(options.cache_dir)
    classes = [(name, len(entries)) for name, entries in meta["test"].items()]
    # The maps of the next class are made while those of one are measured.
    pairs = [[one for one in pair if one] for pair in zip_longest(classes, classes[1:])]
    held, names = max(((sum(n for _, n in pair), [name for name, _ in pair]) for pair in pairs), default=(PER, []))
    of_class = f"the {held} images of {' and '.join(names)}" if names else f"each {PER} images of a class"
    known = [entry for group in meta["test"].values() for entry in group if entry.anomaly == 0 or entry.mask_path]
    to_train = len(known) if any(entry.mask_path for entry in known) else 0  # what SDP+ could be trained on
    of_training = f"these {to_train} images" if to_train else f"each {PER} images"
    batch, ahead = of.weights + of.activations(size), of.read_ahead(size, workers)
    maps, tokens = of.maps(held), of.tokens(to_train or PER)
    rows = [
        (f"weights, and a batch of {size}", batch, room.name),
        (f"batches read ahead, --num_workers {workers}", ahead, "memory"),
        (f"maps and masks of {of_class}", maps, "memory"),
        (f"to predict with --normal_memory: {PER} normal images", of.memory(PER), room.name),
        (f"to train SDP+: patch tokens of {of_training}", tokens, cache.name),
    ]
    table = [(what, needed / GIB, where) for what, needed, where in rows]
    _say(f"{tabulate(table, headers=['needed for', 'GiB', 'of'], floatfmt='.2f')}\n{cache}")
    running = ahead + (maps if names else 0) + (batch if room == memory else 0)
    remedy = "take a smaller --batch_size or --image_size, or close other programs"
    problems = check_room("the run", max(of.weights, running), memory, remedy)
    if room != memory:
        problems += check_room("the model", batch, room, "take a smaller --batch_size, or --device cpu")
    if to_train:
        remedy = "name another disk with --cache_dir, or train with --no_cache"
        problems += check_room("the cache of patch tokens", tokens, cache, remedy, optional=True)
    return problems


def check_archive(path: Path) -> list[Problem]:
    """Say which data set's archive a file is; a problem if it is none that is known, or one but for its content."""
    if not path.is_file():
        raise UserError(f"--archive {path}: there is no such file")
    archives = {digest: tuple(about) for digest, about in json.loads(ARCHIVES.read_text(encoding="utf-8")).items()}
    with progress(total=path.stat().st_size, unit="B", unit_scale=True, desc="reading") as bar:
        digest = sha256_of(path, bar.update)
    if digest in archives:
        _say(f"{path} is the archive of {archives[digest][0]}, as it should be (SHA-256 {digest})")
        return []
    for name, file in archives.values():
        if path.name.lower() == file.lower():
            what = f"{path} is called as the archive of {name}, but its SHA-256 is {digest}"
            return [Problem(ERROR, what, "it is a broken download or another version: download it again")]
    names = ", ".join(name for name, _ in archives.values())
    what = f"{path} (SHA-256 {digest}) is none of the archives that are known: {names}"
    return [Problem(ERROR, what, "if it should be one of these, it is a broken download or another version")]


def check_sums(folder: Path) -> list[Problem]:
    """Give an error for each file in `folder` whose SHA-256 is not the one in its `SHA256SUMS`.

    Files that are listed and not there are passed over: nobody needs all of them.
    """
    sums = folder / SUMS
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"cannot read {sums} ({reason}), so the files beside it were not checked"
        return [Problem(WARNING, what, "get the project's files again")]
    problems: list[Problem] = []
    for line in lines:
        digest, _, name = line.partition("  ")
        file = folder / name
        with _noting(problems, DOWNLOAD, file):
            if name and file.is_file() and sha256_of(file) != digest:
                raise UserError(f"{file} is damaged or another version: its SHA-256 is not that in {SUMS}")
    return problems
