"""What a detector says of a photograph, and the connected regions (8 neighbours) of its map above a threshold."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from datasets.photographs import Photograph
from datasets.transforms import PICTURE_SIDE
from engine.calibration import Calibration
from utils.pictures import ColourScale, fitted, fitted_to, overlay

Row = dict[str, Any]  # what is said of a photograph, by key, as JSON has it
REGION = ("x", "y", "width", "height", "area", "peak", "peak_x", "peak_y")  # what is said of one


class Prediction(NamedTuple):
    """What a detector says of a photograph."""

    photograph: Photograph
    anomaly_map: np.ndarray  # float32 [S, S], with tiles [H, W] of the photograph
    text_prob: float  # in [0, 1]

    @property
    def scores(self) -> dict[str, float]:
        return {"text_prob": self.text_prob, "map_max": float(self.anomaly_map.max())}

    def row(self, calibration: Calibration | None, pixel_threshold: float | None) -> Row:
        """Say what is known of it: its scores, with a calibration the verdict, and the regions above a threshold."""
        row = self.scores
        if calibration is not None:
            score, p_value = calibration.score(**row), calibration.p_value(**row)
            row |= {"score": score, "p_value": p_value, "is_anomalous": score > 0}
        if pixel_threshold is not None:
            row["regions"] = anomalous_regions(self.anomaly_map, pixel_threshold, self.photograph.size)
        (height, width), size = self.anomaly_map.shape, self.photograph.size
        down, across = divmod(int(self.anomaly_map.argmax()), width)
        return row | {"peak_x": int((across + 0.5) * size[0] / width), "peak_y": int((down + 0.5) * size[1] / height)}

    @property
    def shown_map(self) -> np.ndarray:
        """Scale the map down to what the picture that is shown may be, float32 [h, w]."""
        return fitted(self.anomaly_map, PICTURE_SIDE)

    def overlay(self, scale: ColourScale) -> np.ndarray:
        """Lay the map over the picture that is shown: uint8 RGB [h, w, 3]."""
        picture = self.photograph.picture.numpy()
        return overlay(picture, fitted_to(picture, self.shown_map), scale)


def anomalous_regions(anomaly_map: np.ndarray, threshold: float, size: tuple[int, int]) -> list[dict[str, float]]:
    """Find the regions of a map [H, W] whose scores exceed a threshold, those with the highest peak first.

    The map is stretched to the photograph's `size` (width, height), in whose pixels the box, the area and the place of
    the highest score are given, under the names in `REGION`. In a photograph smaller than the map, too, a region is at
    least the pixel with its highest score.
    """
    labels, _ = ndimage.label(anomaly_map > threshold, np.ones((3, 3)))
    marked = np.flatnonzero(labels)[::-1]  # few in a large map; of equal scores the first is sorted last
    own, scores = labels.ravel()[marked], anomaly_map.ravel()[marked]
    areas = np.bincount(own)[1:]
    highest = marked[np.lexsort((scores, own))[np.cumsum(areas) - 1]]
    peaks = np.transpose(np.unravel_index(highest, anomaly_map.shape)).tolist()
    across, down = size[0] / anomaly_map.shape[1], size[1] / anomaly_map.shape[0]
    regions = []
    for (rows, columns), area, (row, column) in zip(ndimage.find_objects(labels), areas.tolist(), peaks, strict=True):
        peak_x, peak_y = int((column + 0.5) * across), int((row + 0.5) * down)
        x, y = min(round(columns.start * across), peak_x), min(round(rows.start * down), peak_y)
        right, bottom = max(round(columns.stop * across), peak_x + 1), max(round(rows.stop * down), peak_y + 1)
        box, peak = (x, y, right - x, bottom - y), (float(anomaly_map[row, column]), peak_x, peak_y)
        regions.append(dict(zip(REGION, (*box, max(1, round(area * across * down)), *peak), strict=True)))
    return sorted(regions, key=lambda region: -region["peak"])


def full_size_mask(anomaly_map: np.ndarray, threshold: float, size: tuple[int, int]) -> np.ndarray:
    """Mark the pixels of a photograph of `size` (width, height) that exceed a threshold: uint8, 0 or 255 [H, W]."""
    return cv2.resize(255 * (anomaly_map > threshold).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
