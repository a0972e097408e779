"""The run itself: its seed, its folder and log, its seconds, and what it ran on."""

import contextlib
import fcntl
import logging
import os
import platform
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from utils.distributed import is_main, rank
from utils.errors import UserError
from utils.files import LOCK, output_file, remove_abandoned
from utils.names import LogFormatter

PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "scikit-learn", "scipy", "pillow")


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, and keep convolutions in float32 where that was asked for."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that take no generator draw from the global one
    torch.manual_seed(seed)
    torch.backends.cudnn.allow_tf32 = False  # which PyTorch allows in convolutions, though not in products


@contextlib.contextmanager
def float32_convolutions() -> Iterator[None]:
    """Keep convolutions on CUDA in float32 within the block, as `seed_everything` does for a whole process."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def random_states() -> dict[str, Any]:
    """Read the states of these generators, as data that a checkpoint may hold."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global one, see above
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put the generators back into the states that `random_states` gave."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002 - the global one, see above
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if there is none, while the block lasts, or raise a `UserError`.

    The kernel gives the lock back when the process ends, so that a killed run leaves the file `.lock` and what it was
    writing under temporary names, which the next run removes. The lock is the process's own (`lockf`; `flock` would be
    shared with the processes that read images, and those live on for some seconds when the main one is killed). Of
    several processes of one run, the main one takes it.
    """
    if not is_main():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = output_file(folder / LOCK).open("a")
    except OSError as error:
        raise UserError(f"--save_path {folder}: no folder to write to ({error.strerror})") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # either may say that it is taken
            raise UserError(
                f"another run is writing to --save_path {folder}: wait for its end, or choose another --save_path"
            ) from error
        for parent, _, names in os.walk(folder):
            remove_abandoned(Path(parent, name) for name in names)
        yield


class _LogFile(logging.FileHandler):
    """A log that ends the run with a sentence where it cannot be written, as on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise UserError(f"cannot write {self.baseFilename}: {error.strerror}") from error
        super().handleError(record)


def start_log(path: Path | None, *, append: bool = False) -> None:
    """Send the log to stderr and, if given, to `path` in a locked folder, from an empty file on unless appended to.

    Of several processes, all but the main one send their warnings to stderr only.
    """
    handlers, level, who = [logging.StreamHandler()], logging.WARNING, f"process {rank()}: "
    if is_main():
        handlers += [_LogFile(output_file(path), "a" if append else "w", "utf-8")] if path else []
        level, who = logging.INFO, ""
    for handler in handlers:
        handler.setFormatter(LogFormatter(f"%(asctime)s %(levelname)s {who}%(message)s"))
    logging.basicConfig(level=level, handlers=handlers, force=True)
    for chatty in ("httpx", "httpx2", "huggingface_hub", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def progress(items: Iterable[Any] | None = None, **settings: Any) -> tqdm:
    """Show a bar of tqdm, with its `settings`; of several processes, the main one does."""
    return tqdm(items, dynamic_ncols=True, disable=not is_main(), **settings)


class Stopwatch(Counter[str]):
    """Wall-clock seconds by part of the work."""

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time of a block as `part`."""
        start = time.perf_counter()
        yield
        self[part] += time.perf_counter() - start


def environment(device: torch.device) -> dict[str, str]:
    """Name the device, and the versions of Python and of the packages that the numbers depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "opencv": cv2.__version__,  # whose package has several names
        "platform": platform.platform(),
        "device": f"{device} {name}".strip(),
        "processor": processor()["name"],
    }


def git_commit(folder: Path) -> str | None:
    """Find the commit of the checkout that `folder` is in, with "+" where files differ from it; None outside of one."""
    return _output("git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")


def peak_memory_mib(device: torch.device) -> dict[str, float]:
    """Measure the most resident memory so far of this process alone and, on CUDA, the most allocated, in MiB."""
    units_per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10  # ru_maxrss: bytes there, else KiB
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mib}
    if device.type == "cuda":
        peak["cuda"] = torch.cuda.max_memory_allocated(device) / (1 << 20)
    return peak


@cache
def processor() -> dict[str, str]:
    """Read what the system says of its processor: its `name`, and on Linux also `vendor_id`, `flags` and the rest."""
    cpuinfo = Path("/proc/cpuinfo")
    first = cpuinfo.read_text().split("\n\n")[0] if cpuinfo.is_file() else ""
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    name = said.get("model name") or _output("sysctl", "-n", "machdep.cpu.brand_string")  # Linux, or macOS
    return {**said, "name": name or platform.processor() or platform.machine()}


def _output(*command: str) -> str | None:
    """Run a command and return what it prints, None where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
