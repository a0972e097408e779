"""Times of several ways to do the same, taken in turn so that the machine's moods hit all alike."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

from tabulate import tabulate


def medians(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each way, over `repeats` rounds after one round of warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(repeats + 1):
        for name, way in ways.items():
            start = perf_counter()
            way()
            if round_number:
                seconds[name].append(perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def ratio_table(seconds: Mapping[str, float]) -> str:
    """Seconds of each way, and its ratio to the first."""
    first = next(iter(seconds.values()))
    rows = [(name, value, value / first) for name, value in seconds.items()]
    return tabulate(rows, headers=("", "seconds", "ratio to the first"), floatfmt=".3f")
