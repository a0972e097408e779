"""How far numbers may be from those they should be: the policy on rounding, see docs/fidelity.md, in one place.

On one machine the same batches, processes and threads give the same bits, and tests ask for just that. Other batches,
processors and numbers of threads sum in another order; tests ask for no more than these.
"""

import numpy as np
from torch import Tensor

ROUNDING = 1e-5  # of features, maps and scores, as a share of their range
MEASURES = 1e-4  # of measures, as fractions
# Of a tensor's length after training steps: a hidden unit that rounding takes across 0 takes its share along.
TRAINED = 1e-3


def relative_length(value: Tensor, reference: Tensor) -> float:
    """Length of the difference, as a share of the reference's."""
    return float((value - reference).norm() / reference.norm())


def relative_error(value, reference) -> float:
    """Largest difference, as a share of the reference's largest value."""
    value, reference = np.asarray(value), np.asarray(reference)
    assert value.shape == reference.shape
    return float(np.abs(value - reference).max() / np.abs(reference).max())
