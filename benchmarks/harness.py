"""What the benchmarks share: options, the name of the machine, times, differences, peak memory."""

import argparse
import multiprocessing
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

from tabulate import tabulate

from utils.runtime import processor

Result = TypeVar("Result")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with the defaults, and with the description's own lines."""


def start(doc: str, choices: Mapping[str, Sequence[str]] | None = None, **options: tuple[Any, str]) -> Any:
    """Read a benchmark's options, and print what it runs on.

    Args:
        doc: the benchmark's docstring.
        choices: the values that an option may have, where these are few.
        options: default and help of each option; its type is the default's, a list takes several values.

    Returns:
        an object with an attribute for each option.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=_Formatter)
    for name, (default, text) in options.items():
        nargs, kind = ("+", type(default[0])) if isinstance(default, list) else (None, type(default))
        allowed = (choices or {}).get(name)
        parser.add_argument(f"--{name}", type=kind, nargs=nargs, default=default, choices=allowed, help=text)
    args = parser.parse_args()
    here = processor()
    print(f"{here['name']} ({here.get('vendor_id', 'maker unknown')}), {os.cpu_count()} cores, {platform.system()}")
    print(f"Python {platform.python_version()}, torch {version('torch')}")
    print(f"$ python {shlex.join(sys.argv)}\n")
    return args


def timed(function: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
    """Call a function; returns seconds and its result."""
    began = perf_counter()
    result = function(*arguments)
    return perf_counter() - began, result


def medians(ways: Mapping[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """Time several ways to do the same, taken in turn so that the machine's moods hit all alike.

    Returns:
        median seconds of each way, over `repeats` rounds after one round of warming up.
    """
    rounds = [{name: timed(way)[0] for name, way in ways.items()} for _ in range(repeats + 1)]
    return {name: median(seconds[name] for seconds in rounds[1:]) for name in ways}


def print_ratios(seconds: Mapping[str, float]) -> None:
    """Print the seconds of each way, and their ratio to the first's."""
    first = next(iter(seconds.values()))
    rows = [(name, value, value / first) for name, value in seconds.items()]
    print(tabulate(rows, headers=("", "seconds", "ratio to the first"), floatfmt=".3f"))


def difference(own: Any, plain: Any) -> float:
    """Compute the largest difference of two tensors, relative to the largest value of the second."""
    return float((own - plain).abs().max() / plain.abs().max())


def in_own_process(function: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Call a function in a new process; returns its result and that process's peak memory in MiB.

    Linux counts from what the calling process holds on: measure before that has loaded anything large.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(_weighed, function, arguments).result()


def _weighed(function: Callable[..., Result], arguments: Sequence[Any]) -> tuple[Result, float]:
    import torch

    from utils.runtime import peak_memory_mib

    return function(*arguments), peak_memory_mib(torch.device("cpu"))["host"]
