"""Measures how much processor time every entry point takes to print its help, and to refuse a wrong option.

    python benchmarks/startup.py
    python benchmarks/startup.py --scripts test_sdp.py demo/draw.py

Seconds of all the process's threads, user and system, the median of several runs after one that warms the disk's cache.
"""

import subprocess
import sys
from functools import partial

import numpy as np
from harness import PROJECT, Options, benchmark, print_table, rounds

WAYS = {"--help": 0, "--no_such_option": 2}  # and its exit status
FILES = [path for pattern in ("*.py", "data/*.py", "demo/*.py") for path in sorted(PROJECT.glob(pattern))]
SCRIPTS = [str(path.relative_to(PROJECT)) for path in FILES if "__main__" in path.read_text(encoding="utf-8")]


def start(script: str, option: str) -> None:
    """Run a script with an option."""
    process = subprocess.run([sys.executable, PROJECT / script, option], capture_output=True, text=True)
    if process.returncode != WAYS[option]:
        sys.exit(f"{script} {option} ended with status {process.returncode}:\n{process.stderr}")


@benchmark(scripts=SCRIPTS, repeats=3)
def main(args: Options) -> None:
    rows = []
    for name in args.scripts:
        processor_seconds = rounds([partial(start, name, option) for option in WAYS], args.repeats)[..., 1]
        rows.append((name, *np.median(processor_seconds, axis=0)))
    print_table({"processor seconds of": "", **dict.fromkeys(WAYS, ".2f")}, rows)
