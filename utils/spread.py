"""Means and spreads over seeds, and whether two methods differ by more than the seeds make them vary."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev, variance
from typing import Any

from scipy.special import stdtrit

from utils.results import Measures, percent

RULE = (
    "Welch's {:g} % t interval of the difference of the means over the seeds (Biometrika 34, 1947), in which what has "
    "no training is exact; a difference is more than the spread if its interval leaves out 0, which is said of each "
    "measure on its own, and of other seeds, not of other images"
)
STD = "behind ±: the sample standard deviation (n - 1) over the seeds, in the row of the mean that of the mean"


def spread(values: Iterable[float | None]) -> dict[str, float | None]:
    """Compute the mean and the sample standard deviation (n - 1) of a measure where it is defined; None where not."""
    known = [value for value in values if value is not None]
    return {"mean": fmean(known) if known else None, "std": stdev(known) if len(known) > 1 else None}


def spreads(rows: Sequence[Measures]) -> dict[str, dict[str, float | None]]:
    """Compute the `spread` of each measure, of which each row has one value."""
    return {key: spread(row[key] for row in rows) for key in rows[0]}


def welch(a: Sequence[float], b: Sequence[float], confidence: float) -> tuple[float, float]:
    """Estimate the difference of two means, that of `b` less that of `a`, and half of its t interval's width.

    The samples are independent, and their variances may differ: B. L. Welch, The generalization of 'Student's' problem
    when several different population variances are involved, Biometrika 34, 1947, with the degrees of freedom of F. E.
    Satterthwaite, Biometrics Bulletin 2, 1946. A sample of one value counts as exact; then the interval is Student's.

    Args:
        confidence: in percent.
    """
    difference = fmean(b) - fmean(a)
    parts = [(variance(own) / len(own), len(own) - 1) for own in (a, b) if len(own) > 1]  # squared errors, freedom
    error = sum(part for part, _ in parts)
    if error == 0:
        return difference, 0.0
    freedom = error**2 / sum(part**2 / degrees for part, degrees in parts)
    return difference, float(stdtrit(freedom, 0.5 + confidence / 200)) * error**0.5


def compare_spreads(a: Sequence[Measures], b: Sequence[Measures], confidence: float) -> dict[str, dict[str, Any]]:
    """Compare the measures of two methods, each with one row of them a seed, or with one that is exact.

    Returns:
        by measure the mean `a` and `b`, as fractions, their sample standard deviations `a_std` and `b_std`, their
        `difference` b - a, and its `interval` by `welch`; None where undefined.
    """
    found = {}
    for key in (key for key in a[0] if key in b[0]):
        samples = [[row[key] for row in rows] for rows in (a, b)]
        (one, other), difference, interval = (spread(values) for values in samples), None, None
        if None not in samples[0] + samples[1]:
            difference, half = welch(*samples, confidence)
            interval = difference - half, difference + half
        means = {"a": one["mean"], "b": other["mean"], "a_std": one["std"], "b_std": other["std"]}
        found[key] = {**means, "difference": difference, "interval": interval}
    return found


def verdicts(a: str, b: str, measures: Mapping[str, Mapping[str, Any]], seeds: str) -> list[str]:
    """Say for each measure, in a sentence, whether two methods differ by more than the spread over the `seeds`."""
    said = []
    for key, one in measures.items():
        if one["interval"] is None:
            continue
        low, high = one["interval"]
        side = "above" if one["difference"] > 0 else "below"
        within = "within" if low <= 0 <= high else "more than"
        by = f"{percent(abs(one['difference']))} ± {percent((high - low) / 2)} points of {key}"
        said.append(f"{b} is {side} {a} by {by} over {seeds}: {within} the spread")
    return said


def over_seeds(seeds: Iterable[int]) -> str:
    """Name seeds: `seeds 0, 1, 2`."""
    return f"seeds {', '.join(map(str, seeds))}"


def number_of_seeds(a: int, b: int) -> str:
    """Count the seeds of two methods, 1 of one that is exact: `3 seeds`, or `3 and 5 seeds`."""
    return f"{max(a, b)} seeds" if a == b or 1 in (a, b) else f"{a} and {b} seeds"
