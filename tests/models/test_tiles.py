"""Windows, their weights and the blended map, against doing it pixel by pixel."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tiles import Tiling, blend_in, cut, windows

extents, overlaps = st.integers(1, 70), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75])


@settings(deadline=None, max_examples=150)
@given(extents, extents, st.integers(1, 24), overlaps)
def test_the_weights_of_all_windows_sum_to_one_in_every_pixel(height, width, side, overlap):
    total = np.zeros((height, width))
    for window in windows(height, width, Tiling(side=side, overlap=overlap)):
        for y, row in zip(range(height)[window.rows], window.row_weights, strict=True):
            for x, column in zip(range(width)[window.columns], window.column_weights, strict=True):
                assert row > 0
                assert column > 0
                total[y, x] += float(row) * float(column)
    np.testing.assert_allclose(total, 1, atol=1e-6)


@settings(deadline=None, max_examples=150)
@given(extents, st.integers(1, 24), overlaps)
def test_windows_lie_inside_overlap_as_asked_and_are_no_more_than_needed(extent, side, overlap):
    found = [window.columns for window in windows(1, extent, Tiling(side=side, overlap=overlap))]
    assert (found[0].start, found[-1].stop) == (0, extent)
    assert {part.stop - part.start for part in found} == {min(side, extent)}
    step = max(1, int(side * (1 - overlap)))
    gaps = [after.start - before.start for before, after in pairwise(found)]
    assert all(1 <= gap <= step for gap in gaps)
    assert len(found) == 1 or (len(found) - 2) * step + side < extent


def blended(picture: np.ndarray, tiling: Tiling, predict) -> torch.Tensor:
    total = torch.zeros(picture.shape[:2])
    for number, window in enumerate(windows(*picture.shape[:2], tiling)):
        blend_in(total, window, predict(number, torch.from_numpy(cut(picture, window, tiling.side))))
    return total


@pytest.mark.parametrize("shape", [(40, 61), (16, 16), (9, 50), (3, 5), (1, 1)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_a_map_that_depends_on_the_pixel_alone_is_as_of_the_whole_picture(shape, overlap):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = blended(picture, Tiling(side=16, overlap=overlap), lambda _, tile: tile[..., 1].float())
    np.testing.assert_allclose(found.numpy(), picture[..., 1], atol=1e-3)


def test_tiles_that_disagree_leave_no_seam():
    """Two neighbours of 0 and 1: from one to the other in the width of their overlap, and by no jump."""
    picture = np.zeros((32, 100, 3), np.uint8)
    found = blended(picture, Tiling(side=32, overlap=0.25), lambda number, _: torch.full((32, 32), float(number % 2)))
    steps = found.diff(dim=1).abs()
    assert (found.min(), found.max()) == (0, 1)
    assert steps.max() < 2 / 8
    assert found.diff(dim=0).abs().max() < 1e-6


def test_a_small_picture_is_continued_by_its_mirror_image():
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=2)
    (window,) = windows(2, 3, Tiling(side=5))
    expected = [[0, 1, 2, 2, 1], [3, 4, 5, 5, 4], [3, 4, 5, 5, 4], [0, 1, 2, 2, 1], [0, 1, 2, 2, 1]]
    np.testing.assert_array_equal(cut(picture, window, 5)[..., 0], expected)
