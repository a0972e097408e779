"""Each representative vector against a slow and obvious reference."""

from typing import get_args

import numpy as np
import pytest

from models.representative import KDE_BANDWIDTH, RepVec, RepVecChoice, representative_vector

REP_VECS = get_args(RepVec)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def spread(count: int = 40, size: int = 16, seed: int = 0, noise: float = 1.0) -> np.ndarray:
    """Unit rows about one direction, [count, size]."""
    rng = np.random.default_rng(seed)
    return unit(unit(rng.normal(size=size)) + noise * rng.normal(size=(count, size)) / size**0.5)


def groups(*counts: int, noise: float = 0.05, size: int = 16) -> np.ndarray:
    """Unit rows in tight groups about directions at right angles, shuffled."""
    rng = np.random.default_rng(3)
    centres = np.repeat(np.eye(size)[: len(counts)], counts, axis=0)
    return rng.permutation(unit(centres + noise * rng.normal(size=centres.shape) / size**0.5))


def assert_close(vector: np.ndarray, reference: np.ndarray) -> None:
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, unit(np.asarray(reference)), atol=1e-6)


def mean_row(rows: np.ndarray) -> np.ndarray:
    total = np.zeros(rows.shape[1])
    for row in rows:
        total = total + row
    return total / len(rows)


