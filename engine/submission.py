"""Maps of unlabelled images in the form that benchmark.mvtec.com takes those of MVTec AD 2 in."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile

from datasets.images import size_and_orientation
from engine.calibration import conformal_quantile
from utils.errors import UserError
from utils.evaluation_types import ClassMaps, ClassResult
from utils.files import atomic_open
from utils.pictures import ImageWriter, save_png

RATE = 0.05  # share of normal images that may have a pixel above the threshold


@dataclass
class SubmissionWriter(ImageWriter):
    """Writes the map of every unlabelled image at the image's size, float16 TIFF, and what exceeds a threshold as PNG.

    Unless a `threshold` is given it is each class's own, from the maxima of its normal images' maps.
    """

    root: Path  # of the images
    threshold: float | None
    needs_maps = maps_in_thread = True

    def path(self, image: str) -> Path:
        return self.folder / "submission" / "anomaly_images" / Path(image).with_suffix(".tiff")

    def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
        labels, threshold = np.array([sample.anomaly for sample in maps.samples]), self.threshold
        if threshold is None:
            normal = maps.map_max[labels == 0]
            if not normal.size:
                name = maps.samples[0].cls_name
                what = f"--submission: {name} has no normal images to threshold by"
                raise UserError(f"{what}: give --submission_threshold")
            threshold = conformal_quantile(normal, max(RATE, 1 / (normal.size + 1)))
        for sample, anomaly_map in zip(maps.samples, maps.maps, strict=True):
            path = self.path(sample.img_path)
            if sample.anomaly is None and self.takes(sample.img_path):
                size, _ = size_and_orientation(self.root / sample.img_path)
                scores = cv2.resize(anomaly_map, size, interpolation=cv2.INTER_LINEAR)
                with atomic_open(path, "wb") as file:
                    tifffile.imwrite(file, scores.astype(np.float16))
                marked = self.folder / "submission" / "anomaly_images_thresholded" / Path(sample.img_path)
                save_png(marked.with_suffix(".png"), np.uint8(255) * (scores > threshold))

    def is_there(self, result: ClassResult) -> bool:
        return super().is_there(ClassResult(result.name, [one for one in result.images if one.label is None], {}, []))

    def finish(self) -> str:
        return f"the files to submit are in {self.folder / 'submission'}"
