"""The mean measures of several data sets in one table, and of several epochs as curves."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from tabulate import tabulate

from utils.evaluation_types import ClassResult
from utils.files import write_text
from utils.results import MEAN, mean_measures, percent
from utils.training_log import write_csv, write_figure

Measures = dict[str, float | None]


class Summary:
    """Collects results, and writes all that it has with each that comes.

    Args:
        folder: gets summary.md and summary.csv, and summary.png once there is more than one epoch.
        title: heading of the table.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder = folder
        self.title = title
        self.means: dict[int, dict[str, Measures]] = {}  # epoch -> data set -> measures

    def add(self, epoch: int, data_set: str, results: Sequence[ClassResult]) -> None:
        """Record the results of one data set after an epoch."""
        self.means.setdefault(epoch, {})[data_set] = mean_measures(results)
        write_text(self.folder / "summary.md", f"# {self.title}\n\n{self.table()}\n")
        rows = [
            {"epoch": epoch, "data_set": name, **measures}
            for epoch, data_sets in self.means.items()
            for name, measures in data_sets.items()
        ]
        write_csv(self.folder / "summary.csv", rows)
        if len(self.means) > 1:
            write_figure(self.folder / "summary.png", self._draw)

    def table(self) -> str:
        """Markdown table in percent: a row a data set, and their mean; with several epochs, that for each of them."""
        cells = []
        for epoch, data_sets in self.means.items():
            rows = list(data_sets.items())
            if len(rows) > 1:
                rows.append((MEAN, _mean(list(data_sets.values()))))
            for name, measures in rows:
                cells.append([str(epoch), name, *map(percent, measures.values())])
        headers = ["epoch", "data set", *measures]
        alignment = ["right", "left", *["right"] * len(measures)]
        if len(self.means) == 1:
            cells, headers, alignment = [row[1:] for row in cells], headers[1:], alignment[1:]
        return tabulate(cells, headers, tablefmt="github", disable_numparse=True, colalign=alignment)

    def _draw(self, axes: Axes) -> None:
        """The mean over the data sets of each measure, by epoch."""
        means = {epoch: _mean(list(data_sets.values())) for epoch, data_sets in self.means.items()}
        for name in next(iter(means.values())):
            points = [(epoch, 100 * mean[name]) for epoch, mean in means.items() if mean.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(xlabel="epoch", ylabel="percent", xticks=list(means))


def _mean(rows: Sequence[Measures]) -> Measures:
    """Plain mean of each measure over the data sets for which it is defined; None if there is none."""
    means: Measures = {}
    for key in rows[0]:
        values = [value for row in rows if (value := row[key]) is not None]
        means[key] = sum(values) / len(values) if values else None
    return means
