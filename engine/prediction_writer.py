"""What is written of each photograph as soon as it is known, and of all of them at the end."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from datasets.photographs import output_names
from datasets.transforms import image_from_tensor
from engine.calibration import Calibration
from engine.prediction import Seen, Unread
from engine.prediction_files import PredictionFiles, Row
from engine.prediction_options import PredictionOptions
from page.page import HtmlReport
from utils.evaluation_types import ClassResult, ImageMap, ImageScore
from utils.measures.regions import anomalous_regions, full_size_mask
from utils.pictures import class_scale, overlay, save_map, save_png
from utils.results import Run

logger = logging.getLogger(__name__)

SAMPLE = 32  # images that the colour scale is taken from where there is no calibration
COLUMNS = ("image_path", "text_prob", "map_max")
CALIBRATED_COLUMNS = ("score", "p_value", "is_anomalous")


class PredictionWriter:
    """Writes what a detector finds on the photographs at `paths` into the folder of `files`."""

    def __init__(
        self, options: PredictionOptions, files: PredictionFiles, paths: Sequence[Path], calibration: Calibration | None
    ) -> None:
        self.options = options
        self.files = files
        self.paths = [str(path) for path in paths]
        self.names = output_names(paths)
        self.calibration = calibration
        if calibration is not None:
            self.pixel_threshold, self.scale = calibration.pixel_threshold, calibration.scale
            # The page calls anomalous what reaches its threshold, and the calibration what exceeds it.
            threshold = float(np.nextafter(0, 1))
            remark = (
                f"scores are standard deviations of {len(calibration.map_max)} normal images above the threshold, "
                f"which at most {100 * calibration.promised_rate:.1f} % of normal images exceed"
            )
        else:
            self.pixel_threshold, self.scale, threshold = options.threshold, files.scale, None
            remark = "scores are the maxima of the maps; nothing is called anomalous, as there were no normal images"
        run = Run(
            folder=files.folder,
            title=f"{options.method}: {options.object}",
            images=len(paths),
            classes=1,
            description=files.settings,
            remarks=[remark],
        )
        self.page = HtmlReport(run, lambda image: image_from_tensor(image.image), threshold)
        self.sample: set[int] = set()  # images that the colour scale waits for
        self.waiting: list[Seen] = []  # those of them that wait for their overlay

    def order(self) -> list[int]:
        """Choose the photographs to predict, those first that the colour scale is taken from unless it is known."""
        todo = [i for i, path in enumerate(self.paths) if path not in self.files.rows]
        if self.scale is not None or self.options.no_overlays:
            return todo
        count = min(SAMPLE, len(self.paths))
        self.sample = {len(self.paths) * k // count for k in range(count)}
        self.files.drop(self.paths[i] for i in self.sample)
        return sorted(self.sample) + [i for i in todo if i not in self.sample]

    def write(self, one: Seen | Unread) -> None:
        """Write the results of a photograph."""
        if isinstance(one, Seen):
            self._write_maps(one)
            image = ImageMap(None, one.photograph.image, one.anomaly_map, None, one.text_prob)
            self.files.keep_thumbnail(self.paths[one.index], self.page.make_thumbnail(image))
        else:
            logger.warning("%s", one.reason)
        if not self.options.no_overlays:
            self._write_overlays(one)
        self.files.add(self._row(one))

    def finish(self) -> int:
        """Write the table and the page, and log a summary; 1 if a photograph could not be predicted, else 0."""
        columns = [*COLUMNS, *(CALIBRATED_COLUMNS if self.calibration else ())]
        columns += ["regions"] if self.pixel_threshold is not None else []
        self.files.write_table(self.paths, [*columns, "error"])
        rows = [self.files.rows[path] for path in self.paths]
        predicted = [row for row in rows if row.get("error") is None]
        failed = len(rows) - len(predicted)
        anomalous = sum(row.get("is_anomalous", False) for row in rows)
        verdict = f", {anomalous} of them anomalous" if self.calibration else ""
        logger.info("%d images predicted%s; %d could not be", len(predicted), verdict, failed)
        self._fill_page(predicted)
        for message in filter(None, [self.page.finish(), f"results are in {self.files.folder}"]):
            logger.info("%s", message)
        return 1 if failed else 0

    def _row(self, one: Seen | Unread) -> Row:
        row: Row = {"image_path": self.paths[one.index]}
        if isinstance(one, Unread):
            return row | {"error": one.reason}
        row |= {"text_prob": one.text_prob, "map_max": one.map_max}
        if self.calibration is not None:
            score = self.calibration.score(one.text_prob, one.map_max)
            p_value = self.calibration.p_value(one.text_prob, one.map_max)
            row |= {"score": score, "p_value": p_value, "is_anomalous": score > 0}
        if self.pixel_threshold is not None:
            regions = anomalous_regions(one.anomaly_map, self.pixel_threshold, one.photograph.size)
            row["regions"] = [asdict(region) for region in regions]
        return row

    def _write_maps(self, one: Seen) -> None:
        name = self.names[one.index]
        if self.options.save_maps:
            save_map(self.files.folder / "maps" / f"{name}.npy", one.anomaly_map)
        if self.options.save_masks:
            mask = full_size_mask(one.anomaly_map, self.pixel_threshold, one.photograph.size)
            save_png(self.files.folder / "masks" / f"{name}.png", mask)

    def _write_overlays(self, one: Seen | Unread) -> None:
        """Write the photograph's overlay; those of the sample as soon as all of it is known."""
        if isinstance(one, Seen):
            self.waiting.append(one)
        self.sample.discard(one.index)
        if self.sample or not self.waiting:
            return
        is_new = self.scale is None
        if is_new:
            self.scale = class_scale(np.stack([each.anomaly_map for each in self.waiting]))
        for each in self.waiting:
            picture = each.photograph.picture.numpy()
            scores = cv2.resize(each.anomaly_map, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            path = self.files.folder / "overlays" / f"{self.names[each.index]}.png"
            save_png(path, overlay(picture, scores, self.scale))
        self.waiting.clear()
        if is_new:  # only now: a run that ends before is to make the overlays of the sample again
            self.files.keep_scale(self.scale)

    def _fill_page(self, rows: Sequence[Row]) -> None:
        """Give the page all images that a small picture was kept of."""
        kept = [(row, thumbnail) for row in rows if (thumbnail := self.files.thumbnail(row["image_path"]))]
        if not kept:
            return
        shown, self.page.thumbnails = map(list, zip(*kept, strict=True))
        name, score = self.page.run.title, "map_max" if self.calibration is None else "score"
        images = [
            ImageScore(row["image_path"], name, None, row[score], row["text_prob"], row["map_max"]) for row in shown
        ]
        p_values = None if self.calibration is None else [row["p_value"] for row in shown]
        self.page.class_done(ClassResult(name, images, {}, []), p_values, self.scale)
