"""Records by epoch, as tables and curves: of a training, and of tests of its checkpoints on several data sets."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.distributed import is_main
from utils.evaluation_types import ClassResult
from utils.files import atomic_open, write_csv, write_text
from utils.results import MEAN, Measures, markdown_table, mean_of, mean_result, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, float | int | None]


@dataclass
class TrainingLog:
    """Losses by step and measures by epoch, written whole each time; a run that goes on begins with its `state`."""

    folder: Path  # of the run; gets loss.csv and loss.png, and validation.csv and validation.png with a validation
    steps: list[Row]
    validations: list[Row]

    def state(self) -> dict[str, list[Any]]:
        """Give everything that was recorded, for a checkpoint."""
        return {"steps": self.steps, "validations": self.validations}

    def add_step(self, epoch: int, **losses: float) -> None:
        """Record a training step's losses; epochs count from 1."""
        self.steps.append({"step": len(self.steps) + 1, "epoch": epoch, **losses})

    def add_validation(self, epoch: int, measures: Measures) -> None:
        """Record the measures after an epoch, None where one is undefined."""
        self.validations.append({"epoch": epoch, **measures})

    def epoch_mean(self, epoch: int, key: str = "loss") -> float:
        """Average a loss over the steps of an epoch."""
        values = [row[key] for row in self.steps if row["epoch"] == epoch]
        return sum(values) / len(values)

    def write(self) -> None:
        """Write the tables and the curves; of several processes, the main one does."""
        if not is_main():
            return
        if self.steps:
            write_csv(self.folder / "loss.csv", self.steps[0].keys(), self.steps)
            self._draw_losses()
        if self.validations:
            write_csv(self.folder / "validation.csv", self.validations[0].keys(), self.validations)
            by_epoch = {row["epoch"]: {key: row[key] for key in row if key != "epoch"} for row in self.validations}
            _draw_measures(self.folder / "validation.png", by_epoch)

    def _draw_losses(self) -> None:
        steps = [row["step"] for row in self.steps]
        last_steps = {row["epoch"]: row["step"] for row in self.steps}
        with figure(self.folder / "loss.png") as axes:
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

    def add(self, epoch: int, data_set: str, results: Sequence[ClassResult]) -> None:
        """Record the results of one data set after an epoch."""
        self.means.setdefault(epoch, {})[data_set] = mean_result(results).measures
        write_text(self.folder / "summary.md", f"# {self.title}\n\n{self.table()}\n")
        rows = []
        for epoch, data_sets in self.means.items():
            rows += [{"epoch": epoch, "data_set": name, **measures} for name, measures in data_sets.items()]
        write_csv(self.folder / "summary.csv", rows[0].keys(), rows)
        if len(self.means) > 1:
            by_epoch = {epoch: mean_of(list(data_sets.values())) for epoch, data_sets in self.means.items()}
            _draw_measures(self.folder / "summary.png", by_epoch)

    def table(self) -> str:
        """Make a Markdown table in percent: a row a data set, and their mean; with several epochs, that for each."""
        cells = []
        for epoch, data_sets in self.means.items():
            rows = dict(data_sets) if len(data_sets) == 1 else {**data_sets, MEAN: mean_of(list(data_sets.values()))}
            for name, measures in rows.items():
                cells.append([str(epoch), name, *map(percent, measures.values())])
        first = 0 if len(self.means) > 1 else 1
        headers = ["epoch", "data set", *measures]
        return markdown_table(headers[first:], [row[first:] for row in cells], text_column=1 - first)


def _draw_measures(path: Path, by_epoch: Mapping[int, Measures]) -> None:
    """Draw each measure by epoch, in percent, where it is defined."""
    with figure(path) as axes:
        for name in next(iter(by_epoch.values())):
            points = [(epoch, 100 * row[name]) for epoch, row in by_epoch.items() if row.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(xlabel="epoch", ylabel="percent", xticks=list(by_epoch))


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
