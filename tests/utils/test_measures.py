"""The measures against scikit-learn and against slow, obviously right loops over thresholds."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from tests.plain_measures import pixel_measures, plain_legacy_pro, plain_pro, plain_ranking, regions_of
from utils.measures import regions
from utils.measures.ranking import misranked, ranking_measures

UNDEFINED = dict.fromkeys(("auroc", "ap", "f1_max", "pro", "legacy_pro")), None


def assert_agrees(maps: np.ndarray, masks: np.ndarray) -> dict[str, float | None]:
    """Compare with scikit-learn and the loops; returns the measures."""
    found, _ = pixel_measures(maps.copy(), masks, legacy_pro=True)
    assert [*found.values()][:3] == pytest.approx(plain_ranking(masks.ravel(), maps.ravel()))
    assert found["pro"] == pytest.approx(plain_pro(maps, masks))
    assert found["legacy_pro"] == pytest.approx(plain_legacy_pro(maps, masks))
    return found


def example(shape: tuple[int, int, int] = (5, 17, 13), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Maps whose scores are raised within the masks; the first image is normal."""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.normal(size=shape), (0, 1.5, 1.5)) > 0.15
    masks[0] = False
    return (rng.normal(size=shape) + 1.5 * masks).astype(np.float32), masks


@pytest.mark.parametrize("seed", range(5))
def test_random_maps(seed):
    assert_agrees(*example(seed=seed))


@pytest.mark.parametrize("step", [0.25, 1.0, 4.0])
def test_ties(step):
    maps, masks = example()
    maps = np.round(maps / step) * step
    assert len(np.unique(maps)) < 40
    assert_agrees(maps, masks)


def test_scores_that_equal_the_legacy_thresholds():
    maps, masks = example()
    maps = np.round(np.interp(maps, (maps.min(), maps.max()), (0, 200))).astype(np.float32)
    assert (maps.min(), maps.max()) == (0, 200)  # so that the thresholds are whole numbers, too
    assert_agrees(maps, masks)


def test_one_tie_across_the_limit():
    """All scores equal: the curve is the diagonal, whose area up to 0.3 is 0.3^2 / 2."""
    maps, masks = example()
    maps[:] = -0.7
    found = assert_agrees(maps, masks)
    assert found["auroc"] == 0.5
    assert found["pro"] == pytest.approx(0.15)
    assert found["legacy_pro"] is None


def test_perfect_and_worst_scores():
    _, masks = example()
    best, worst = masks.astype(np.float32), (~masks).astype(np.float32)
    found, _ = pixel_measures(best, masks)
    assert found.pop("legacy_pro") is None  # as it was not asked for
    assert found == pytest.approx({"auroc": 1, "ap": 1, "f1_max": 1, "pro": 1})
    found, _ = pixel_measures(worst, masks)
    assert (found["auroc"], found["pro"]) == (0, 0)


def test_regions_weigh_the_same_whatever_their_size():
    maps, masks = np.zeros((1, 20, 20), np.float32), np.zeros((1, 20, 20), bool)
    masks[0, 2:12, 2:12] = masks[0, 15, 15] = True
    maps[0, 15, 15] = 1  # only the region of one pixel is found, the rest is one tie
    assert pixel_measures(maps.copy(), masks)[0]["pro"] == pytest.approx(0.5 + 0.5 * 0.15)
    assert_agrees(maps, masks)


def test_regions_join_diagonally_but_not_across_borders_or_images():
    maps, _ = example((3, 6, 6))
    masks = np.zeros(maps.shape, bool)
    masks[0, 1:3, 1:3] = masks[0, 3, 3] = masks[0, 5, :] = True
    masks[1, 0, :] = masks[1, 3:, 0] = masks[2, -1, -1] = masks[2, 0, 0] = True
    assert len(regions_of(masks)) == 6
    assert_agrees(maps, masks)


