"""What a run leaves behind: the table of measures, every figure as JSON, and every image's scores as CSV."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from utils.evaluation import ClassResult, ImageScore
from utils.files import atomic_open, write_json, write_text

MEAN = "mean"


def mean_measures(results: Sequence[ClassResult]) -> dict[str, float | None]:
    """Plain mean of each measure over the classes for which it is defined; None if there is none."""
    means: dict[str, float | None] = {}
    for key in results[0].measures:
        values = [value for result in results if (value := result.measures[key]) is not None]
        means[key] = sum(values) / len(values) if values else None
    return means


def results_table(results: Sequence[ClassResult]) -> str:
    """Markdown table of the measures in percent, a row a class and their mean; "-" where undefined."""
    rows = [(result.name, result.measures) for result in results] + [(MEAN, mean_measures(results))]
    cells = [
        [
            name.replace("|", "\\|"),
            *("-" if value is None else f"{100 * value:.1f}" for value in measures.values()),
        ]
        for name, measures in rows
    ]
    headers = ["objects", *results[0].measures]
    alignment = ["left", *["right"] * len(results[0].measures)]
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True, colalign=alignment)


def notes(results: Sequence[ClassResult]) -> list[str]:
    """The classes' notes, each with its class."""
    return [f"{result.name}: {note}" for result in results for note in result.notes]


def write_results(
    folder: Path,
    title: str,
    results: Sequence[ClassResult],
    description: dict[str, Any],
    remarks: Sequence[str] = (),
) -> None:
    """Write results.json, results.md and scores.csv.

    Args:
        folder: where to.
        title: heading of results.md.
        results: one for each class.
        description: how the measures were come by, stored in results.json beside them.
        remarks: notes on the whole, above those of the classes.
    """
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
    lines = [f"# {title}", "", results_table(results), ""]
    lines += [f"- {note}" for note in [*remarks, *notes(results)]]
    write_text(folder / "results.md", "\n".join(lines).rstrip() + "\n")
    with atomic_open(folder / "scores.csv", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(ImageScore)])
        writer.writeheader()
        for result in results:
            writer.writerows(dataclasses.asdict(image) for image in result.images)
