"""Scores brought to [0, 1] over a class, as the papers' tables have them."""

import numpy as np


def min_max(values: np.ndarray, low: float | None = None) -> np.ndarray:
    """Values scaled so that `low`, by default the least of them, becomes 0 and the greatest 1.

    They are returned unchanged where nothing is greater than `low`, and where there is a single value.
    """
    low, high = values.min() if low is None else low, values.max()
    return (values - low) / (high - low) if len(values) > 1 and high > low else values