@pytest.mark.parametrize("digits", [0, 5])
def test_more_scores_than_a_block(monkeypatch, digits):
    maps, masks = example()
    maps = maps.round(digits)
    monkeypatch.setattr(regions, "BLOCK", 7)
    assert np.count_nonzero(masks) > 10 * regions.BLOCK
    assert_agrees(maps, masks)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_small_cases(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    levels = st.integers(-4, 4).map(lambda level: level / 4)
    maps = data.draw(hnp.arrays(np.float32, shape, elements=levels))
    masks = data.draw(hnp.arrays(np.bool_, shape))
    if masks.all() or not masks.any():
        assert pixel_measures(maps, masks, legacy_pro=True) == UNDEFINED
    else:
        assert_agrees(maps, masks)


def test_one_label_or_no_image_is_undefined():
    maps, masks = example()
    for label in (False, True):
        assert pixel_measures(maps.copy(), np.full_like(masks, label), legacy_pro=True) == UNDEFINED
    assert pixel_measures(maps[:0], masks[:0], legacy_pro=True) == UNDEFINED
    assert ranking_measures(np.array([0.5]), np.array([])) == dict.fromkeys(("auroc", "ap", "f1_max"))
    assert ranking_measures(np.array([]), np.array([0.5])) == dict.fromkeys(("auroc", "ap", "f1_max"))


def test_monotone_map_leaves_the_exact_measures():
    maps, masks = example()
    levels = np.round(maps * 4)
    before, _ = pixel_measures(levels.copy(), masks, legacy_pro=True)
    after, _ = pixel_measures(np.exp2(levels), masks, legacy_pro=True)  # exact: powers of two
    assert abs(after.pop("legacy_pro") - before.pop("legacy_pro")) > 0.01
    assert after == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_name_their_image(value):
    maps, masks = example()
    maps[3, 2, 1] = value
    with pytest.raises(ValueError, match="image 3"):
        pixel_measures(maps, masks)
    with pytest.raises(ValueError, match="anomalous score 1"):
        ranking_measures(np.zeros(3), np.array([0, value]))


def test_wrong_input_is_refused():
    maps, masks = example()
    with pytest.raises(TypeError, match="float64"):
        pixel_measures(maps.astype(np.float64), masks)
    with pytest.raises(TypeError, match="uint8"):
        pixel_measures(maps, masks.astype(np.uint8))
    with pytest.raises(ValueError, match="shape"):
        pixel_measures(maps, masks[:-1])
    with pytest.raises(ValueError, match="contiguous"):
        pixel_measures(maps.transpose(0, 2, 1), masks.transpose(0, 2, 1))


@pytest.mark.parametrize("decimals", [1, 8])
def test_ranking_of_images(decimals):
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(size=40).round(decimals), rng.normal(1, size=25).round(decimals)
    before = normal.copy(), anomalous.copy()
    labels = np.repeat([0, 1], [40, 25])
    found = ranking_measures(normal, anomalous)
    expected = plain_ranking(labels, np.concatenate([normal, anomalous]))
    assert tuple(found.values()) == pytest.approx(expected)
    np.testing.assert_array_equal(normal, before[0])
    np.testing.assert_array_equal(anomalous, before[1])


def peak_memory(images: int) -> int:
    """Bytes needed at the peak beside the maps, for `images` maps of which two are anomalous."""
    rng = np.random.default_rng(0)
    maps = rng.random((images, 256, 256), np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[1, 50:100, 50:100] = masks[-1, 10:20, 10:20] = True
    tracemalloc.start()
    try:
        pixel_measures(maps, masks, legacy_pro=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_normal_images():
    peak_memory(2)  # what libraries keep after their first use is not counted
    one_map = 256 * 256 * 4
    assert peak_memory(32) - peak_memory(8) < one_map
    assert peak_memory(32) < 4 * one_map


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0, 1, -1])), min_size=1, max_size=12))
def test_misranked_is_the_fraction_of_rivals_on_the_wrong_side(items):
    scores, labels = np.array([s for s, _ in items], float), np.array([label for _, label in items])
    found = misranked(scores, labels)
    for score, label, value in zip(scores, labels, found, strict=True):
        rivals = scores[labels == 1 - label] if label >= 0 else np.array([])
        if not rivals.size:
            assert np.isnan(value)
            continue
        wrong = rivals < score if label == 0 else rivals > score
        assert value == pytest.approx(np.mean(wrong + 0.5 * (rivals == score)))
    if {0, 1} <= set(labels):
        expected = 1 - ranking_measures(scores[labels == 0], scores[labels == 1])["auroc"]
        assert found[labels == 0].mean() == pytest.approx(expected)
        assert found[labels == 1].mean() == pytest.approx(expected)
