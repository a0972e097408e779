"""What is written of each photograph as soon as it is known, and of all of them at the end."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.photographs import output_names
from data.prediction import Seen, Unread
from data.prediction_files import PredictionFiles, Row
from datasets.transforms import image_from_tensor
from page.page import HtmlReport
from utils.calibration import Calibration
from utils.evaluation_types import ClassResult, ImageMap, ImageScore
from utils.files import atomic_open
from utils.measures.regions import anomalous_regions, full_size_mask
from utils.visualization import class_scale, overlay, save_png

logger = logging.getLogger(__name__)

SAMPLE = 32  # images that the colour scale is taken from where there is no calibration
PAGE = "report.html"
COLUMNS = ("image_path", "text_prob", "map_max")
CALIBRATED_COLUMNS = ("score", "p_value", "is_anomalous")


class PredictionWriter:
    """Writes what a detector finds on photographs.

    Args:
        args: the options.
        files: the folder.
        paths: the photographs.
        calibration: None where there is none.
    """

    def __init__(
        self, args: argparse.Namespace, files: PredictionFiles, paths: Sequence[Path], calibration: Calibration | None
    ) -> None:
        self.args = args
        self.files = files
        self.paths = [str(path) for path in paths]
        self.names = output_names(paths)
        self.calibration = calibration
        self.threshold = args.threshold if calibration is None else calibration.pixel_threshold
        self.scale = files.scale if calibration is None else calibration.scale
        self.page = HtmlReport(len(paths), lambda seen: image_from_tensor(seen.image))
        self.sample: set[int] = set()  # images that the colour scale waits for
        self.waiting: list[Seen] = []  # those of them that wait for their overlay

    def order(self) -> list[int]:
        """Which photographs to predict, those that the colour scale is taken from first unless it is known."""
        todo = [i for i, path in enumerate(self.paths) if path not in self.files.rows]
        if self.scale is not None or self.args.no_overlays:
            return todo
        count = min(SAMPLE, len(self.paths))
        self.sample = {len(self.paths) * k // count for k in range(count)}
        self.files.drop(self.paths[i] for i in self.sample)
        return sorted(self.sample) + [i for i in todo if i not in self.sample]

    def take(self, one: Seen | Unread) -> None:
        """Write the results of a photograph."""
        if isinstance(one, Seen):
            self._write_maps(one)
            seen = ImageMap(None, one.photograph.image, one.anomaly_map, None)
            self.files.keep_thumbnail(self.paths[one.index], self.page.thumbnail(seen))
        else:
            logger.warning("%s", one.reason)
        if not self.args.no_overlays:
            self._write_overlays(one)
        self.files.add(self._row(one))

    def finish(self, title: str, settings: Mapping[str, Any]) -> int:
        """Write the table and the page, and log a summary; 1 if a photograph could not be predicted, else 0."""
        columns = [*COLUMNS, *(CALIBRATED_COLUMNS if self.calibration else ())]
        columns += ["regions"] if self.threshold is not None else []
        self.files.write_table(self.paths, [*columns, "error"])
        rows = [self.files.rows[path] for path in self.paths]
        failed = [row for row in rows if row.get("error") is not None]
        anomalous = sum(row.get("is_anomalous", False) for row in rows)
        verdict = f", {anomalous} of them anomalous" if self.calibration else ""
        logger.info("%d images predicted%s; %d could not be", len(rows) - len(failed), verdict, len(failed))
        if self._write_page(title, settings, [row for row in rows if row.get("error") is None]):
            logger.info("look at them in %s", self.files.folder / PAGE)
        logger.info("results are in %s", self.files.folder)
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
        if self.threshold is not None:
            regions = anomalous_regions(one.anomaly_map, self.threshold, one.photograph.size)
            row["regions"] = [asdict(region) for region in regions]
        return row

    def _write_maps(self, one: Seen) -> None:
        name = self.names[one.index]
        if self.args.save_maps:
            with atomic_open(self.files.folder / "maps" / f"{name}.npy", "wb") as file:
                np.save(file, one.anomaly_map)
        if self.args.save_masks:
            mask = full_size_mask(one.anomaly_map, self.threshold, one.photograph.size)
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
            self.scale = class_scale(np.stack([seen.anomaly_map for seen in self.waiting]))
        for seen in self.waiting:
            picture = seen.photograph.picture.numpy()
            scores = cv2.resize(seen.anomaly_map, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            path = self.files.folder / "overlays" / f"{self.names[seen.index]}.png"
            save_png(path, overlay(picture, scores, self.scale))
        self.waiting.clear()
        if is_new:  # only now: a run that ends before is to make the overlays of the sample again
            self.files.keep_scale(self.scale)

    def _write_page(self, title: str, settings: Mapping[str, Any], rows: Sequence[Row]) -> bool:
        """Write the page of all images that a small picture was kept of; False if there is none."""
        key = "score" if self.calibration is not None else "map_max"
        shown = []
        for row in rows:
            thumbnail = self.files.thumbnail(row["image_path"])
            if thumbnail is not None:
                self.page.add_thumbnail(thumbnail)
                shown.append(row)
        if not shown:
            return False
        scores = [
            ImageScore(row["image_path"], title, None, row[key], row["text_prob"], row["map_max"]) for row in shown
        ]
        p_values = [row["p_value"] for row in shown] if self.calibration is not None else None
        self.page.end_class(ClassResult(title, scores, {}, []), p_values, self.scale)
        if self.calibration is not None:
            remark = (
                f"scores are standard deviations of {len(self.calibration.map_max)} normal images above the threshold, "
                f"which at most {100 * self.calibration.promised_rate:.1f} % of normal images exceed"
            )
        else:
            remark = "scores are the maxima of the maps; nothing is called anomalous, as there were no normal images"
        # The page calls anomalous what reaches its threshold, and the calibration what exceeds it.
        threshold = float(np.nextafter(0, 1)) if self.calibration is not None else None
        self.page.write(self.files.folder / PAGE, title, settings, [remark], threshold=threshold)
        return True
