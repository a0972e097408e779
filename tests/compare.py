"""How far numbers are from those they should be."""

import numpy as np


def relative_error(value, reference) -> float:
    """Largest difference, as a share of the reference's largest value."""
    value, reference = np.asarray(value), np.asarray(reference)
    assert value.shape == reference.shape
    return float(np.abs(value - reference).max() / np.abs(reference).max())
