"""How far the measures of two methods on the same images are apart, with intervals of the difference.

Both methods are measured on the same draws of images, so that the draws' differences show what the images they were
tested on have to do with it, and not how hard those images are (a paired bootstrap).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.evaluation_types import ClassResult
from utils.files import write_json, write_text
from utils.measures.bootstrap import Bootstrap
from utils.results import markdown_table, mean_draws, mean_measures, percent


@dataclass(frozen=True)
class Difference:
    """A measure of two methods, as fractions; all None where it is undefined.

    Attributes:
        a, b: the measure of each.
        difference: b - a.
        interval: of the difference.
    """

    a: float | None
    b: float | None
    difference: float | None
    interval: tuple[float, float] | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Comparison:
    """The differences of the means, and those of each class by its name; each by measure."""

    mean: dict[str, Difference]
    classes: dict[str, dict[str, Difference]]


def compare_results(a: Sequence[ClassResult], b: Sequence[ClassResult], bootstrap: Bootstrap) -> Comparison:
    """Subtract the measures in `a` from those in `b`: the same classes in the same order, with the same draws."""
    if [result.name for result in a] != [result.name for result in b]:
        raise ValueError("the results are not of the same classes")
    classes = {
        first.name: _differences(first.measures, second.measures, first.draws, second.draws, bootstrap)
        for first, second in zip(a, b, strict=True)
    }
    mean = _differences(mean_measures(a), mean_measures(b), mean_draws(a), mean_draws(b), bootstrap)
    return Comparison(mean, classes)


def _differences(
    a: Mapping[str, float | None],
    b: Mapping[str, float | None],
    draws_a: Mapping[str, np.ndarray],
    draws_b: Mapping[str, np.ndarray],
    bootstrap: Bootstrap,
) -> dict[str, Difference]:
    found = {}
    for key in a:
        if a[key] is None or b[key] is None:
            found[key] = Difference(a[key], b[key], None, None)
        else:
            interval = bootstrap.interval(draws_b[key] - draws_a[key])
            found[key] = Difference(a[key], b[key], b[key] - a[key], interval)
    return found


def write_comparison(
    folder: Path,
    comparison: Comparison,
    runs: Mapping[str, Mapping[str, Any]],
    bootstrap: Bootstrap,
    notes: Sequence[str],
) -> str:
    """Write compare.json and compare.md into a folder; returns the text of the latter.

    `runs` holds what is to be said of "A" and of "B", whose `title` and `folder` stand in the text.
    """
    classes, mean = comparison.classes, comparison.mean
    differences = dataclasses.asdict(comparison)
    content = {"runs": runs, "bootstrap": dataclasses.asdict(bootstrap), **differences, "notes": list(notes)}
    write_json(folder / "compare.json", content)
    summary = [
        ["A", *(percent(value.a) for value in mean.values())],
        ["B", *(percent(value.b) for value in mean.values())],
        ["B - A", *map(_cell, mean.values())],
    ]
    by_class = [[name, *map(_cell, row.values())] for name, row in classes.items()]
    lines = ["# Comparison of two runs", ""]
    lines += [f"- {name}: {run['title']}, in {run['folder']}" for name, run in runs.items()]
    lines += ["", markdown_table(["mean", *mean], summary), "", "## B - A by class", ""]
    lines += [markdown_table(["objects", *mean], by_class), ""]
    lines += [
        f"- in brackets: {bootstrap}, the same draws for both runs",
        "- in bold: the interval leaves out 0",
        *(f"- {note}" for note in notes),
    ]
    text = "\n".join(lines) + "\n"
    write_text(folder / "compare.md", text)
    return text


def _cell(value: Difference) -> str:
    text = percent(value.difference, value.interval, sign="+")
    return f"**{text}**" if value.is_clear else text
