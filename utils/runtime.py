"""The run itself: its seed, its folder and log, and what it ran on."""

import contextlib
import fcntl
import logging
import os
import platform
import random
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from utils.distributed import is_main, rank
from utils.errors import UserError
from utils.files import is_temporary

LOCK = ".lock"
PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "scikit-learn", "scipy", "pillow")


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, and keep convolutions in float32 where that was asked for."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that take no generator draw from the global one
    torch.manual_seed(seed)
    torch.backends.cudnn.allow_tf32 = False  # which PyTorch allows in convolutions, though not in products


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's generators, as data that a checkpoint may hold."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global one, see above
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
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
    """Keep other runs out of a folder while the block lasts; it is made if it does not exist.

    The kernel gives the lock back when the process ends, so that a killed run leaves the file `.lock` and nothing
    else. It is the process's own (`lockf`; `flock` would be shared with the processes that read images, and those
    live on for some seconds when the main one is killed).

    Of several processes of one run, the main one takes the lock.

    What an earlier run was writing when it was killed lies there under temporary names, and is removed.

    Args:
        folder: what `--save_path` names.

    Raises:
        UserError: another run holds the lock, or the folder cannot be written to.
    """
    if not is_main():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise UserError(f"--save_path {folder}: no folder to write to ({error.strerror})") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # either may say that it is taken
            raise UserError(
                f"another run is writing to --save_path {folder}: wait for its end, or choose another --save_path"
            ) from error
        _remove_temporary_files(folder)
        yield


def _remove_temporary_files(folder: Path) -> None:
    """Remove what was never finished, but not from a folder below that has a lock of its own."""
    for parent, subfolders, names in os.walk(folder):
        if LOCK in names and Path(parent) != folder:
            subfolders.clear()
            continue
        for name in filter(is_temporary, names):
            (Path(parent) / name).unlink(missing_ok=True)


class _LogFile(logging.FileHandler):
    """A log that ends the run with a sentence where it cannot be written, as on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise UserError(f"cannot write {self.baseFilename}: {error.strerror}") from error
        super().handleError(record)


def start_log(path: Path, *, append: bool = False) -> None:
    """Send the log to stderr and to `path`, from an empty file on unless it is to be appended to.

    Of several processes, all but the main one send their warnings to stderr only.

    Raises:
        UserError: the file cannot be written.
    """
    if not is_main():
        logging.basicConfig(
            level=logging.WARNING, format=f"%(asctime)s %(levelname)s process {rank()}: %(message)s", force=True
        )
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = "a" if append else "w"
        handlers: list[logging.Handler] = [logging.StreamHandler(), _LogFile(path, mode, "utf-8")]
    except OSError as error:
        raise UserError(f"--save_path {path.parent}: no folder to write to ({error.strerror})") from error
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=handlers, force=True
    )
    for chatty in ("httpx", "httpx2", "huggingface_hub", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def environment(device: torch.device) -> dict[str, str]:
    """Versions of Python and of the packages the numbers depend on, and the processor."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    versions = {package: version(package) for package in PACKAGES}
    return {
        "python": platform.python_version(),
        **versions,
        "opencv": cv2.__version__,  # whose package has several names
        "platform": platform.platform(),
        "device": f"{device} {name}".strip(),
    }


def git_commit(folder: Path) -> str | None:
    """Commit of the checkout that `folder` is in, with "+" where files differ from it; None outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_memory_mib(device: torch.device) -> dict[str, float]:
    """Largest resident memory so far of this process alone and, on CUDA, largest allocation, in MiB."""
    units_per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10  # ru_maxrss: bytes there, else KiB
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mib}
    if device.type == "cuda":
        peak["cuda"] = torch.cuda.max_memory_allocated(device) / (1 << 20)
    return peak


class Processor(NamedTuple):
    """A processor's name and maker, and its instruction sets where the system names them."""

    name: str
    vendor: str
    flags: frozenset[str]


@cache
def processor() -> Processor:
    """Read what the system says of its processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().split("\n\n")[0].splitlines())
        said = {key.strip(): value.strip() for key, _, value in lines}
    else:
        said = {"model name": _sysctl("machdep.cpu.brand_string"), "vendor_id": _sysctl("machdep.cpu.vendor")}
    name = said.get("model name") or platform.processor() or platform.machine()
    return Processor(name, said.get("vendor_id", ""), frozenset(said.get("flags", "").split()))


def _sysctl(key: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