@pytest.mark.parametrize("method", REP_VECS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_vector_is_of_unit_length_and_single_precision(method, dtype):
    rows = spread().astype(dtype)
    before = rows.copy()
    vector = representative_vector(rows, RepVecChoice(method, 1.0, 5))
    assert (vector.shape, vector.dtype) == ((16,), np.float32)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert vector @ mean_row(rows) > 0
    np.testing.assert_array_equal(rows, before)


def test_mean():
    assert_close(representative_vector(spread(), RepVecChoice()), mean_row(spread()))


@pytest.mark.parametrize("rows", [spread(), spread(5, 64), spread(64, 5, noise=3), groups(7, 20, 4)])
def test_pca_is_the_projection_on_the_leading_eigenvector(rows):
    transposed = rows.T.copy()  # [D, n]
    for column in transposed.T:
        column -= column.sum() / len(column)
    scatter = np.array([[a @ b for a in transposed.T] for b in transposed.T])  # [n, n]
    values, vectors = np.linalg.eigh(scatter)
    leading = max(range(len(values)), key=lambda i: values[i])
    projection = transposed @ vectors[:, leading]
    if projection @ mean_row(rows) < 0:
        projection = -projection
    assert_close(representative_vector(rows, RepVecChoice("pca")), projection)


@pytest.mark.parametrize("seed", range(5))
def test_pca_points_the_way_of_the_mean(seed):
    """Also where the row that weighs most in the component points the other way: the decomposition signs by it."""
    rows = spread(seed=seed)
    contrary = np.vstack([rows, -unit(mean_row(rows))])
    for case in (rows, -rows, contrary, -contrary):
        assert representative_vector(case, RepVecChoice("pca")) @ mean_row(case) > 0


@pytest.mark.parametrize("rows", [spread(), spread(noise=0.2), groups(7, 20, 4)])
def test_kde_is_the_mean_weighted_by_gaussian_kernel_sums(rows):
    total = np.zeros(rows.shape[1])
    for row in rows:
        density = sum(np.exp(-((row - other) @ (row - other)) / (2 * 0.3**2)) for other in rows)
        total += density * row
    assert KDE_BANDWIDTH == 0.3
    vector = representative_vector(rows, RepVecChoice("kde"))
    assert_close(vector, total)
    assert np.abs(vector - unit(mean_row(rows))).max() > 1e-4  # the weights matter


def largest_dbscan_cluster(rows: np.ndarray, eps: float, min_samples: int) -> set[int]:
    """Rows of the largest cluster: core points within reach of one another, and what they reach."""
    near = [{j for j in range(len(rows)) if np.sqrt(((rows[i] - rows[j]) ** 2).sum()) <= eps} for i in range(len(rows))]
    core = {i for i in range(len(rows)) if len(near[i]) >= min_samples}
    clusters, left = [], set(core)
    while left:
        cluster, fringe = set(), [left.pop()]
        while fringe:
            i = fringe.pop()
            cluster |= near[i]
            reached = near[i] & left
            left -= reached
            fringe.extend(reached)
        clusters.append(cluster)
    return max(clusters, key=len)


@pytest.mark.parametrize(
    "rows, eps, min_samples",
    [
        (groups(18, 30, 1, 3), 0.5, 15),
        (groups(30, 18, 16), 0.5, 15),
        (spread(80), 0.75, 15),
        (spread(60, noise=0.8), 0.7, 20),
        (groups(30, 40), 1.5, 25),
    ],
)
def test_dbscan_is_the_mean_of_the_largest_cluster(rows, eps, min_samples):
    cluster = largest_dbscan_cluster(rows, eps, min_samples)
    vector = representative_vector(rows, RepVecChoice("dbscan", eps, min_samples))
    assert_close(vector, mean_row(rows[sorted(cluster)]))


def test_dbscans_cases_leave_rows_out():
    """So that the reference above does more than average everything."""
    assert len(largest_dbscan_cluster(groups(18, 30, 1, 3), 0.5, 15)) == 30
    assert 20 < len(largest_dbscan_cluster(spread(80), 0.75, 15)) < 80
    assert 20 < len(largest_dbscan_cluster(spread(60, noise=0.8), 0.7, 20)) < 60
    assert len(largest_dbscan_cluster(groups(30, 40), 1.5, 25)) == 70


def test_dbscan_without_a_cluster_is_the_mean_and_says_so(warnings_of):
    rows = spread(10)
    vector = representative_vector(rows, RepVecChoice("dbscan", 0.5, 15))
    assert_close(vector, mean_row(rows))
    assert warnings_of() == (
        "no cluster among 10 sentences: their mean is used; a larger --dbscan_eps or smaller --dbscan_min_samples "
        "would find one"
    )


def test_dbscan_with_a_cluster_says_nothing(warnings_of):
    representative_vector(groups(18, 30), RepVecChoice("dbscan"))
    assert warnings_of() == ""


def largest_mean_shift_cluster(rows: np.ndarray, bandwidth: float) -> np.ndarray:
    """Rows whose walk to the mean of all within the bandwidth ends in the place that most walks end in."""
    ends = []
    for row in rows:
        place = row
        for _ in range(30):
            place = rows[np.sqrt(((rows - place) ** 2).sum(axis=1)) <= bandwidth].mean(axis=0)
        ends.append(place)
    same = [[np.linalg.norm(a - b) < 1e-6 for b in ends] for a in ends]
    return rows[max(same, key=sum)]


@pytest.mark.parametrize("rows", [5 * groups(7, 20, 4), 5 * groups(12, 9), groups(7, 20), spread(noise=3)])
def test_mean_shift_is_the_mean_of_the_largest_cluster(rows):
    vector = representative_vector(rows, RepVecChoice("mean_shift"))
    assert_close(vector, mean_row(largest_mean_shift_cluster(rows, bandwidth=2)))


def test_mean_shift_of_unit_rows_is_their_mean():
    """No two of them are further apart than the bandwidth."""
    rows = groups(7, 20, 4)
    assert len(largest_mean_shift_cluster(rows, bandwidth=2)) == 31
    assert len(largest_mean_shift_cluster(5 * rows, bandwidth=2)) == 20
    assert_close(representative_vector(rows, RepVecChoice("mean_shift")), mean_row(rows))


@pytest.mark.parametrize("method", REP_VECS)
def test_the_order_of_the_sentences_does_not_matter(method):
    rows = spread()
    choice = RepVecChoice(method, 1.0, 5)
    shuffled = np.random.default_rng(1).permutation(rows)
    np.testing.assert_allclose(representative_vector(shuffled, choice), representative_vector(rows, choice), atol=1e-6)
