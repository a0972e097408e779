"""How many images a data set has, beside the published numbers."""

from dataclasses import astuple

from tabulate import tabulate

from datasets.meta import Meta
from datasets.registry import Published


def counts_table(meta: Meta, published: Published | None) -> str:
    """Tabulate the images of each class, split and label, above the published test split if there is one."""
    rows = []
    for name in dict.fromkeys([*meta["test"], *meta["train"]]):
        labels = [entry.anomaly for entry in meta["test"].get(name, [])]
        rows.append([name, len(meta["train"].get(name, [])), *(labels.count(label) for label in (0, 1, None))])
    total = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    rows.append([f"total of {len(rows)}", *total])
    if published is not None:
        rows.append([f"published, of {published.classes}", "", published.normal, published.anomalous, ""])
    return tabulate(rows, headers=["class", "train", "test normal", "test anomalous", "test unlabelled"])


def _size(meta: Meta) -> Published:
    labels = [entry.anomaly for entries in meta["test"].values() for entry in entries]
    return Published(len(meta["test"]), labels.count(0), labels.count(1))


def is_complete(meta: Meta, published: Published | None) -> bool:
    """Whether the test split has as many classes and images as published; true where nothing was published."""
    return published is None or _size(meta) == published


def completeness(meta: Meta, published: Published | None) -> str:
    """Say in a sentence how much of the published test split is there."""
    if published is None:
        return f"test images: {sum(map(len, meta['test'].values()))}, classes: {len(meta['test'])}"
    if is_complete(meta, published):
        return "the test split is complete, as published"
    counts = zip(
        astuple(_size(meta)), astuple(published), ("classes", "normal images", "anomalous images"), strict=True
    )
    parts = [f"{have} of {all_} {kind}" for have, all_, kind in counts if have or all_]
    return f"a partial or different test split: {', '.join(parts)}"
