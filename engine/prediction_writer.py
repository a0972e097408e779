"""What is written of each photograph as soon as it is known, and of all of them at the end.

That is the settings, a line of JSON for each image and, hidden, a small picture of each.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import NotRequired, TypedDict

from datasets.photographs import output_name
from engine.arrivals import Arrival, FileRecord, file_record
from engine.calibration import Calibration, difference
from engine.detectors import METHODS
from engine.line_writer import LINES, in_words, log_summary, print_line, read_rows
from engine.predicted import Prediction, Row, full_size_mask
from engine.prediction_options import PredictionOptions
from engine.prediction_page import PredictionPage
from utils.background import Background
from utils.errors import UserError
from utils.files import fits, output_file, write_csv, write_json, write_text
from utils.json_files import read_json
from utils.pictures import ColourScale, class_scale, save_map, save_png

logger = logging.getLogger(__name__)

SETTINGS = "predict.json"
SCALE = "colour_scale"  # of the overlays, beside the settings
FREE = ("environment", "git_commit")  # settings that may differ where a prediction is resumed
SAMPLE = 32  # images that the colour scale is taken from where there is no calibration
AGAIN = "%d images are predicted again: their files are others than they were, or not all that is wanted is there"


class PredictionWriter(AbstractContextManager):
    """Writes what a detector finds on the photographs at `paths`, and keeps what an earlier run left of them.

    The results depend on the `settings`, which must be the earlier run's, whose `calibration`, of the same images, is
    kept. Those that are to be predicted are in `order`, first those that the colour scale is taken from unless it is
    known. Of an image whose file is another than it was, by size and time, or of which a result is missing that is
    wanted now, nothing is kept.

    Of photographs that come one by one, `paths` is None: each is answered by a line on standard output as well.

    Pictures and maps are written by threads, while the detector is at the next ones; a photograph's line is written
    when its files are, in the order of the calls.
    """

    def __init__(
        self,
        options: PredictionOptions,
        settings: Row,
        paths: Sequence[Path] | None,
        calibration: Calibration | None,
        notes: Sequence[str],
    ) -> None:
        self.options, self.folder, self.base = options, options.save_path, Path(settings["folder"])
        self.is_streamed, self.paths = paths is None, list(map(str, paths or ()))
        self.files = {path: file_record(Path(path)) for path in self.paths}  # before they are read
        self.rows: dict[str, Row] = {}  # by path
        self.waiting: dict[str, Prediction] = {}  # of photographs that wait for their overlay
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
            remark = (
                f"scores are standard deviations of {len(calibration.map_max)} normal images above the threshold, "
                f"which at most {100 * calibration.promised_rate:.1f} % of normal images exceed"
            )
        else:
            self.pixel_threshold = options.threshold
            remark = "scores are the maxima of the maps; nothing is called anomalous, as there were no normal images"
        self.notes = [*notes, remark]
        title = f"{METHODS[options.method]().name}: {options.object}"
        self.page = PredictionPage(self.folder, title, None if paths is None else len(paths), calibration)
        sample = self._sample()
        self.expected = SAMPLE if self.is_streamed else len(sample)  # photographs before the colours are known
        known = [path for path in (self.rows if self.is_streamed else self.paths) if path in self.rows]
        self.again = {path for path in known if path in sample or not self._is_done(path)}  # if they come
        if self.again and not self.is_streamed:
            logger.info(AGAIN, len(self.again))
            for path in self.again:
                del self.rows[path]
        write_text(self.folder / LINES, "".join(f"{json.dumps(row)}\n" for row in self.rows.values()))
        todo = (i for i, path in enumerate(self.paths) if path not in self.rows)
        self.order = sorted(todo, key=lambda i: self.paths[i] not in sample)
        self.background = Background(max(1, options.num_workers), 2 * options.batch_size)

    def __exit__(self, *error: Any) -> None:
        self.background.__exit__(*error)

    @property
    def done(self) -> dict[str, FileRecord | None]:
        """By path, the files that are answered already."""
        return {path: row.get("file") for path, row in self.rows.items() if path not in self.again}

    def known(self, arrival: Arrival) -> Row | None:
        """Give what is known of a photograph already, if its file is still the same."""
        path = str(arrival.path)
        row = None if path in self.again else self.rows.get(path)
        return row if row and row.get("error") is None and row.get("file") == arrival.file else None

    def write(self, arrival: Arrival, found: Prediction | UserError | Row) -> None:
        """Write the results of a photograph, or why it could not be predicted; of what is known, say it again."""
        if isinstance(found, dict):
            self.background.do(lambda: found, print_line)
            return
        path, scale = str(arrival.path), self.scale
        results = self._results(path)
        if isinstance(found, Prediction) and not all(map(fits, results.values())):
            found = UserError(f"the name of {path} is too long for what is written beside it: shorten it")
        if isinstance(found, Prediction) and "overlays" in results and scale is None:
            self.waiting[path] = found._replace(anomaly_map=found.shown_map)  # as many may wait
        self.expected -= 1
        self.background.do(
            lambda: self._write_files(path, found, results, scale),
            lambda row: self._write_line({"image_path": path, **row, "file": arrival.file}),
        )
        if self.waiting and self.expected <= 0:
            self._write_overlays()

    def flush(self) -> None:
        """Wait until all is written."""
        self.background.wait()

    def finish(self) -> int:
        """Write the table and the page, and log a summary; 1 if a photograph could not be predicted, else 0."""
        if self.waiting:
            self._write_overlays()
        self.flush()
        rows = list(self.rows.values()) if self.is_streamed else [self.rows[path] for path in self.paths]
        columns = ["image_path", "text_prob", "map_max"]
        columns += ["score", "p_value", "is_anomalous"] if self.calibration else []
        columns += ["regions"] if self.pixel_threshold is not None else []
        columns += ["error"]
        counted = [row | {"regions": len(row["regions"])} if "regions" in row else row for row in rows]
        of_table = [{key: row[key] for key in columns if key in row} for row in counted]
        write_csv(self.folder / "scores.csv", columns, of_table)
        failed = sum(row.get("error") is not None for row in rows)
        anomalous = sum(row.get("is_anomalous", False) for row in rows) if self.calibration else None
        log_summary(len(rows) - failed, anomalous, failed)
        about = self.settings | {"calibration": self.calibration and self.calibration.summary}
        said = self.page.write(rows, self.scale, about, self.notes)
        for message in filter(None, [said, f"results are in {self.folder}"]):
            logger.info("%s", message)
        if not self.is_streamed and len(rows) == 1 and not failed:
            print(in_words(rows[0]))
        return int(failed > 0)

    def _sample(self) -> set[str]:
        """Choose the photographs that the colour scale is taken from; none if it is known.

        Of photographs that come one by one, it is taken from the first, and what was done before that is done again.
        """
        if self.scale is not None or self.options.no_overlays:
            return set()
        if self.is_streamed:
            return set(self.rows)
        count = min(SAMPLE, len(self.paths))
        return {self.paths[len(self.paths) * k // count] for k in range(count)}

    def _results(self, path: str) -> dict[str, Path]:
        """Give where each file of a photograph goes, by folder."""
        options, name = self.options, output_name(path, self.base)
        wanted = {"maps": options.save_maps, "masks": options.save_masks, "overlays": not options.no_overlays}
        suffix = {"maps": ".npy", "masks": ".png", "overlays": ".png"}
        return {kind: self.folder / kind / f"{name}{suffix[kind]}" for kind in wanted if wanted[kind]}

    def _is_done(self, path: str) -> bool:
        """Tell whether an earlier run's results are all that is wanted, of the photograph as it is now."""
        results, file = [*self._results(path).values(), self.page.path(path)], self.rows[path].get("file")
        return file == self.files.get(path, file) and all(fits(one) and one.is_file() for one in results)

    def _write_files(
        self, path: str, found: Prediction | UserError, results: Mapping[str, Path], scale: ColourScale | None
    ) -> Row:
        if isinstance(found, UserError):
            logger.warning("%s", found)
            return {"error": str(found)}
        if "maps" in results:
            save_map(results["maps"], found.anomaly_map)
        if "masks" in results:
            save_png(results["masks"], full_size_mask(found.anomaly_map, self.pixel_threshold, found.photograph.size))
        if "overlays" in results and scale is not None:
            save_png(results["overlays"], found.overlay(scale))
        self.page.keep(path, found, self.pixel_threshold)
        return found.row(self.calibration, self.pixel_threshold)

    def _write_line(self, row: Row) -> None:
        self.rows[row["image_path"]] = row
        self.again.discard(row["image_path"])
        try:
            with output_file(self.folder / LINES).open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row, allow_nan=False)}\n")  # to be found even if the run ends here
        except OSError as error:
            raise UserError(f"cannot write {self.folder / LINES}: {error.strerror}") from error
        if self.is_streamed:
            print_line(row)

    def _write_overlays(self) -> None:
        """Write the overlays that wait, on a colour scale from all of them."""
        self.scale = scale = class_scale([waiting.anomaly_map for waiting in self.waiting.values()])

        def write(path: str, found: Prediction) -> None:
            save_png(self._results(path)["overlays"], found.overlay(scale))

        for one in self.waiting.items():
            self.background.do(partial(write, *one), lambda _: None)
        # Only then: a run that ends before is to make these overlays again.
        self.background.do(lambda: None, lambda _: self._write_settings())
        self.waiting.clear()

    def _write_settings(self) -> None:
        scale = {} if self.scale is None else {SCALE: asdict(self.scale)}
        write_json(self.folder / SETTINGS, {**self.settings, **scale})


@with_config({"extra": "allow"})
class Settings(TypedDict):
    """What is read again of the settings, beside those that are compared."""

    colour_scale: NotRequired[ColourScale]
    calibration: NotRequired[Calibration | None]


def read_settings(path: Path, settings: Row, calibration: Calibration | None) -> Settings:
    """Read the settings of an earlier run, which must be those of this one, and the calibration of the same images."""
    try:
        before = read_json(path, Settings)
    except UserError as error:
        raise UserError(f"{error}; nothing can go on here: delete the folder, or choose another") from error
    found = difference(before, {key: value for key, value in settings.items() if key not in FREE})
    earlier = before.get("calibration")
    same = earlier.agrees_with(calibration) if earlier and calibration else earlier is calibration
    if not found and not same:
        found = "another calibration than this run"
    if found:
        raise UserError(f"{path} has {found}: give the same, or choose another --save_path")
    return before
