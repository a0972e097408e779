"""A run as one HTML file that needs no network: images with their maps, scores, curves and measures."""

import base64
import hashlib
import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import IO, Any

import numpy as np

from page.thumbnails import heat_map, jpeg, outline
from utils.evaluation_types import ClassResult, ImageMap
from utils.files import atomic_open
from utils.measures.bootstrap import Bootstrap
from utils.measures.curves import Curve, Curves, ranking_curves
from utils.measures.ranking import misranked
from utils.results import intervals, mean_draws, mean_measures
from utils.visualization import ColourScale, class_scale, fitted

TEMPLATE = Path(__file__).parent / "template"
SCRIPTS = ("scores.js", "plots.js", "elements.js", "report.js")  # joined to one, in this order
MAX_PICTURES = 2000  # of a page; of a class with too many, the images that are ranked worst have one
IMAGE_BYTES = 14 << 20  # of all images on a page, before base64 makes 4/3 of it
JPEG_BYTES_PER_PIXEL = 0.3  # a guess, on the high side, that the images' size is chosen by
IMAGE_SIDES = (128, 384)  # pixels, least and greatest
MAP_SIDE = 96  # pixels; maps are smooth
CURVE_DIGITS = 5
DATA = "<the run's data>"  # stands for them in the template while the rest is filled in


@dataclass(frozen=True)
class Thumbnail:
    """What the page shows of an image.

    Attributes:
        image: JPEG.
        scores: its map, reduced, float32 [h, w].
        outline: of its ground truth, data of an SVG path; None where it is not known.
    """

    image: bytes
    scores: np.ndarray
    outline: str | None


