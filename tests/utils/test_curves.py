"""The drawn curves against scikit-learn and against the measures that are areas under them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from tests.plain_measures import pixel_measures
from utils.measures.curves import POINTS, pixel_curves, ranking_curves
from utils.measures.pro import FPR_LIMIT
from utils.measures.ranking import ranking_measures
from utils.measures.regions import PixelScores

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=12).map(lambda values: np.sort(np.array(values, float)))


def step_area(curve: np.ndarray) -> float:
    """Area of the steps that have each point at their right end."""
    return float(np.sum(np.diff(curve[0], prepend=0) * curve[1]))


def labels_and_scores(normal: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([0, 1], [normal.size, anomalous.size]), np.concatenate([normal, anomalous])


def many_pixels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 96, 96), bool)
    masks[0, 10:30, 10:20] = masks[1, 50:90, 5:60] = masks[1, 3:6, 3:6] = masks[3, 40, 40] = True
    maps = rng.normal(0, 1, masks.shape).astype(np.float32)
    maps[masks] += 1.5
    return maps, masks


@settings(max_examples=200, deadline=None)
@given(SCORES, SCORES)
def test_few_scores_give_the_whole_curves(normal, anomalous):
    labels, scores = labels_and_scores(normal, anomalous)
    curves = ranking_curves(normal, anomalous)
    rate, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curves["roc"][0], rate)
    np.testing.assert_allclose(curves["roc"][1], recall)
    precision, recall, _ = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(curves["pr"][0], recall[-2::-1])  # without the point (0, 1), which is no threshold's
    np.testing.assert_allclose(curves["pr"][1], precision[-2::-1])
    assert step_area(curves["pr"]) == pytest.approx(ranking_measures(normal, anomalous)["ap"])
    assert curves["pro"] is None


def test_many_scores_are_thinned_to_points_of_the_whole_curves():
    rng = np.random.default_rng(0)
    normal, anomalous = np.sort(rng.normal(0, 1, 20_000)), np.sort(rng.normal(2, 1, 500))
    curves = ranking_curves(normal, anomalous)
    rate, recall, _ = roc_curve(*labels_and_scores(normal, anomalous), drop_intermediate=False)
    whole = set(zip(rate.tolist(), recall.tolist(), strict=True))
    drawn = list(zip(curves["roc"][0].tolist(), curves["roc"][1].tolist(), strict=True))
    assert set(drawn) <= whole
    assert drawn == sorted(drawn)
    assert drawn[0] == (0, 0)
    assert drawn[-1] == (1, 1)
    assert 2 * POINTS < len(drawn) <= 3 * POINTS + 3
    measures = ranking_measures(normal, anomalous)
    assert auc(curves["roc"][0], curves["roc"][1]) == pytest.approx(measures["auroc"], abs=1e-3)
    assert step_area(curves["pr"]) == pytest.approx(measures["ap"], abs=1e-2)


def test_a_step_at_the_rate_where_pro_ends_is_upright():
    maps = np.array([[[9, 9, 9, 5, 4, *[0] * 7]]], np.float32)  # three normal scores of ten, then two anomalous ones
    masks = np.zeros(maps.shape, bool)
    masks[..., 3:5] = True
    measures, curves = pixel_measures(maps, masks)
    assert auc(*curves["pro"]) == measures["pro"] == 0
    assert curves["pro"][:, -1].tolist() == [FPR_LIMIT, 1]


@pytest.mark.parametrize("size, tolerance", [(8, 1e-12), (96, 2e-3)])
def test_the_area_under_the_pro_curve_is_pro(size, tolerance):
    maps, masks = (np.ascontiguousarray(each[:, :size, :size]) for each in many_pixels())
    masks[0, 2:5, 3:5] = masks[1, 6, 6] = True
    measures, curves = pixel_measures(maps, masks)
    x, y = curves["pro"]
    assert auc(x, y) / FPR_LIMIT == pytest.approx(measures["pro"], abs=tolerance)
    assert (x[0], y[0]) == (0, 0)
    assert x[-1] == FPR_LIMIT
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()


def test_points_of_the_pro_curve_are_overlaps_at_thresholds():
    maps, masks = many_pixels()
    pro = pixel_curves(PixelScores(maps.copy(), masks).of(0, len(masks)))["pro"]
    regions = [np.zeros_like(masks) for _ in range(4)]
    regions[0][0], regions[1][1, 50:90, 5:60], regions[2][1, 3:6, 3:6] = masks[0], True, True
    regions[3][3] = masks[3]
    normal = np.sort(maps[~masks])[::-1]
    for x, y in list(zip(*pro, strict=True))[1:-1:20]:
        false_positives = round(x * normal.size)
        high, low = normal[false_positives - 1] if false_positives else np.inf, normal[false_positives]
        bounds = [np.mean([(maps[region] >= t).mean() for region in regions]) for t in (high, low)]
        assert bounds[0] - 1e-12 <= y <= bounds[1] + 1e-12


def test_one_kind_of_item_has_no_curves():
    assert ranking_curves(np.array([1.0]), np.array([])) is None
    assert ranking_curves(np.array([]), np.array([1.0])) is None
    maps, masks = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), bool)
    assert pixel_measures(maps.copy(), masks)[1] is None
    assert pixel_measures(maps, ~masks)[1] is None
