"""Draws of images, and the intervals made of them."""

import numpy as np
import pytest

from utils.measures.bootstrap import Bootstrap

KINDS = np.array([[0, 0], [1, 1], [0, 0], [1, 0], [1, 1], [1, 1]])


def test_a_draw_has_as_many_images_of_each_kind_as_the_set():
    weights = Bootstrap(200).draw("bolt", KINDS)
    assert weights.shape == (200, 6)
    assert (weights[:, [0, 2]].sum(axis=1) == 2).all()
    assert (weights[:, [1, 4, 5]].sum(axis=1) == 3).all()
    assert (weights[:, 3] == 1).all()


def test_every_image_of_a_kind_is_drawn_alike():
    weights = Bootstrap(20_000).draw("bolt", np.zeros((5, 1), int))
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.03)
    assert weights.var(axis=0) == pytest.approx(0.8, abs=0.04)  # of a binomial distribution: 5 draws of chance 1/5


def test_draws_depend_on_seed_and_class_alone():
    weights = Bootstrap(50, seed=1).draw("bolt", KINDS)
    np.testing.assert_array_equal(weights, Bootstrap(50, confidence=80, seed=1).draw("bolt", KINDS))
    assert not np.array_equal(weights, Bootstrap(50, seed=2).draw("bolt", KINDS))
    assert not np.array_equal(weights, Bootstrap(50, seed=1).draw("nut", KINDS))


def test_the_interval_leaves_out_the_tails():
    values = np.random.default_rng(0).permutation(1001) / 1000
    assert Bootstrap(1001).interval(values) == pytest.approx((0.025, 0.975))
    assert Bootstrap(1001, confidence=50).interval(values) == pytest.approx((0.25, 0.75))


def test_intervals_cover_the_truth_as_often_as_they_say():
    """The mean of 60 normal numbers, 300 times over."""
    rng = np.random.default_rng(0)
    covered = []
    for number in range(300):
        sample = rng.normal(size=60)
        low, high = Bootstrap(400, seed=number).interval(
            Bootstrap(400, seed=number).draw("class", np.zeros((60, 1), int)) @ sample / 60
        )
        covered.append(low <= 0 <= high)
    assert 0.90 <= np.mean(covered) <= 0.98