class HtmlReport:
    """Collects what the page shows, class by class, and writes it.

    The memory it takes is that of the page, and of the reduced maps of one class.

    Args:
        images: how many there will be.
        to_picture: gives the image of an `ImageMap` as a square uint8 RGB picture [S, S, 3].
    """

    def __init__(self, images: int, to_picture: Callable[[ImageMap], np.ndarray]) -> None:
        self._images = images
        self._to_picture = to_picture
        self._most_bytes = IMAGE_BYTES // min(images, MAX_PICTURES)
        self._side = int(np.clip((self._most_bytes / JPEG_BYTES_PER_PIXEL) ** 0.5, *IMAGE_SIDES))
        self._thumbnails: list[Thumbnail] = []
        self._results: list[ClassResult] = []
        self._rows: list[str] = []  # JSON, which takes a fraction of the memory of dictionaries

    def thumbnail(self, seen: ImageMap) -> Thumbnail:
        """A small picture of an image."""
        picture = self._to_picture(seen)
        return Thumbnail(
            jpeg(picture, self._side, self._most_bytes),
            fitted(seen.anomaly_map, MAP_SIDE).copy(),  # not a view of a whole batch
            None if seen.mask is None else outline(seen.mask),
        )

    def add_image(self, seen: ImageMap) -> None:
        """Keep a small picture of the next image of the class that `end_class` will end."""
        self.add_thumbnail(self.thumbnail(seen))

    def add_thumbnail(self, thumbnail: Thumbnail) -> None:
        """Keep a picture that `thumbnail` gave, now or in an earlier run."""
        self._thumbnails.append(thumbnail)

    def end_class(
        self, result: ClassResult, p_values: Sequence[float] | None = None, scale: ColourScale | None = None
    ) -> None:
        """Take a class's scores and measures, when all its images were added.

        Args:
            result: of the images added since the last class, in their order.
            p_values: of the images, where there are any.
            scale: of the maps' colours; None for that of the class.
        """
        wrong = misranked(*_scores_and_labels(result))
        scale = scale or class_scale(np.stack([thumbnail.scores for thumbnail in self._thumbnails]))
        shown = self._worst(result, wrong)
        rows = []
        for i, (image, thumbnail) in enumerate(zip(result.images, self._thumbnails, strict=True)):
            row = {key: value for key, value in asdict(image).items() if key != "class_name"}
            row["class"] = len(self._results)
            row["misranked"] = None if np.isnan(wrong[i]) else float(wrong[i])
            if p_values is not None:
                row["p_value"] = float(p_values[i])
            if i in shown:
                row["picture"] = {
                    "image": base64.b64encode(thumbnail.image).decode(),
                    "heat": base64.b64encode(heat_map(thumbnail.scores, scale)).decode(),
                    "outline": thumbnail.outline,
                }
            rows.append(_json(row))
        self._rows += rows  # at once, for the page of a run that is stopped on the way
        self._results.append(result)
        self._thumbnails.clear()

    def write(
        self,
        path: Path,
        title: str,
        about: Mapping[str, Any],
        remarks: Sequence[str] = (),
        *,
        bootstrap: Bootstrap | None = None,
        threshold: float | None = None,
    ) -> None:
        """Write the page with the classes that have ended, at least one.

        Args:
            path: the file.
            title: heading of the page.
            about: how the figures were come by; shown as JSON.
            remarks: notes on the whole, above those of the classes.
            bootstrap: what draws were made with, for the intervals; None if there are none.
            threshold: score from which on an image counts as anomalous, if there is a calibrated one.

        Raises:
            UserError: the file cannot be written.
        """
        content = {
            "threshold": threshold,
            "notes": list(remarks),
            "mean": mean_measures(self._results),
            "intervals": intervals(bootstrap, mean_draws(self._results)) if bootstrap else {},
        }
        style, script = _template("report.css"), "\n".join(map(_template, SCRIPTS))
        page = Template(_template("report.html")).substitute(
            title=html.escape(title),
            about=html.escape(json.dumps(about, indent=2, default=str)),
            data=DATA,
            style=style,
            style_hash=_hash(style),
            script=script,
            script_hash=_hash(script),
        )
        before, after = page.split(DATA)
        with atomic_open(path) as file:  # piece by piece, as it is large
            file.write(f'{before}{_json(content)[:-1]},"classes":[')
            _write_joined(file, (_json(_class_content(result, bootstrap)) for result in self._results))
            file.write('],"images":[')
            _write_joined(file, self._rows)
            file.write(f"]}}{after}")

    def _worst(self, result: ClassResult, wrong: np.ndarray) -> set[int]:
        """Which images of a class have a picture: the worst ranked if all would be too many for the page."""
        share = max(1, MAX_PICTURES * len(wrong) // self._images)
        scores = np.array([image.score for image in result.images])
        order = np.lexsort([-scores, -np.nan_to_num(wrong)])
        return set(order[: share if self._images > MAX_PICTURES else None].tolist())


def _json(content: Any) -> str:
    """JSON that may stand within an HTML page."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _write_joined(file: IO[str], pieces: Iterable[str]) -> None:
    """Write pieces with commas between them."""
    for number, piece in enumerate(pieces):
        file.write(f",{piece}" if number else piece)


def _scores_and_labels(result: ClassResult) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n], and labels [n] with -1 where there is none."""
    labels = [-1 if image.label is None else image.label for image in result.images]
    return np.array([image.score for image in result.images]), np.array(labels)


def _class_content(result: ClassResult, bootstrap: Bootstrap | None) -> dict[str, Any]:
    scores, labels = _scores_and_labels(result)
    image_curves = ranking_curves(np.sort(scores[labels == 0]), np.sort(scores[labels == 1]))
    return {
        "name": result.name,
        "measures": result.measures,
        "intervals": intervals(bootstrap, result.draws) if bootstrap else {},
        "notes": result.notes,
        "pixel_curves": _curves_content(result.pixel_curves),
        "image_curves": _curves_content(image_curves),
    }


def _curves_content(curves: Curves | None) -> dict[str, Any] | None:
    def points(curve: Curve | None) -> list[list[float]] | None:
        return curve and [np.round(values, CURVE_DIGITS).tolist() for values in (curve.x, curve.y)]

    return curves and {"roc": points(curves.roc), "pr": points(curves.pr), "pro": points(curves.pro)}


def _template(name: str) -> str:
    return (TEMPLATE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source of a content security policy: the page runs this very text, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
