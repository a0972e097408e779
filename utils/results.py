"""What a run leaves behind: tables of measures, every figure as JSON, every image's scores; and how two runs differ."""

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from utils.distributed import world_size
from utils.evaluation_types import ClassResult, ImageScore, Writer
from utils.files import write_csv, write_json, write_text
from utils.measures.bootstrap import Bootstrap
from utils.runtime import Stopwatch, environment, git_commit, peak_memory_mib

MEAN = "mean"
BY_KIND = "By kind of anomaly: the images of each kind against the class's normal ones"
Measures = Mapping[str, float | None]  # fractions, None where undefined


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the files of a run say of it."""

    folder: Path  # where they are
    title: str
    images: int  # how many there will be
    classes: int
    description: Mapping[str, Any]  # how the measures came about: method, arguments and so on, see `origin`
    notes: list[str] = field(default_factory=list)  # below the table, above those of the classes; it may still grow
    bootstrap: Bootstrap | None = None  # what draws are made with, for the intervals
    whole: tuple[int, ...] = ()  # classes, normal, anomalous and unlabelled images of the whole data set
    made_with: str | None = None  # backbone, weights and settings in words

    def measured(self, results: Sequence[ClassResult]) -> tuple[int, ...]:
        """Count what `whole` counts."""
        labels = [image.label for result in results for image in result.images]
        return len(results), *map(labels.count, (0, 1, None))

    def origin(self, results: Sequence[ClassResult]) -> list[str]:
        """Say in a line how a table came about and what share of the data set it is of; none if that is not known."""
        if self.made_with is None:
            return []
        (classes, *images), (all_classes, *all_images) = self.measured(results), self.whole
        share = f"{classes} of {all_classes} classes, {sum(images)} of {sum(all_images)} images"
        commit = self.description["git_commit"] or "not known"
        code = f"commit {commit[:9]}{'+' * commit.endswith('+')}"
        return [f"{self.made_with}; {share}; {self.description['date']}, {code}"]

    def notes_on(self, results: Sequence[ClassResult]) -> list[str]:
        """List what stands below a table: its origin, the run's notes, and each class's notes with its name."""
        of_classes = [f"{result.name}: {note}" for result in results for note in result.notes]
        return [*self.origin(results), *self.notes, *of_classes]

    def heading(self, done: int) -> str:
        """Give the title, with a warning where only some classes are done."""
        if done == self.classes:
            return self.title
        return f"{self.title} ({self.classes - done} of {self.classes} classes are missing: the run is not finished)"


def origin(device: torch.device) -> dict[str, Any]:
    """Describe this process: its day, its command, the environment and the commit of the code."""
    return {
        "date": datetime.now().astimezone().date().isoformat(),
        "command": shlex.join(sys.orig_argv),
        "environment": environment(device),
        "git_commit": git_commit(Path(__file__).parent),
    }


@dataclass
class ResultsWriter(Writer):
    """Writes results.json, results.md, rows.jsonl and scores.csv with each class: a stopped run leaves those it has."""

    run: Run
    device: torch.device
    stopwatch: Stopwatch
    rows: Callable[[Mapping[str, Any]], str]  # content of results.json -> that of rows.jsonl
    results: list[ClassResult] = field(default_factory=list)
    images_now: int = 0  # how many this run measured, beside those of an earlier one that it goes on with

    def restore(self, result: ClassResult, kept: None) -> None:
        self.results.append(result)

    def class_done(self, result: ClassResult) -> None:
        self.results.append(result)
        self.images_now += len(result.images)
        content = write_results(
            self.run,
            self.results,
            finished=len(self.results) == self.run.classes,
            whole_data_set=self.run.measured(self.results) == self.run.whole,
            images=sum(len(result.images) for result in self.results),
            images_per_second=self.images_now / self.stopwatch.total(),
            seconds=dict(self.stopwatch),
            processes=world_size(),
            peak_memory_mib=peak_memory_mib(self.device),
        )
        write_text(self.run.folder / "rows.jsonl", self.rows(content))

    def finish(self) -> str | None:
        return f"results are in {self.run.folder}" if self.results else None


def write_results(run: Run, results: Sequence[ClassResult], **more: Any) -> dict[str, Any]:
    """Write results.json, which is to have `more` on the run, results.md and scores.csv; returns that of the first."""
    mean = mean_result(results)
    kinds = {one.name: one.kinds for one in results if one.kinds}
    content = {
        "mean": mean.measures,
        "classes": {one.name: {**one.measures, "images": len(one.images), "notes": one.notes} for one in results},
        "kinds": kinds,
        "notes": [*run.origin(results), *run.notes],
        **run.description,
        **more,
    }
    if run.bootstrap is not None:
        by_class = {result.name: intervals(run.bootstrap, result) for result in results}
        content["intervals"] = {**asdict(run.bootstrap), "mean": intervals(run.bootstrap, mean), "classes": by_class}
    write_json(run.folder / "results.json", content)
    lines = [f"# {run.heading(len(results))}", "", results_table(results, run.bootstrap), ""]
    lines += [f"- {note}" for note in run.notes_on(results)]
    if kinds:
        lines += ["", f"<details><summary>{BY_KIND}</summary>", "", kinds_table(kinds), "", "</details>"]
    write_text(run.folder / "results.md", "\n".join(lines).rstrip() + "\n")
    rows = (image._asdict() for result in results for image in result.images)
    write_csv(run.folder / "scores.csv", ImageScore._fields, rows)
    return content


def mean_result(results: Sequence[ClassResult]) -> ClassResult:
    """Average each measure over the classes for which it is defined, in each bootstrap draw [resamples], too."""
    measures, draws = (mean_of([getattr(result, kind) for result in results]) for kind in ("measures", "draws"))
    return ClassResult(MEAN, [], measures, [], draws)


def mean_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average each measure, or its draws, over the rows for which it is defined; None if there is none."""
    means = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if row.get(key) is not None]
        means[key] = sum(values) / len(values) if values else None
    return means


