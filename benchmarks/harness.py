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
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the benchmarks, too, which find but their folder

from utils.errors import run
from utils.runtime import peak_memory_mib, processor

PROJECT = Path(__file__).resolve().parents[1]
HELP = {  # of options whose names do not say it
    "anomalous": "share of anomalous pixels",
    "images": "how many; several numbers are sizes of data sets, multiples of 100, the smallest first",
    "maps": "images of the class",
    "repeats": "timed rounds, of which the median is shown",
    "size": "height and width in pixels",
    "timed": "draws measured the direct way",
}
Options = argparse.Namespace
Main = Callable[[Options], None]
Result = TypeVar("Result")


def benchmark(**options: Any) -> Callable[[Main], Main]:
    """Make the last function of a file its benchmark, which `start` calls with these options if the file is run."""

    def register(main: Main) -> Main:
        if main.__module__ == "__main__":
            run(lambda: start(main, **options))
        return main

    return register


def start(main: Main, **options: Any) -> None:
    """Read a benchmark's options, print what it runs on, and call it with them and a temporary `folder`.

    `options` gives the default of each option, and so its type. A list takes several values; names only from itself.
    """
    description = sys.modules[main.__module__].__doc__
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in options.items():
        settings = {"type": type(default), "help": f"{HELP.get(name, '')} (default: %(default)s)"}
        if isinstance(default, list):
            settings |= {"type": type(default[0]), "nargs": "+", "metavar": name.upper()}
            settings["choices"] = default if isinstance(default[0], str) else None
        parser.add_argument(f"--{name}", default=default, **settings)
    args = parser.parse_args()
    here = processor()
    print(f"{here['name']} ({here.get('vendor_id', 'maker unknown')}), {os.cpu_count()} cores, {platform.system()}")
    print(f"Python {platform.python_version()}, torch {version('torch')}")
    print(f"$ python {shlex.join(sys.argv)}\n")
    with TemporaryDirectory() as folder:
        args.folder = Path(folder)
        main(args)


def draw_photographs(folder: Path, count: int, size: int, suffix: str = ".jpg") -> list[Path]:
    """Write files of `size` x `size` pixels with smooth and fine noise."""
    rng, paths = np.random.default_rng(0), [folder / f"{number:03}{suffix}" for number in range(count)]
    folder.mkdir()
    for path in paths:
        smooth = cv2.resize(rng.random((16, 16, 3), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(255 * smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(path), pixels)
    return paths


def timed(function: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
    """Call a function; returns seconds and its result."""
    began = perf_counter()
    result = function(*arguments)
    return perf_counter() - began, result


def rounds(ways: Iterable[Callable[[], Any]], repeats: int) -> np.ndarray:
    """Time several ways to do the same, taken in turn so that the machine's moods hit all alike.

    Gives the wall seconds, and the processor seconds of this process and of those that it started, which have ended:
    [repeats, ways, 2], after one round of warming up.
    """

    def seconds(way: Callable[[], Any]) -> tuple[float, float]:
        before, (wall, _) = os.times(), timed(way)
        return wall, sum(os.times()[:4]) - sum(before[:4])

    return np.array([[seconds(way) for way in ways] for _ in range(repeats + 1)])[1:]


def medians(ways: Mapping[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """Give the median wall seconds of each way, see `rounds`."""
    return dict(zip(ways, np.median(rounds(ways.values(), repeats)[..., 0], axis=0).tolist(), strict=True))


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
