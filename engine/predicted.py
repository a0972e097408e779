"""What a detector says of a photograph."""

from typing import NamedTuple

import numpy as np

from datasets.photographs import Photograph
from datasets.transforms import PICTURE_SIDE
from engine.calibration import Calibration
from engine.earlier_prediction import Row
from utils.measures.regions import anomalous_regions, peak_of
from utils.pictures import ColourScale, fitted, fitted_to, overlay


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
        return row | dict(zip(("peak_x", "peak_y"), peak_of(self.anomaly_map, self.photograph.size), strict=True))

    @property
    def shown_map(self) -> np.ndarray:
        """The map no larger than the picture that is shown may be, float32 [h, w]."""
        return fitted(self.anomaly_map, PICTURE_SIDE)

    def overlay(self, scale: ColourScale) -> np.ndarray:
        """Lay the map over the picture that is shown: uint8 RGB [h, w, 3]."""
        picture = self.photograph.picture.numpy()
        return overlay(picture, fitted_to(picture, self.shown_map), scale)
