"""A run as one HTML file that needs no network: images with their maps, scores, curves and measures."""

import base64
import hashlib
import html
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from page.thumbnails import (
    HEAT_BYTES,
    HEAT_LEVELS,
    MAP_SIDE,
    MAX_PICTURES,
    Thumbnail,
    fitted_jpeg,
    heat_map,
    jpeg,
    limits,
    outline,
)
from utils.background import free_cores
from utils.evaluation_types import ClassResult, ImageMap, Writer
from utils.files import atomic_open
from utils.measures.curves import Curves, ranking_curves
from utils.measures.ranking import misranked
from utils.pictures import ColourScale, class_scale, fitted
from utils.results import Run, intervals, mean_result

PAGE = "report.html"
TEMPLATE = Path(__file__).parent / "template"
SCRIPTS = ("scores.js", "drawings.js", "report.js")  # joined to one, in this order
CURVE_DIGITS = 5


class HtmlReport(Writer):
    """Collects what the page shows, class by class, and writes it as report.html.

    The memory it takes is that of the page, and of the reduced maps of classes that are measured. `to_picture` gives
    the image of an `ImageMap` as an uint8 RGB picture [h, w, 3]; a score above the `threshold`, which is calibrated if
    there is one, counts as anomalous. `outlines` says what the images' masks are, and `unread`, by path, why images are
    missing.
    """

    needs_images = True

    def __init__(
        self,
        run: Run,
        to_picture: Callable[[ImageMap], np.ndarray],
        threshold: float | None = None,
        outlines: str = "Ground truth",
    ) -> None:
        self.run, self.to_picture, self.threshold, self.outlines = run, to_picture, threshold, outlines
        self.unread: dict[str, str] = {}
        threads = max(1, free_cores())
        self.pool, self.most = ThreadPoolExecutor(threads, "thumbnails"), 2 * threads  # to be made
        self.side, self.image_bytes, self.heat_bytes, self.outline_bytes = limits(run.images)
        self.thumbnails: list[Callable[[], Thumbnail]] = []  # of the classes that are not done; waits for each
        self.results: list[ClassResult] = []
        self.classes: list[dict[str, Any]] = []  # what the page says of the results
        self.rows: list[str] = []  # JSON, which takes a fraction of the memory of dictionaries

    def make_thumbnail(self, image: ImageMap) -> Thumbnail:
        """Make what the page shows of an image, the smaller the more there are."""
        picture = jpeg(self.to_picture(image), self.side, self.image_bytes)
        scores = fitted(image.anomaly_map, MAP_SIDE)
        return Thumbnail(picture, scores, None if image.mask is None else outline(image.mask, self.outline_bytes))

    def image(self, image: ImageMap) -> None:
        image = image._replace(anomaly_map=fitted(image.anomaly_map, MAP_SIDE).copy())  # not a view of a whole batch
        self.thumbnails.append(self.pool.submit(self.make_thumbnail, image).result)
        if len(self.thumbnails) > self.most:  # as many images are held, and the batches that they came in
            self.thumbnails[-1 - self.most]()

    def class_done(
        self, result: ClassResult, more: Sequence[dict[str, Any]] = (), scale: ColourScale | None = None
    ) -> None:
        """Take the scores and measures of the class whose thumbnails were taken first, in their order.

        `more` may have each image's `p_value`, and `href`, a link to its file; the colours' `scale` is that of the
        class by default.
        """
        scores = np.array([image.score for image in result.images])
        labels = np.array([image.label for image in result.images], float)  # NaN where there is none
        wrong = misranked(scores, labels)
        worst = np.lexsort([-scores, -np.nan_to_num(wrong)]).tolist()
        shown = set(worst[: max(1, MAX_PICTURES * len(worst) // self.run.images)])  # which have a picture
        # Beside these there may be some of the next class; what goes wrong with one of those does not concern this one.
        own = [thumbnail() for thumbnail in self.thumbnails[: len(scores)]]
        scale = scale or class_scale([thumbnail.scores for thumbnail in own])
        rows = []
        for i, (score, thumbnail) in enumerate(zip(result.images, own, strict=True)):
            row = score._asdict() | {"misranked": None if np.isnan(wrong[i]) else float(wrong[i])}
            row |= more[i] if more else {}
            if i in shown:
                image, aspect = fitted_jpeg(thumbnail.image, self.side, self.image_bytes)
                heat = _base64(heat_map(thumbnail.scores, scale, self.heat_bytes))
                drawn = thumbnail.outline if len(thumbnail.outline or "") <= self.outline_bytes else None
                row["picture"] = {"image": _base64(image), "heat": heat, "outline": drawn, "aspect": aspect}
            rows.append(_json(row))
        about = {
            "name": result.name,
            "scale": [scale.low, scale.high],
            "measures": result.measures,
            "intervals": intervals(self.run.bootstrap, result),
            "notes": result.notes,
            "kinds": result.kinds,
            "pixel_curves": _points(result.pixel_curves),
            "image_curves": _points(ranking_curves(*(np.sort(scores[labels == label]) for label in (0, 1)))),
        }
        self.restore(result, (about, rows))
        del self.thumbnails[: len(own)]

    def kept(self) -> tuple[dict[str, Any], list[str]]:
        return self.classes[-1], self.rows[-len(self.results[-1].images) :]

    def restore(self, result: ClassResult, kept: tuple[dict[str, Any], list[str]]) -> None:
        about, rows = kept
        self.rows += rows  # at once, for the page of a run that is stopped on the way
        self.classes.append(about)
        self.results.append(result)

    def finish(self) -> str | None:
        """Write the page with the classes that are done, if there is one."""
        self.pool.shutdown(cancel_futures=True)  # of a run that is stopped, what has not begun
        if not self.results:
            return None
        run, mean = self.run, mean_result(self.results)
        content = {
            "threshold": self.threshold,
            "colours": _base64(heat_map(np.linspace(0, 1, HEAT_LEVELS)[None], ColourScale(0, 1), HEAT_BYTES)),
            "outlines": self.outlines,
            "unread": self.unread,
            "notes": [*run.origin(self.results), *run.notes],
            "mean": mean.measures,
            "intervals": intervals(run.bootstrap, mean),
            "classes": self.classes,
        }
        title, about = run.heading(len(self.results)), json.dumps(run.description, indent=2, default=str)
        filled_in = {"title": html.escape(title), "about": html.escape(about)}
        for kind, files in (("style", ["report.css"]), ("script", SCRIPTS)):
            filled_in[kind] = "\n".join(map(_template, files))
            # The page runs this very text, and no other.
            filled_in[f"{kind}_hash"] = f"'sha256-{_base64(hashlib.sha256(filled_in[kind].encode()).digest())}'"
        before, after = (Template(part).substitute(filled_in) for part in _template("report.html").split("$data"))
        with atomic_open(run.folder / PAGE) as file:  # image by image, as it is large
            file.write(f'{before}{_json(content)[:-1]},"images":[{self.rows[0]}')
            file.writelines(f",{row}" for row in self.rows[1:])
            file.write(f"]}}{after}")
        return f"to look at them, open {run.folder / PAGE} in a browser"


def _points(curves: Curves | None) -> dict[str, list[list[float]] | None] | None:
    """Give the x and the y of each curve that there is."""
    return curves and {name: None if xy is None else np.round(xy, CURVE_DIGITS).tolist() for name, xy in curves.items()}


def _json(content: Any) -> str:
    """Make JSON that may stand within an HTML page."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _template(name: str) -> str:
    return (TEMPLATE / name).read_text(encoding="utf-8")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
