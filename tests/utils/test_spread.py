"""Spreads over seeds, and the rule by which a difference is more than the spread."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from utils.results import with_std
from utils.spread import compare_spreads, number_of_seeds, spread, verdicts, welch

A, B = [0.50, 0.53, 0.52], [0.60, 0.58, 0.65, 0.61]


def test_the_spread_is_the_sample_standard_deviation():
    assert spread(A) == {"mean": pytest.approx(np.mean(A)), "std": pytest.approx(np.std(A, ddof=1))}
    assert spread([0.5, None]) == {"mean": 0.5, "std": None}
    assert spread([None, None]) == {"mean": None, "std": None}
    assert [with_std(**spread(values)) for values in (A, [0.5], [None])] == ["51.7 ± 1.5", "50.0", "-"]


@pytest.mark.parametrize("confidence", [90, 95])
def test_the_interval_is_welchs_and_students_beside_an_exact_value(confidence):
    for a, b, there in (
        (A, B, ttest_ind(B, A, equal_var=False)),
        ([0.5], B, ttest_1samp(np.array(B) - 0.5, 0)),
        (A, [0.6], ttest_1samp(0.6 - np.array(A), 0)),
    ):
        difference, half = welch(a, b, confidence)
        low, high = there.confidence_interval(confidence / 100)
        assert difference == pytest.approx(np.mean(b) - np.mean(a))
        assert (difference - half, difference + half) == pytest.approx((low, high))
    assert welch([0.5, 0.5], [0.75, 0.75], confidence) == (0.25, 0)


def test_a_difference_is_more_than_the_spread_if_its_interval_leaves_out_zero():
    """Means 10 points apart; by three seeds of standard deviation 5 that is within Welch's interval of 11.3 points."""
    a = [{"near": value, "far": value, "gone": None} for value in (0.45, 0.50, 0.55)]
    b = [{"near": value + 0.1, "far": value - 0.2, "gone": 0.5} for value in (0.45, 0.50, 0.55)]
    found = compare_spreads(a, b, 95)
    assert found["near"].items() >= {"a_std": pytest.approx(0.05), "b_std": pytest.approx(0.05)}.items()
    assert found["gone"].items() >= {"a": None, "b": 0.5, "difference": None, "interval": None}.items()
    assert verdicts("SDP+", "DP-CLIP", found, number_of_seeds(3, 3)) == [
        "DP-CLIP is above SDP+ by 10.0 ± 11.3 points of near over 3 seeds: within the spread",
        "DP-CLIP is below SDP+ by 20.0 ± 11.3 points of far over 3 seeds: more than the spread",
    ]
    assert [number_of_seeds(*pair) for pair in ((1, 3), (5, 1), (3, 5))] == ["3 seeds", "5 seeds", "3 and 5 seeds"]
