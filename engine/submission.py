"""Maps of unlabelled images in the form that benchmark.mvtec.com takes those of MVTec AD 2 in."""

from collections import deque
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
from utils.image_writers import ThreadedWriter
from utils.pictures import save_png

RATE = 0.05  # share of normal images that may have a pixel above the threshold


@dataclass
class SubmissionWriter(ThreadedWriter):
    """Writes the map of every unlabelled image at the image's size, float16 TIFF, and what exceeds a threshold as PNG.

    Unless a `threshold` is given it is each class's own, from the maxima of its normal images' maps.
    """

    root: Path  # of the images
    threshold: float | None

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

        def write(i: int) -> None:
            image = maps.samples[i].img_path
            size, _ = size_and_orientation(self.root / image)
            scores = cv2.resize(maps.maps[i], size, interpolation=cv2.INTER_LINEAR)
            with atomic_open(self.path(image), "wb") as file:
                tifffile.imwrite(file, scores.astype(np.float16))
            marked = self.folder / "submission" / "anomaly_images_thresholded" / Path(image)
            save_png(marked.with_suffix(".png"), np.uint8(255) * (scores > threshold))

        images = [(i, sample) for i, sample in enumerate(maps.samples) if sample.anomaly is None]
        taken = [i for i, sample in images if self.takes(sample.img_path)]
        deque(self.pool.map(write, taken), maxlen=0)  # raises what went wrong

    def is_there(self, result: ClassResult) -> bool:
        return super().is_there(ClassResult(result.name, [one for one in result.images if one.label is None], {}, []))

    def finish(self) -> str:
        super().finish()
        return f"the files to submit are in {self.folder / 'submission'}"
