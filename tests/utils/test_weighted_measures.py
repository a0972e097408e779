"""The measures of draws against measuring the images drawn, one draw after another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.plain_measures import plain_draws
from tests.utils.test_measures import example
from utils.measures import bootstrap
from utils.measures.bootstrap import measures_of_draws
from utils.measures.ranking import ranking_measures

NAMES = ("auroc", "ap", "f1_max", "pro")


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


def test_the_set_itself_has_its_own_measures():
    maps, masks = example()
    found = in_one_go(maps, masks, np.ones((1, len(maps)), int))
    np.testing.assert_allclose(found, pixels_one_by_one(maps, masks, np.ones((1, len(maps)), int)), rtol=1e-12)


@pytest.mark.parametrize("decimals", [1, 8])
def test_images_of_random_draws(decimals):
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 1, -1] * 12)
    scores = rng.normal(labels == 1).round(decimals)
    weights = draws_of(len(labels), 50)
    known = labels >= 0
    as_pixels = scores[known].reshape(-1, 1, 1), labels[known].reshape(-1, 1, 1) == 1
    drawn = measures_of_draws(*as_pixels, weights[:, known])
    for i, row in enumerate(weights):
        normal, anomalous = (np.repeat(scores[labels == value], row[labels == value]) for value in (0, 1))
        expected = tuple(ranking_measures(normal, anomalous).values())
        assert tuple(drawn[name][i] for name in NAMES[:3]) == pytest.approx(expected, rel=1e-12)


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
