"""Records by epoch, as tables and curves: of a training, and of tests of its checkpoints on several data sets."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from utils.distributed import is_main
from utils.evaluation_types import ClassResult
from utils.files import atomic_open, write_csv, write_text
from utils.results import MEAN, Measures, markdown_table, mean_of, mean_result, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, float | int | None]


@dataclass
class TrainingLog:
    """Losses by step and measures by epoch, written whole each time; a run that goes on begins with those it had."""

    steps: list[Row]  # `step` and `epoch`, both from 1 on, and losses
    validations: list[Row]  # `epoch`, and the measures after it, None where one is undefined

    def epoch_mean(self, epoch: int, key: str = "loss") -> float:
        """Average a loss over the steps of an epoch."""
        values = [row[key] for row in self.steps if row["epoch"] == epoch]
        return sum(values) / len(values)

    def write(self, folder: Path) -> None:
        """Write loss.csv, loss.png, validation.csv and validation.png; of several processes, the main one does."""
        if not is_main():
            return
        if self.steps:
            write_csv(folder / "loss.csv", self.steps[-1].keys(), self.steps)
            self._draw_losses(folder / "loss.png")
        if self.validations:
            write_csv(folder / "validation.csv", self.validations[0].keys(), self.validations)
            _draw_measures(folder / "validation.png", self.validations)

    def _draw_losses(self, path: Path) -> None:
        steps = [row["step"] for row in self.steps]
        last_steps = {row["epoch"]: row["step"] for row in self.steps}
        with figure(path) as axes:
            for name in [key for key in self.steps[0] if key not in ("step", "epoch")]:
                line = axes.plot(steps, [row[name] for row in self.steps], linewidth=0.8, alpha=0.4)[0]
                means = [self.epoch_mean(epoch, name) for epoch in last_steps]
                axes.plot(last_steps.values(), means, "o-", color=line.get_color(), label=f"{name}, mean of each epoch")
            axes.set(xlabel="step", ylabel="loss", ylim=(0, None))


@dataclass
class Summary:
    """Collects the mean measures of several data sets, and writes all that it has with each that comes."""

    folder: Path  # gets summary.md and summary.csv, and summary.png once there is more than one epoch
    title: str  # of the table
    means: dict[int, dict[str, Measures]] = field(default_factory=dict)  # epoch -> data set -> measures
    notes: list[str] = field(default_factory=list)  # below the table

    def add(self, epoch: int, data_set: str, results: Sequence[ClassResult], notes: Sequence[str] = ()) -> None:
        """Record the results of one data set after an epoch, and notes on them."""
        self.means.setdefault(epoch, {})[data_set] = mean_result(results).measures
        self.notes += [f"- {data_set}: {note}" for note in notes]
        lines = [f"# {self.title}", "", self.table(), "", *self.notes]
        write_text(self.folder / "summary.md", "\n".join(lines).rstrip() + "\n")
        found = [(epoch, *own) for epoch, data_sets in self.means.items() for own in data_sets.items()]
        rows = [{"epoch": epoch, "data_set": name, **measures} for epoch, name, measures in found]
        write_csv(self.folder / "summary.csv", rows[0].keys(), rows)
        if len(self.means) > 1:
            means = [{"epoch": epoch, **mean_of([*data_sets.values()])} for epoch, data_sets in self.means.items()]
            _draw_measures(self.folder / "summary.png", means)

    def table(self) -> str:
        """Make a Markdown table in percent: a row a data set, and their mean; with several epochs, that for each."""
        several, cells = len(self.means) > 1, []
        for epoch, data_sets in self.means.items():
            mean = {MEAN: mean_of([*data_sets.values()])} if len(data_sets) > 1 else {}
            for name, measures in [*data_sets.items(), *mean.items()]:
                cells.append([*[str(epoch)] * several, name, *map(percent, measures.values())])
        return markdown_table([*["epoch"] * several, "data set", *measures], cells, text_column=int(several))


def _draw_measures(path: Path, rows: Sequence[Row]) -> None:
    """Draw each measure by epoch, in percent, where it is defined."""
    with figure(path) as axes:
        for name in [key for key in rows[0] if key != "epoch"]:
            points = [(row["epoch"], 100 * row[name]) for row in rows if row.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(xlabel="epoch", ylabel="percent", xticks=[row["epoch"] for row in rows])


@contextmanager
def figure(path: Path) -> Iterator["Axes"]:
    """Give axes to draw on in the block, and write them as PNG at its end."""
    from matplotlib.figure import Figure  # here, as it takes half a second that most commands need not wait

    drawing = Figure(figsize=(8, 4.5), layout="constrained")
    axes = drawing.subplots()
    yield axes
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_open(path, "wb") as file:
        drawing.savefig(file, format="png", dpi=120)
