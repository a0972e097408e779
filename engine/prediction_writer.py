"""What is written of each photograph as soon as it is known, and of all of them at the end.

That is the settings, a line of JSON for each image and, hidden, a small picture of each.
"""

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.photographs import Photograph, output_names
from datasets.transforms import PICTURE_SIDE, image_from_tensor
from engine.calibration import Calibration
from engine.earlier_prediction import LINES, SCALE, SETTINGS, Row, file_record, read_rows, read_settings
from engine.prediction_options import PredictionOptions
from page.page import HtmlReport
from page.thumbnails import Thumbnail
from utils.errors import UserError
from utils.evaluation_types import ClassResult, ImageMap, ImageScore
from utils.files import atomic_open, fits, output_file, write_csv, write_json, write_text
from utils.measures.regions import anomalous_regions, full_size_mask
from utils.pictures import ColourScale, class_scale, fitted, fitted_to, overlay, save_map, save_png
from utils.results import Run

logger = logging.getLogger(__name__)

SAMPLE = 32  # images that the colour scale is taken from where there is no calibration
AGAIN = "%d images are predicted again: their files are others than they were, or not all that is wanted is there"


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
        return row

    @property
    def shown_map(self) -> np.ndarray:
        """The map no larger than the picture that is shown may be, float32 [h, w]."""
        return fitted(self.anomaly_map, PICTURE_SIDE)

    def overlay(self, scale: ColourScale) -> np.ndarray:
        """Lay the map over the picture that is shown: uint8 RGB [h, w, 3]."""
        picture = self.photograph.picture.numpy()
        return overlay(picture, fitted_to(picture, self.shown_map), scale)


