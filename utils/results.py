"""What a run leaves behind: the table of measures, every figure as JSON, and every image's scores as CSV."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from utils.evaluation_types import ClassResult, ImageScore
from utils.files import atomic_open, write_json, write_text
from utils.measures.bootstrap import Bootstrap

MEAN = "mean"


def mean_measures(results: Sequence[ClassResult]) -> dict[str, float | None]:
    """Plain mean of each measure over the classes for which it is defined; None if there is none."""
    means: dict[str, float | None] = {}
    for key in results[0].measures:
        values = [value for result in results if (value := result.measures[key]) is not None]
        means[key] = sum(values) / len(values) if values else None
    return means


def mean_draws(results: Sequence[ClassResult]) -> dict[str, np.ndarray]:
    """In each bootstrap draw, the mean [resamples] of each measure over the classes for which it is defined."""
    keys = dict.fromkeys(key for result in results for key in result.draws)
    return {key: np.mean([result.draws[key] for result in results if key in result.draws], axis=0) for key in keys}


def intervals(bootstrap: Bootstrap, draws: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """The interval of each measure that has draws."""
    return {key: bootstrap.interval(values) for key, values in draws.items()}


def results_table(results: Sequence[ClassResult], bootstrap: Bootstrap | None = None) -> str:
    """Markdown table of the measures in percent, a row a class and their mean; "-" where undefined.

    With a `bootstrap` that draws were made with, intervals stand behind the measures: `92.1 [90.3, 93.8]`.
    """
    rows = [(result.name, result.measures, result.draws) for result in results]
    rows.append((MEAN, mean_measures(results), mean_draws(results)))
    cells = []
    for name, measures, draws in rows:
        limits = {} if bootstrap is None else intervals(bootstrap, draws)
        values = [percent(value, limits.get(key)) for key, value in measures.items()]
        cells.append([name.replace("|", "\\|"), *values])
    headers = ["objects", *results[0].measures]
    alignment = ["left", *["right"] * len(results[0].measures)]
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True, colalign=alignment)


def percent(value: float | None, interval: tuple[float, float] | None = None, sign: str = "") -> str:
    """A fraction in percent, with its interval if there is one; "-" where undefined; `sign` is "" or "+"."""
    if value is None:
        return "-"
    number = f"{100 * value:{sign}.1f}"
    if interval is None:
        return number
    low, high = (f"{100 * limit:{sign}.1f}" for limit in interval)
    return f"{number} [{low}, {high}]"


def notes(results: Sequence[ClassResult]) -> list[str]:
    """The classes' notes, each with its class."""
    return [f"{result.name}: {note}" for result in results for note in result.notes]


def write_results(
    folder: Path,
    title: str,
    results: Sequence[ClassResult],
    description: dict[str, Any],
    remarks: Sequence[str] = (),
    bootstrap: Bootstrap | None = None,
) -> None:
    """Write results.json, results.md and scores.csv.

    Args:
        folder: where to.
        title: heading of results.md.
        results: one for each class.
        description: how the measures were come by, stored in results.json beside them.
        remarks: notes on the whole, above those of the classes.
        bootstrap: what draws were made with, for the intervals; None if there are none.
    """
    if bootstrap is not None:
        description = {**description, "intervals": _all_intervals(results, bootstrap)}
    write_json(
        folder / "results.json",
        {
            "mean": mean_measures(results),
            "classes": {
                result.name: {**result.measures, "images": len(result.images), "notes": result.notes}
                for result in results
            },
            "notes": list(remarks),
            **description,
        },
    )
    lines = [f"# {title}", "", results_table(results, bootstrap), ""]
    lines += [f"- {note}" for note in [*remarks, *notes(results)]]
    write_text(folder / "results.md", "\n".join(lines).rstrip() + "\n")
    with atomic_open(folder / "scores.csv", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(ImageScore)])
        writer.writeheader()
        for result in results:
            writer.writerows(dataclasses.asdict(image) for image in result.images)


def _all_intervals(results: Sequence[ClassResult], bootstrap: Bootstrap) -> dict[str, Any]:
    return {
        **dataclasses.asdict(bootstrap),
        "mean": intervals(bootstrap, mean_draws(results)),
        "classes": {result.name: intervals(bootstrap, result.draws) for result in results},
    }
