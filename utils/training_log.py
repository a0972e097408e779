"""A training's record: the losses of every step and the measures of every validation, as CSV and as curves."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.distributed import is_main
from utils.files import atomic_open

Row = Mapping[str, float | int | None]


class TrainingLog:
    """Losses by step and measures by epoch, written whole each time.

    Args:
        folder: of the run; gets loss.csv and loss.png, and validation.csv and validation.png once there is a
            validation.
        state: what `state` gave, to go on with a run.
    """

    def __init__(self, folder: Path, state: Mapping[str, list[Row]] | None = None) -> None:
        self.folder = folder
        self.steps: list[Row] = list(state["steps"]) if state is not None else []
        self.validations: list[Row] = list(state["validations"]) if state is not None else []

    def state(self) -> dict[str, list[Any]]:
        """Everything that was recorded, for a checkpoint."""
        return {"steps": self.steps, "validations": self.validations}

    def add_step(self, epoch: int, **losses: float) -> None:
        """Record a training step's losses; epochs count from 1."""
        self.steps.append({"step": len(self.steps) + 1, "epoch": epoch, **losses})

    def add_validation(self, epoch: int, measures: Mapping[str, float | None]) -> None:
        """Record the measures after an epoch, None where one is undefined."""
        self.validations.append({"epoch": epoch, **measures})

    def epoch_mean(self, epoch: int, key: str = "loss") -> float:
        """Mean of a loss over the steps of an epoch."""
        values = [row[key] for row in self.steps if row["epoch"] == epoch]
        return sum(values) / len(values)

    def write(self) -> None:
        """Write the tables and the curves; of several processes, the main one does."""
        if not is_main():
            return
        if self.steps:
            write_csv(self.folder / "loss.csv", self.steps)
            write_figure(self.folder / "loss.png", self._draw_losses)
        if self.validations:
            write_csv(self.folder / "validation.csv", self.validations)
            write_figure(self.folder / "validation.png", self._draw_validations)

    def _draw_losses(self, axes: Axes) -> None:
        names = [name for name in self.steps[0] if name not in ("step", "epoch")]
        steps = [row["step"] for row in self.steps]
        last_steps = {row["epoch"]: row["step"] for row in self.steps}
        for name in names:
            line = axes.plot(steps, [row[name] for row in self.steps], linewidth=0.8, alpha=0.4)[0]
            means = [self.epoch_mean(epoch, name) for epoch in last_steps]
            axes.plot(last_steps.values(), means, "o-", color=line.get_color(), label=f"{name}, mean of each epoch")
        axes.set(xlabel="step", ylabel="loss", ylim=(0, None))

    def _draw_validations(self, axes: Axes) -> None:
        epochs = [row["epoch"] for row in self.validations]
        for name in self.validations[0]:
            values = [row[name] for row in self.validations]
            if name != "epoch" and None not in values:
                axes.plot(epochs, [100 * value for value in values], marker="o", label=name)
        axes.set(xlabel="epoch", ylabel="percent", xticks=epochs)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows, whose keys are those of the first, as a table."""
    with atomic_open(path, newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_figure(path: Path, draw: Callable[[Axes], None]) -> None:
    """Write what `draw` draws as PNG."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