class PredictionWriter:
    """Writes what a detector finds on the photographs at `paths`, and keeps what an earlier run left of them.

    The results depend on the `settings`, which must be the earlier run's, whose `calibration`, of the same images, is
    kept. Those that are to be predicted are in `order`, first those that the colour scale is taken from unless it is
    known. Of an image whose file is another than it was, by size and time, or of which a result is missing that is
    wanted now, nothing is kept.
    """

    def __init__(
        self,
        options: PredictionOptions,
        settings: Row,
        paths: Sequence[Path],
        calibration: Calibration | None,
        notes: Sequence[str],
    ) -> None:
        self.options = options
        self.folder, self.paths, self.names = options.save_path, list(map(str, paths)), output_names(paths)
        self.files = [file_record(path) for path in paths]  # before they are read: what changes later is seen
        self.rows: dict[str, Row] = {}  # by path
        self.sample: set[int] = set()  # photographs that the colour scale waits for
        self.waiting: dict[int, Prediction] = {}  # those of them that wait for their overlay
        self.scale: ColourScale | None = None  # of the overlays
        if (self.folder / LINES).exists():
            before = read_settings(self.folder / SETTINGS, settings, calibration)
            self.scale, calibration = before.get(SCALE), before.get("calibration")
            self.rows = read_rows(self.folder / LINES)
        self.calibration = calibration
        self.settings = settings = settings | {"calibration": calibration and asdict(calibration)}
        self._write_settings()
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
        if self.scale is None and not options.no_overlays:
            count = min(SAMPLE, len(paths))
            self.sample = {len(paths) * k // count for k in range(count)}
        known = [i for i, path in enumerate(self.paths) if path in self.rows]
        if again := [self.paths[i] for i in known if i in self.sample or not self._is_done(i)]:
            logger.info(AGAIN, len(again))
            for path in again:
                del self.rows[path]
        write_text(self.folder / LINES, "".join(f"{json.dumps(row)}\n" for row in self.rows.values()))
        todo = (i for i, path in enumerate(self.paths) if path not in self.rows)
        self.order = sorted(todo, key=lambda i: i not in self.sample)
        about = {"title": f"{options.method}: {options.object}", "description": settings, "notes": [*notes, remark]}
        run = Run(folder=self.folder, images=len(paths), classes=1, **about)
        self.page = HtmlReport(run, lambda image: image_from_tensor(image.image), threshold)

    def write(self, index: int, found: Prediction | UserError) -> None:
        """Write the results of a photograph, or why it could not be predicted."""
        path, results = self.paths[index], self._results(index)
        if isinstance(found, Prediction) and not all(map(fits, results.values())):
            found = UserError(f"the name of {path} is too long for what is written beside it: shorten it")
        if isinstance(found, UserError):
            logger.warning("%s", found)
            row = {"error": str(found)}
        else:
            row = found.row(self.calibration, self.pixel_threshold)
            if "maps" in results:
                save_map(results["maps"], found.anomaly_map)
            if "masks" in results:
                mask = full_size_mask(found.anomaly_map, self.pixel_threshold, found.photograph.size)
                save_png(results["masks"], mask)
            self._write_thumbnail(path, found)
            if "overlays" in results:
                self.waiting[index] = found._replace(anomaly_map=found.shown_map)  # as many may wait
        self.sample.discard(index)
        if self.waiting and not self.sample:
            self._write_overlays()
        self.rows[path] = {"image_path": path, **row, "file": self.files[index]}
        try:
            with output_file(self.folder / LINES).open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(self.rows[path], allow_nan=False)}\n")  # to be found even if the run ends here
        except OSError as error:
            raise UserError(f"cannot write {self.folder / LINES}: {error.strerror}") from error

    def finish(self) -> int:
        """Write the table and the page, and log a summary; 1 if a photograph could not be predicted, else 0."""
        rows = [self.rows[path] for path in self.paths]
        columns = ["image_path", "text_prob", "map_max"]
        columns += ["score", "p_value", "is_anomalous"] if self.calibration else []
        columns += ["regions"] if self.pixel_threshold is not None else []
        columns += ["error"]
        counted = [row | {"regions": len(row["regions"])} if "regions" in row else row for row in rows]
        of_table = [{key: row[key] for key in columns if key in row} for row in counted]
        write_csv(self.folder / "scores.csv", columns, of_table)
        predicted = [row for row in rows if row.get("error") is None]
        failed, anomalous = len(rows) - len(predicted), sum(row.get("is_anomalous", False) for row in rows)
        verdict = f", {anomalous} of them anomalous" if self.calibration else ""
        logger.info("%d images predicted%s; %d could not be", len(predicted), verdict, failed)
        # The page has all images that a small picture was kept of.
        kept = [(row, thumbnail) for row in predicted if (thumbnail := self._read_thumbnail(row["image_path"]))]
        if kept:
            shown, self.page.thumbnails = map(list, zip(*kept, strict=True))
            name, keys = self.page.run.title, ("score" if self.calibration else "map_max", "text_prob", "map_max")
            images = [ImageScore(row["image_path"], name, None, *(row[key] for key in keys)) for row in shown]
            p_values = [row["p_value"] for row in shown] if self.calibration else None
            self.page.class_done(ClassResult(name, images, {}, []), p_values, self.scale)
        for message in filter(None, [self.page.finish(), f"results are in {self.folder}"]):
            logger.info("%s", message)
        return 1 if failed else 0

    def _results(self, index: int) -> dict[str, Path]:
        """Where what is written of a photograph goes, by folder."""
        wanted = {"maps": self.options.save_maps, "masks": self.options.save_masks}
        wanted |= {"overlays": not self.options.no_overlays}
        suffixes = {"maps": ".npy", "masks": ".png", "overlays": ".png"}
        return {kind: self.folder / kind / f"{self.names[index]}{suffixes[kind]}" for kind in wanted if wanted[kind]}

    def _is_done(self, index: int) -> bool:
        """Whether what an earlier run left of a photograph is of the file that it is now, and all that is wanted."""
        path = self.paths[index]
        results = [*self._results(index).values(), self._thumbnail_path(path)]
        return self.rows[path].get("file") == self.files[index] and all(fits(one) and one.is_file() for one in results)

    def _write_overlays(self) -> None:
        """Write the overlays that wait, on a colour scale from all of them if there is none yet."""
        scale = self.scale or class_scale([waiting.anomaly_map for waiting in self.waiting.values()])
        for index, prediction in self.waiting.items():
            save_png(self._results(index)["overlays"], prediction.overlay(scale))
        self.waiting.clear()
        if self.scale is None:  # only now: a run that ends before is to make the overlays of the sample again
            self.scale = scale
            self._write_settings()

    def _write_settings(self) -> None:
        scale = {} if self.scale is None else {SCALE: asdict(self.scale)}
        write_json(self.folder / SETTINGS, {**self.settings, **scale})

    def _write_thumbnail(self, path: str, prediction: Prediction) -> None:
        image = ImageMap(None, prediction.photograph.image, prediction.anomaly_map, None, prediction.text_prob)
        thumbnail, buffer = self.page.make_thumbnail(image), io.BytesIO()
        np.savez(buffer, image=np.frombuffer(thumbnail.image, np.uint8), scores=thumbnail.scores.astype(np.float16))
        with atomic_open(self._thumbnail_path(path), "wb") as file:
            file.write(buffer.getvalue())

    def _read_thumbnail(self, path: str) -> Thumbnail | None:
        """Read an image's small picture; None where it is gone or damaged."""
        try:
            with np.load(self._thumbnail_path(path), allow_pickle=False) as content:
                return Thumbnail(content["image"].tobytes(), content["scores"].astype(np.float32), None)
        except Exception:  # a damaged file makes the reader stumble in many ways
            return None

    def _thumbnail_path(self, path: str) -> Path:
        digest = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()
        return self.folder / ".thumbnails" / f"{digest}.npz"
