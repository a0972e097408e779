"""What is written of each photograph as soon as it is known, and of all of them at the end."""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datasets.photographs import Photograph, output_names
from datasets.transforms import image_from_tensor
from engine import prediction_files as files
from engine.calibration import Calibration
from engine.prediction_options import PredictionOptions
from page.page import HtmlReport
from utils.errors import UserError
from utils.evaluation_types import ClassResult, ImageMap, ImageScore
from utils.files import atomic_open, write_json
from utils.measures.regions import anomalous_regions, full_size_mask
from utils.pictures import ColourScale, class_scale, overlay, save_map, save_png
from utils.results import Run

logger = logging.getLogger(__name__)

SAMPLE = 32  # images that the colour scale is taken from where there is no calibration
SCALE = "colour_scale"  # of the overlays, beside the settings


@dataclass(frozen=True)
class Prediction:
    """What a detector says of a photograph."""

    photograph: Photograph
    anomaly_map: np.ndarray  # float32 [S, S]
    text_prob: float  # in [0, 1]

    @property
    def map_max(self) -> float:
        return float(self.anomaly_map.max())


class PredictionWriter:
    """Writes what a detector finds on the photographs at `paths`, and keeps what an earlier run left of them.

    Args:
        options: `save_path` is where to.
        settings: what the results depend on, which must be the earlier run's.
        paths: of all photographs.
        calibration: what they are judged by, if there is one.
    """

    def __init__(
        self,
        options: PredictionOptions,
        settings: Mapping[str, Any],
        paths: Sequence[Path],
        calibration: Calibration | None,
    ) -> None:
        self.options, self.settings, self.calibration = options, settings, calibration
        self.folder = options.save_path
        self.paths = [str(path) for path in paths]
        self.names = output_names(paths)
        self.rows: dict[str, files.Row] = {}  # by path
        self.sample: set[int] = set()  # photographs that the colour scale waits for
        self.waiting: dict[int, Prediction] = {}  # those of them that wait for their overlay
        scale = None
        if files.holds_prediction(self.folder):
            scale = files.read_settings(self.folder, settings).get(SCALE)
            self.rows = files.read_rows(self.folder)
        self.scale = None if scale is None else ColourScale(**scale)
        self._write_settings()
        files.write_rows(self.folder, self.rows.values())
        if calibration is not None:
            self.pixel_threshold, self.scale = calibration.pixel_threshold, calibration.scale
            # The page calls anomalous what reaches its threshold, and the calibration what exceeds it.
            threshold = float(np.nextafter(0, 1))
            remark = (
                f"scores are standard deviations of {len(calibration.map_max)} normal images above the threshold, "
                f"which at most {100 * calibration.promised_rate:.1f} % of normal images exceed"
            )
        else:
            self.pixel_threshold, threshold = options.threshold, None
            remark = "scores are the maxima of the maps; nothing is called anomalous, as there were no normal images"
        run = Run(
            folder=self.folder,
            title=f"{options.method}: {options.object}",
            images=len(paths),
            classes=1,
            description=settings,
            remarks=[remark],
        )
        self.page = HtmlReport(run, lambda image: image_from_tensor(image.image), threshold)

    def order(self) -> list[int]:
        """Choose the photographs to predict, those first that the colour scale is taken from unless it is known."""
        todo = [i for i, path in enumerate(self.paths) if path not in self.rows]
        if self.scale is not None or self.options.no_overlays:
            return todo
        count = min(SAMPLE, len(self.paths))
        self.sample = {len(self.paths) * k // count for k in range(count)}
        for i in self.sample:
            self.rows.pop(self.paths[i], None)
        files.write_rows(self.folder, self.rows.values())
        return sorted(self.sample) + [i for i in todo if i not in self.sample]

    def write(self, index: int, found: Prediction | UserError) -> None:
        """Write the results of a photograph, or why it could not be predicted."""
        path = self.paths[index]
        if isinstance(found, UserError):
            logger.warning("%s", found)
            row = {"error": str(found)}
        else:
            row = self._scores(found)
            self._write_maps(self.names[index], found)
            image = ImageMap(None, found.photograph.image, found.anomaly_map, None, found.text_prob)
            files.write_thumbnail(self.folder, path, self.page.make_thumbnail(image))
            if not self.options.no_overlays:
                self.waiting[index] = found
        self.sample.discard(index)
        if self.waiting and not self.sample:
            self._write_overlays()
        self.rows[path] = {"image_path": path, **row}
        files.append_row(self.folder, self.rows[path])

    def finish(self) -> int:
        """Write the table and the page, and log a summary; 1 if a photograph could not be predicted, else 0."""
        rows = [self.rows[path] for path in self.paths]
        self._write_table(rows)
        predicted = [row for row in rows if row.get("error") is None]
        failed = len(rows) - len(predicted)
        anomalous = sum(row.get("is_anomalous", False) for row in rows)
        verdict = f", {anomalous} of them anomalous" if self.calibration else ""
        logger.info("%d images predicted%s; %d could not be", len(predicted), verdict, failed)
        self._fill_page(predicted)
        for message in filter(None, [self.page.finish(), f"results are in {self.folder}"]):
            logger.info("%s", message)
        return 1 if failed else 0

    def _scores(self, prediction: Prediction) -> files.Row:
        scores = prediction.text_prob, prediction.map_max
        row = dict(zip(("text_prob", "map_max"), scores, strict=True))
        if self.calibration is not None:
            score = self.calibration.score(*scores)
            row |= {"score": score, "p_value": self.calibration.p_value(*scores), "is_anomalous": score > 0}
        if self.pixel_threshold is not None:
            size = prediction.photograph.size
            row["regions"] = anomalous_regions(prediction.anomaly_map, self.pixel_threshold, size)
        return row

    def _write_maps(self, name: str, prediction: Prediction) -> None:
        if self.options.save_maps:
            save_map(self.folder / "maps" / f"{name}.npy", prediction.anomaly_map)
        if self.options.save_masks:
            mask = full_size_mask(prediction.anomaly_map, self.pixel_threshold, prediction.photograph.size)
            save_png(self.folder / "masks" / f"{name}.png", mask)

    def _write_overlays(self) -> None:
        """Write the overlays that wait, on a colour scale from all of them if there is none yet."""
        is_new = self.scale is None
        if is_new:
            self.scale = class_scale(np.stack([prediction.anomaly_map for prediction in self.waiting.values()]))
        for index, prediction in self.waiting.items():
            picture = prediction.photograph.picture.numpy()
            scores = cv2.resize(prediction.anomaly_map, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            save_png(self.folder / "overlays" / f"{self.names[index]}.png", overlay(picture, scores, self.scale))
        self.waiting.clear()
        if is_new:  # only now: a run that ends before is to make the overlays of the sample again
            self._write_settings()

    def _write_settings(self) -> None:
        scale = {} if self.scale is None else {SCALE: asdict(self.scale)}
        write_json(self.folder / files.SETTINGS, {**self.settings, **scale})

    def _write_table(self, rows: Sequence[files.Row]) -> None:
        """Write the rows as CSV; regions are counted."""
        columns = ["image_path", "text_prob", "map_max"]
        columns += ["score", "p_value", "is_anomalous"] if self.calibration else []
        columns += ["regions"] if self.pixel_threshold is not None else []
        with atomic_open(self.folder / "scores.csv", newline="") as file:
            writer = csv.DictWriter(file, [*columns, "error"], extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                writer.writerow(row | ({"regions": len(row["regions"])} if "regions" in row else {}))

    def _fill_page(self, rows: Sequence[files.Row]) -> None:
        """Give the page all images that a small picture was kept of."""
        thumbnails = {row["image_path"]: files.read_thumbnail(self.folder, row["image_path"]) for row in rows}
        shown = [row for row in rows if thumbnails[row["image_path"]] is not None]
        if not shown:
            return
        self.page.thumbnails = [thumbnails[row["image_path"]] for row in shown]
        name, score = self.page.run.title, "map_max" if self.calibration is None else "score"
        images = [
            ImageScore(row["image_path"], name, None, row[score], row["text_prob"], row["map_max"]) for row in shown
        ]
        p_values = None if self.calibration is None else [row["p_value"] for row in shown]
        self.page.class_done(ClassResult(name, images, {}, []), p_values, self.scale)
