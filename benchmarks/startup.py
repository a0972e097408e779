"""Measures how much processor time every entry point takes to print its help, and to refuse a wrong option.

    python benchmarks/startup.py
    python benchmarks/startup.py --scripts test_sdp.py demo/draw.py

Seconds of all the process's threads, user and system, the median of several runs after one that warms the disk's cache.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import start

PROJECT = Path(__file__).resolve().parents[1]
WAYS = {"--help": 0, "--no_such_option": 2}  # and its exit status


def processor_seconds(script: Path, option: str) -> float:
    """Run a script with an option, and return its processor seconds, user and system."""
    process = subprocess.Popen([sys.executable, script, option], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != WAYS[option]:
        sys.exit(f"{script} {option} ended with status {process.returncode}:\n{said}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    modules = [*PROJECT.glob("data/*.py"), *PROJECT.glob("demo/*.py")]
    scripts = [*PROJECT.glob("*.py"), *(path for path in modules if "__main__" in path.read_text(encoding="utf-8"))]
    names = sorted((str(path.relative_to(PROJECT)) for path in scripts), key=lambda name: ("/" in name, name))
    args = start(__doc__, scripts=(names, "of the project"), repeats=(3, "runs of each"))
    rows = []
    for name in args.scripts:
        runs = [[processor_seconds(PROJECT / name, option) for option in WAYS] for _ in range(args.repeats + 1)]
        rows.append((name, *(median(times) for times in zip(*runs[1:], strict=True))))
    print(tabulate(rows, headers=("processor seconds of", *WAYS), floatfmt=".2f"))


if __name__ == "__main__":
    main()
