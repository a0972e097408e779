"""How much memory and disk the machine has, and whether that is enough."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from utils.problems import ERROR, WARNING, Problem

GIB = 1 << 30
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Room:
    """Bytes that are free now, and bytes in all, of what is called `name`."""

    name: str
    free: int
    total: int

    def __str__(self) -> str:
        return f"{self.name}: {self.free / GIB:.1f} of {self.total / GIB:.1f} GiB free"


def host_memory() -> Room:
    """The machine's memory, or the container's if that has less.

    Free is what the system could give without swapping. Where it does not tell, as macOS does not, that is all of it.
    """
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in map(Path, CONTAINER_LIMITS):
        limit = path.read_text().strip() if path.is_file() else "max"
        total = total if limit == "max" else min(total, int(limit))
    free = total
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        values = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = min(total, int(values["MemAvailable"].split()[0]) << 10)
    return Room("memory", free, total)


def device_memory(device: torch.device) -> Room:
    """The memory of a CUDA device; for the CPU the machine's."""
    if device.type != "cuda":
        return host_memory()
    return Room(f"memory of {device}", *torch.cuda.mem_get_info(device))


def disk(folder: Path) -> Room:
    """The disk that a folder is on, or would be once it is made; the nearest folder that may be looked at decides."""
    for path in (folder.absolute(), *folder.absolute().parents):
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(path)
            break
    return Room(f"disk of {folder}", usage.free, usage.total)


def check_room(what: str, needed: int, room: Room, remedy: str, *, optional: bool = False) -> list[Problem]:
    """An error if something does not fit at all, a warning if it does not fit now.

    Args:
        what: takes the room.
        needed: bytes.
        room: what there is.
        remedy: what to do if it is too little.
        optional: whether a run can do without, so that it is a warning in any case.
    """
    if needed <= room.free:
        return []
    level = ERROR if needed > room.total and not optional else WARNING
    return [Problem(level, f"{what} takes about {needed / GIB:.1f} GiB ({room})", remedy)]
