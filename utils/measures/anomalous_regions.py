"""Where a map exceeds a threshold: connected regions as boxes in the photograph's own pixels."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Region:
    """A connected region of anomalous pixels; everything but the score in pixels of the photograph.

    Attributes:
        x, y: left and upper edge of its box.
        width, height: of its box.
        area: of the region itself.
        peak: highest score in it.
        peak_x, peak_y: where that is.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float
    peak_x: int
    peak_y: int


def anomalous_regions(anomaly_map: np.ndarray, threshold: float, size: tuple[int, int]) -> list[Region]:
    """The regions above a threshold, those with the highest peak first.

    Args:
        anomaly_map: float32 [H, W].
        threshold: scores above it are anomalous; regions are their 8-connected components.
        size: width and height of the photograph, which the map is stretched to.
    """
    mask = (anomaly_map > threshold).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    across, down = size[0] / anomaly_map.shape[1], size[1] / anomaly_map.shape[0]
    regions = []
    for label in range(1, count):
        left, top, width, height, area = boxes[label].tolist()
        part = (slice(top, top + height), slice(left, left + width))
        inside = np.where(labels[part] == label, anomaly_map[part], -np.inf)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        x, y = round(left * across), round(top * down)
        regions.append(
            Region(
                x=x,
                y=y,
                width=round((left + width) * across) - x,
                height=round((top + height) * down) - y,
                area=round(area * across * down),
                peak=float(inside[row, column]),
                peak_x=int((left + column + 0.5) * across),
                peak_y=int((top + row + 0.5) * down),
            )
        )
    return sorted(regions, key=lambda region: -region.peak)


def full_size_mask(anomaly_map: np.ndarray, threshold: float, size: tuple[int, int]) -> np.ndarray:
    """The pixels of the photograph, of `size` (width, height), that exceed a threshold: uint8, 0 or 255 [H, W]."""
    mask = np.where(anomaly_map > threshold, np.uint8(255), np.uint8(0))
    return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
