"""The peak and the regions above a threshold, in the photograph's own pixels."""

import numpy as np
import pytest
import torch

from datasets.photographs import Photograph
from engine.predicted import Prediction, anomalous_regions, full_size_mask


@pytest.fixture
def anomaly_map() -> np.ndarray:
    scores = np.zeros((10, 20), np.float32)
    scores[2:4, 3:6] = 1
    scores[3, 4] = 2
    scores[6, 15] = 3
    scores[7, 16] = 1.5  # touches the last one at a corner
    return scores


def test_regions_are_boxes_with_area_and_peak(anomaly_map):
    assert anomalous_regions(anomaly_map, 0.5, (20, 10)) == [
        {"x": 15, "y": 6, "width": 2, "height": 2, "area": 2, "peak": 3, "peak_x": 15, "peak_y": 6},
        {"x": 3, "y": 2, "width": 3, "height": 2, "area": 6, "peak": 2, "peak_x": 4, "peak_y": 3},
    ]


def test_regions_are_stretched_to_the_photograph(anomaly_map):
    region = anomalous_regions(anomaly_map, 0.5, (200, 50))[1]
    assert region == {"x": 30, "y": 10, "width": 30, "height": 10, "area": 300, "peak": 2, "peak_x": 45, "peak_y": 17}


def test_in_a_photograph_smaller_than_the_map_a_region_is_at_least_the_pixel_of_its_peak():
    scores = np.zeros((12, 12), np.float32)
    scores[5, 7] = 1  # columns 3.5 to 4 of 6, rows 1.25 to 1.5 of 3
    (region,) = anomalous_regions(scores, 0.5, (6, 3))
    assert region == {"x": 3, "y": 1, "width": 1, "height": 1, "area": 1, "peak": 1, "peak_x": 3, "peak_y": 1}


def test_a_row_says_where_the_map_is_highest(anomaly_map):
    photograph = Photograph(torch.zeros(3, 4, 4), torch.zeros(4, 4, 3), size=(200, 50))
    row = Prediction(photograph, anomaly_map, 0.5).row(None, None)
    assert row == {"text_prob": 0.5, "map_max": 3, "peak_x": 155, "peak_y": 32}


def test_the_threshold_itself_is_not_anomalous(anomaly_map):
    assert len(anomalous_regions(anomaly_map, 2, (20, 10))) == 1
    assert anomalous_regions(anomaly_map, 3, (20, 10)) == []


def test_masks_have_the_photographs_size(anomaly_map):
    mask = full_size_mask(anomaly_map, 0.5, (40, 20))
    assert mask.shape == (20, 40)
    assert set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal(mask[::2, ::2] > 0, anomaly_map > 0.5)


def test_of_equal_peaks_the_first_row_by_row_is_named():
    scores = np.zeros((6, 6), np.float32)
    scores[1:3, 1:4] = scores[4:, 5] = 1
    scores[1, 1] = 0.6
    assert [(one["peak_x"], one["peak_y"]) for one in anomalous_regions(scores, 0.5, (6, 6))] == [(2, 1), (5, 4)]
