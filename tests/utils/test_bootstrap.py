"""Draws of images, the intervals made of them, and the measures of draws against measuring the images drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.plain_measures import plain_draws
from tests.utils.test_measures import example
from utils.measures import bootstrap
from utils.measures.bootstrap import Bootstrap, measures_of_draws

NAMES = ("auroc", "ap", "f1_max", "pro")
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


def draws_of(images: int, draws: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)


def pixels_one_by_one(maps: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B, 4], NaN where undefined."""
    return np.stack([*plain_draws(maps, masks, weights).values()], axis=1)


def in_one_go(maps: np.ndarray, masks: np.ndarray, weights: np.ndarray, thresholds: int = 1 << 14) -> np.ndarray:
    drawn = measures_of_draws(maps, masks, weights, thresholds)
    return np.stack([drawn[name] for name in NAMES], axis=1)


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("block", [3, 64])
def test_pixels_of_random_draws(monkeypatch, decimals, block):
    monkeypatch.setattr(bootstrap, "BLOCK", block)
    maps, masks = example((7, 15, 11))
    maps = maps.round(decimals)
    weights = draws_of(len(maps), 40)
    weights = weights[(weights[:, 1:].sum(axis=1) > 0)]  # the first image is normal
    before = maps.copy()
    found = in_one_go(maps, masks, weights)
    np.testing.assert_array_equal(maps, before)
    np.testing.assert_allclose(found, pixels_one_by_one(maps, masks, weights), rtol=1e-12)
    assert found.std(axis=0).min() > 1e-3  # or the draws were all alike


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_small_cases(data):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)))
    levels = st.integers(-3, 3).map(lambda level: level / 4)
    maps = data.draw(hnp.arrays(np.float32, shape, elements=levels))
    masks = data.draw(hnp.arrays(np.bool_, shape))
    weights = data.draw(hnp.arrays(np.int64, (3, shape[0]), elements=st.integers(0, 3)))
    anomalous, normal = (kind.sum(axis=(1, 2)) for kind in (masks, ~masks))
    weights = weights[(weights @ anomalous > 0) & (weights @ normal > 0)]
    if len(weights):
        found = in_one_go(maps, masks, weights)
        np.testing.assert_allclose(found, pixels_one_by_one(maps, masks, weights), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("decimals", [1, 8])
def test_shared_thresholds_are_points_of_the_exact_curves(decimals):
    """AUROC within its bound, F1-max from below, the others near; ties are not torn apart."""
    maps, masks = example((9, 60, 60))
    maps = maps.round(decimals)
    weights = draws_of(len(maps), 30, seed=1)
    thresholds = 200
    assert len(np.unique(maps[masks])) > thresholds or decimals == 1
    found, exact = in_one_go(maps, masks, weights, thresholds), in_one_go(maps, masks, weights, maps.size)
    assert bootstrap._groups(np.sort(maps[masks]), thresholds)[0].size <= thresholds
    itself = np.ones((1, len(maps)), int)
    difference = np.abs(in_one_go(maps, masks, itself, thresholds) - in_one_go(maps, masks, itself, maps.size))
    assert difference[0, 0] <= 1 / (2 * thresholds)
    assert (found[:, 2] <= exact[:, 2] + 1e-12).all()
    np.testing.assert_allclose(found, exact, atol=0.005)
    if decimals == 1:
        np.testing.assert_array_equal(found, exact)