def intervals(bootstrap: Bootstrap | None, result: ClassResult) -> dict[str, tuple[float, float]]:
    """Compute the interval of each measure that has draws; none without the `bootstrap` that they were made with."""
    return {key: bootstrap.interval(values) for key, values in result.draws.items()} if bootstrap else {}


def results_table(results: Sequence[ClassResult], bootstrap: Bootstrap | None = None) -> str:
    """Make a Markdown table of the measures in percent, a row a class and their mean; "-" where undefined.

    With a `bootstrap` that draws were made with, intervals stand behind the measures: `92.1 [90.3, 93.8]`.
    """
    cells = []
    for result in [*results, mean_result(results)]:
        limits = intervals(bootstrap, result)
        cells.append([result.name, *(percent(value, limits.get(key)) for key, value in result.measures.items())])
    return markdown_table(["objects", *results[0].measures], cells)


def kinds_table(kinds: Mapping[str, Mapping[str, Measures]]) -> str:
    """Make a Markdown table of the measures in percent of each class's kinds of anomaly."""
    cells = []
    for name, of_class in kinds.items():
        for kind, found in of_class.items():
            images, *measures = found.values()
            cells.append([name, kind, str(images), *map(percent, measures)])
    return markdown_table(["objects", "kind", *found], cells, 1)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]], text_column: int = 0) -> str:
    """Make a Markdown table of text, one column aligned to the left and the others to the right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    alignment = ["right"] * text_column + ["left"]  # of the first columns
    return tabulate(cells, headers, "github", disable_numparse=True, stralign="right", colalign=alignment)


def bullets(sentences: Iterable[str]) -> str:
    """Make a Markdown list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def percent(value: float | None, interval: tuple[float, float] | None = None, sign: str = "") -> str:
    """Show a fraction in percent, with its interval if there is one; "-" where undefined; `sign` is "" or "+"."""
    if value is None:
        return "-"
    number, *limits = (f"{100 * each:{sign}.1f}" for each in (value, *(interval or ())))
    return f"{number} [{', '.join(limits)}]" if limits else number


def with_std(mean: float | None, std: float | None) -> str:
    """Show a mean in percent, with its standard deviation if there is one: `92.1 ± 0.3`."""
    return percent(mean) + ("" if std is None else f" ± {percent(std)}")


def compare_results(a: Sequence[ClassResult], b: Sequence[ClassResult], bootstrap: Bootstrap) -> dict[str, Any]:
    """Subtract the measures in `a` from those in `b`: the same classes in the same order, with the same draws.

    As both are measured on the same draws of images, the draws' differences show what the images they were tested on
    have to do with it, and not how hard those images are (a paired bootstrap).

    Returns:
        `mean`, by measure, and `classes`, by name and measure: `a` and `b` as fractions, their `difference` b - a, and
        its `interval`; None where undefined.
    """
    if [result.name for result in a] != [result.name for result in b]:
        raise ValueError("the results are not of the same classes")
    classes = {one.name: _differences(one, other, bootstrap) for one, other in zip(a, b, strict=True)}
    return {"mean": _differences(mean_result(a), mean_result(b), bootstrap), "classes": classes}


def _differences(a: ClassResult, b: ClassResult, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    found = {}
    for key, value in a.measures.items():
        other, difference, interval = b.measures[key], None, None
        if value is not None and other is not None:
            difference, interval = other - value, bootstrap.interval(b.draws[key] - a.draws[key])
        found[key] = {"a": value, "b": other, "difference": difference, "interval": interval}
    return found


def write_comparison(
    folder: Path, comparison: Mapping[str, Any], runs: Mapping[str, Any], intervals: str, notes: list[str]
) -> str:
    """Write `mean` and `classes` of a comparison as compare.json and compare.md; returns the text of the latter.

    Args:
        comparison: what `compare_results` gives, perhaps with standard deviations `a_std` and `b_std`; and what else is
            to be in compare.json.
        runs: what is to be said of "A" and of "B", whose `title` and `folder` stand in the text.
        intervals: says what those of the differences are.
    """
    write_json(folder / "compare.json", {"runs": runs, **comparison, "notes": notes})
    mean = comparison["mean"]
    keys = [(name, name.lower()) for name in runs]
    summary = [[name, *(with_std(one[key], one.get(f"{key}_std")) for one in mean.values())] for name, key in keys]
    summary.append(["B - A", *map(_shown, mean.values())])
    by_class = [[name, *map(_shown, row.values())] for name, row in comparison["classes"].items()]
    lines = ["# Comparison of two runs", ""]
    lines += [f"- {name}: {run['title']}, in {run['folder']}" for name, run in runs.items()]
    lines += ["", markdown_table(["mean", *mean], summary), "", "## B - A by class", ""]
    lines += [markdown_table(["objects", *mean], by_class), ""]
    lines += [f"- in brackets: {intervals}", "- in bold: the interval leaves out 0"]
    text = "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"
    write_text(folder / "compare.md", text)
    return text


def _shown(one: Mapping[str, Any]) -> str:
    text, interval = percent(one["difference"], one["interval"], sign="+"), one["interval"]
    return text if interval is None or interval[0] <= 0 <= interval[1] else f"**{text}**"
