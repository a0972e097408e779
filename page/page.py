"""A run as one HTML file that needs no network: images with their maps, scores, curves and measures."""

import base64
import hashlib
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from page.thumbnails import MAX_PICTURES, Thumbnail, heat_map, make_thumbnail
from utils.evaluation_types import ClassResult, ImageMap, Writer
from utils.files import atomic_open
from utils.measures.bootstrap import Bootstrap
from utils.measures.curves import Curves, ranking_curves
from utils.measures.ranking import misranked
from utils.pictures import ColourScale, class_scale
from utils.results import Run, intervals, mean_result

PAGE = "report.html"
TEMPLATE = Path(__file__).parent / "template"
SCRIPTS = ("scores.js", "drawings.js", "report.js")  # joined to one, in this order
CURVE_DIGITS = 5


class HtmlReport(Writer):
    """Collects what the page shows, class by class, and writes it as report.html.

    The memory it takes is that of the page, and of the reduced maps of one class.

    Args:
        run: what is said of it.
        to_picture: gives the image of an `ImageMap` as a square uint8 RGB picture [S, S, 3].
        threshold: score from which on an image counts as anomalous, if there is a calibrated one.
    """

    needs_images = True

    def __init__(self, run: Run, to_picture: Callable[[ImageMap], np.ndarray], threshold: float | None = None) -> None:
        self.run, self.to_picture, self.threshold = run, to_picture, threshold
        self.thumbnails: list[Thumbnail] = []  # of the class that is not done
        self.results: list[ClassResult] = []
        self.rows: list[str] = []  # JSON, which takes a fraction of the memory of dictionaries

    def make_thumbnail(self, image: ImageMap) -> Thumbnail:
        """Make what the page shows of an image."""
        return make_thumbnail(self.to_picture(image), image.anomaly_map, image.mask, self.run.images)

    def image(self, image: ImageMap) -> None:
        self.thumbnails.append(self.make_thumbnail(image))

    def class_done(
        self, result: ClassResult, p_values: Sequence[float] | None = None, scale: ColourScale | None = None
    ) -> None:
        """Take the scores and measures of the class whose thumbnails were taken since the last one, in their order.

        Args:
            result: its images.
            p_values: of the images, where there are any.
            scale: of the maps' colours; None for that of the class.
        """
        wrong = misranked(*_scores_and_labels(result))
        scale = scale or class_scale(np.stack([thumbnail.scores for thumbnail in self.thumbnails]))
        shown = self._worst(result, wrong)
        rows = []
        for i, (score, thumbnail) in enumerate(zip(result.images, self.thumbnails, strict=True)):
            row = asdict(score) | {"class": len(self.results), "misranked": _or_none(wrong[i])}
            del row["class_name"]
            if p_values is not None:
                row["p_value"] = float(p_values[i])
            if i in shown:
                image, heat = map(_base64, (thumbnail.image, heat_map(thumbnail.scores, scale)))
                row["picture"] = {"image": image, "heat": heat, "outline": thumbnail.outline}
            rows.append(_json(row))
        self.rows += rows  # at once, for the page of a run that is stopped on the way
        self.results.append(result)
        self.thumbnails.clear()

    def finish(self) -> str | None:
        """Write the page with the classes that are done, if there is one."""
        if not self.results:
            return None
        run, mean = self.run, mean_result(self.results)
        content = {
            "threshold": self.threshold,
            "notes": run.notes,
            "mean": mean.measures,
            "intervals": intervals(run.bootstrap, mean),
        }
        classes = ",".join(_json(_class_content(result, run.bootstrap)) for result in self.results)
        style, script = _template("report.css"), "\n".join(map(_template, SCRIPTS))
        filled_in = {
            "title": html.escape(run.heading(len(self.results))),
            "about": html.escape(json.dumps(run.description, indent=2, default=str)),
            "style": style,
            "style_hash": _hash(style),
            "script": script,
            "script_hash": _hash(script),
        }
        before, after = (Template(part).substitute(filled_in) for part in _template("report.html").split("$data"))
        with atomic_open(run.folder / PAGE) as file:  # image by image, as it is large
            file.write(f'{before}{_json(content)[:-1]},"classes":[{classes}],"images":[{self.rows[0]}')
            file.writelines(f",{row}" for row in self.rows[1:])
            file.write(f"]}}{after}")
        return f"to look at them, open {run.folder / PAGE} in a browser"

    def _worst(self, result: ClassResult, wrong: np.ndarray) -> set[int]:
        """Choose a class's images that have a picture: the worst ranked if all would be too many for the page."""
        share = max(1, MAX_PICTURES * len(wrong) // self.run.images)
        scores = np.array([image.score for image in result.images])
        order = np.lexsort([-scores, -np.nan_to_num(wrong)])
        return set(order[: share if self.run.images > MAX_PICTURES else None].tolist())


def _class_content(result: ClassResult, bootstrap: Bootstrap | None) -> dict[str, Any]:
    scores, labels = _scores_and_labels(result)
    image_curves = ranking_curves(np.sort(scores[labels == 0]), np.sort(scores[labels == 1]))
    return {
        "name": result.name,
        "measures": result.measures,
        "intervals": intervals(bootstrap, result),
        "notes": result.notes,
        "pixel_curves": _curves_content(result.pixel_curves),
        "image_curves": _curves_content(image_curves),
    }


def _curves_content(curves: Curves | None) -> dict[str, list[list[float]] | None] | None:
    if curves is None:
        return None
    return {
        name: curve and [np.round(values, CURVE_DIGITS).tolist() for values in (curve.x, curve.y)]
        for name, curve in vars(curves).items()
    }


def _scores_and_labels(result: ClassResult) -> tuple[np.ndarray, np.ndarray]:
    """Give the scores [n] of a class, and its labels [n] with -1 where there is none."""
    labels = [-1 if image.label is None else image.label for image in result.images]
    return np.array([image.score for image in result.images]), np.array(labels)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _json(content: Any) -> str:
    """Make JSON that may stand within an HTML page."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _template(name: str) -> str:
    return (TEMPLATE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Make a source of a content security policy: the page runs this very text, and no other."""
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
