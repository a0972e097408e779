"""The processor: its name, its maker, and what it can do."""

import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple


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
