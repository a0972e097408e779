"""Wait for processes as long as they get on: a busy machine makes them slow, and only one that stands still hangs."""

import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

STANDSTILL = 180  # seconds without any processor time
GLANCE = 0.5  # seconds between two looks


def run_patiently(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does, with what it prints and its errors in one text."""
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, start_new_session=True, **(output | options)) as process:
        text = ""

        def has_ended() -> bool:
            nonlocal text
            try:
                text, _ = process.communicate(timeout=GLANCE)
            except subprocess.TimeoutExpired:
                return False
            return True

        if not wait_patiently([process.pid], has_ended):
            process.kill()
            raise AssertionError(f"{' '.join(command)[:200]} hangs")
    return subprocess.CompletedProcess(command, process.returncode, text)


def wait_patiently(pids: Collection[int], has_ended: Callable[[], bool]) -> bool:
    """Wait until something has ended; False if processes and those they started do nothing for `STANDSTILL` seconds.

    Args:
        pids: of the processes; not that which waits, as it looks again and again.
        has_ended: waits a moment itself, and tells.
    """
    before, since = -1.0, time.monotonic()
    while not has_ended():
        now = processor_seconds(pids)
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > STANDSTILL:
            return False
    return True


def processor_seconds(pids: Collection[int]) -> float:
    """Processor time, in the system's ticks, of processes and all below them.

    Without /proc, as on macOS, it is the clock, which always gets on: there, nothing is given up.
    """
    if not Path("/proc/self/stat").exists():
        return time.monotonic()
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        child = int(stat.parent.name)
        parents[child], ticks[child] = int(fields[1]), sum(map(int, fields[11:15]))

    def belongs(child: int) -> bool:
        while child and child not in pids:
            child = parents.get(child, 0)
        return child in pids

    return sum(ticks[child] for child in ticks if belongs(child))
