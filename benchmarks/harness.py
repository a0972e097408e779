"""What the benchmarks share: the project's path, options, the name of the machine, times, differences, peak memory."""

import argparse
import multiprocessing
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the benchmarks, too, which find but their folder

from utils.errors import run
from utils.runtime import peak_memory_mib, processor

PROJECT = Path(__file__).resolve().parents[1]
HELP = {
    "anomalous": "share of anomalous pixels",
    "batch_size": "images at once",
    "data_path": "the data set's folder",
    "device": "of PyTorch",
    "draws": "of the bootstrap",
    "epochs": "of the training",
    "image_size": "side in pixels",
    "images": "how many; several numbers are sizes of data sets, multiples of 100, the smallest first",
    "maps": "images of the class",
    "methods": "whose variants are measured",
    "model": "open_clip model name",
    "phrase": "what the class is called",
    "repeats": "timed rounds, of which the median is shown",
    "scripts": "of the project",
    "seed": "of everything random",
    "seeds": "of the training",
    "size": "height and width in pixels",
    "threads": "of PyTorch",
    "timed": "draws measured the direct way",
    "tokens": "of an image",
    "workers": "processes that draw the images",
}
Options = argparse.Namespace
Main = Callable[[Options], None]
Result = TypeVar("Result")


def benchmark(**options: Any) -> Callable[[Main], Main]:
    """Make the last function of a file its benchmark: if the file is run, it is called with what `start` gives.

    It is given a temporary `folder` as well.
    """

    def register(main: Main) -> Main:
        def call() -> None:
            with TemporaryDirectory() as folder:
                args = start(main.__globals__["__doc__"], **options)
                args.folder = Path(folder)
                main(args)

        if main.__module__ == "__main__":
            run(call)
        return main

    return register


def start(doc: str, **options: Any) -> Options:
    """Read the options of the benchmark with a docstring, and print what it runs on.

    `options` gives the default of each option of `HELP`, and so its type. A list takes several values; names only from
    itself.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in options.items():
        settings = {"type": type(default)}
        if isinstance(default, list):
            settings = {"type": type(default[0]), "nargs": "+", "metavar": name.upper()}
            settings["choices"] = default if isinstance(default[0], str) else None
        parser.add_argument(f"--{name}", default=default, help=f"{HELP[name]} (default: %(default)s)", **settings)
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


def seconds_of(way: Callable[[], object]) -> tuple[float, float]:
    """Wall time, and processor seconds of this process and of those that it started, which have ended."""
    before, (wall, _) = os.times(), timed(way)
    return wall, sum(os.times()[:4]) - sum(before[:4])


def medians(ways: Mapping[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """Time several ways to do the same, taken in turn so that the machine's moods hit all alike.

    Gives the median seconds of each way, over `repeats` rounds after one round of warming up.
    """
    rounds = [{name: timed(way)[0] for name, way in ways.items()} for _ in range(repeats + 1)]
    return {name: median(seconds[name] for seconds in rounds[1:]) for name in ways}


def print_ratios(seconds: Mapping[str, float]) -> None:
    """Print the seconds of each way, and their ratio to the first's."""
    first = next(iter(seconds.values()))
    rows = [(name, value, value / first) for name, value in seconds.items()]
    print_table({"": "", "seconds": ".3f", "ratio to the first": ".3f"}, rows)


def print_table(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows below the names of the columns, each with the format of its numbers."""
    print(tabulate(rows, [*columns], floatfmt=tuple(columns.values()), missingval="-"))


def difference(own: Any, plain: Any) -> float:
    """Compute the largest difference of two tensors, relative to the largest value of the second."""
    return float((own - plain).abs().max() / plain.abs().max())


def in_own_process(function: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Call a function in a new process; returns its result and that process's peak memory in MiB.

    Linux counts from what the calling process holds on: measure before that has loaded anything large.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        result = executor.submit(function, *arguments).result()
        return result, executor.submit(peak_memory_mib, torch.device("cpu")).result()["host"]
