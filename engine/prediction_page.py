"""The page of a prediction, and the small pictures for it, which are kept so that a later run can go on."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from engine.calibration import Calibration
from engine.predicted import Prediction, Row
from page.page import PAGE, HtmlReport
from page.thumbnails import Thumbnail
from utils.evaluation_types import ClassResult, ImageMap, ImageScore
from utils.files import atomic_open
from utils.pictures import ColourScale
from utils.results import Run

GUESS = 100  # images that the sizes of small pictures are made for, where they come one by one


class PredictionPage:
    """Keeps a small picture of each photograph in a folder, and makes the page of them at the end.

    Its images are linked by their way from the folder, so that both can be moved together.
    """

    def __init__(self, folder: Path, title: str, images: int | None, calibration: Calibration | None) -> None:
        self.folder, self.title, self.calibration = folder, title, calibration
        self.made_for = self._page(images or GUESS)

    def _page(self, images: int, about: dict[str, Any] | None = None, notes: Sequence[str] = ()) -> HtmlReport:
        about = {"title": self.title, "description": about or {}, "notes": list(notes)}
        run = Run(folder=self.folder, images=images, classes=1, **about)
        threshold = None if self.calibration is None else 0.0
        return HtmlReport(run, lambda image: image.image.numpy(), threshold, outlines="Marked regions")

    def path(self, photograph: str) -> Path:
        """Give the place where the small picture of a photograph is kept."""
        digest = hashlib.sha256(photograph.encode(errors="surrogateescape")).hexdigest()
        return self.folder / ".thumbnails" / f"{digest}.npz"

    def keep(self, photograph: str, prediction: Prediction, threshold: float | None) -> None:
        """Keep a photograph's small picture, in which is marked what exceeds a threshold."""
        scores, picture = prediction.anomaly_map, prediction.photograph.picture
        marked = None if threshold is None else scores > threshold
        thumbnail = self.made_for.make_thumbnail(ImageMap(None, picture, scores, marked, prediction.text_prob))
        content = {"image": np.frombuffer(thumbnail.image, np.uint8), "scores": thumbnail.scores.astype(np.float16)}
        if thumbnail.outline is not None:
            content["outline"] = np.array(thumbnail.outline)
        with atomic_open(self.path(photograph), "wb") as file:
            np.savez(file, **content)

    def _kept(self, photograph: str) -> Thumbnail | None:
        """Read a photograph's small picture; None where it is gone or damaged."""
        try:
            with np.load(self.path(photograph), allow_pickle=False) as content:
                outline = str(content["outline"]) if "outline" in content else None
                return Thumbnail(content["image"].tobytes(), content["scores"].astype(np.float32), outline)
        except Exception:  # a damaged file makes the reader stumble in many ways
            return None

    def write(
        self, rows: Sequence[Row], scale: ColourScale | None, about: dict[str, Any], notes: Sequence[str]
    ) -> str | None:
        """Write the page of all photographs that a small picture was kept of; returns what to tell the user."""
        shown = [(row, kept) for row in rows if row.get("error") is None and (kept := self._kept(row["image_path"]))]
        if not shown:
            (self.folder / PAGE).unlink(missing_ok=True)  # of an earlier run
            return f"there is no {self.folder / PAGE}, as there is no image to show"
        page, calibrated = self._page(len(shown), about, notes), self.calibration is not None
        page.unread = {row["image_path"]: row["error"] for row in rows if row.get("error") is not None}
        keys = ("score" if calibrated else "map_max", "text_prob", "map_max")
        images = [ImageScore(row["image_path"], self.title, None, *(row[key] for key in keys)) for row, _ in shown]
        more = [{"href": link(row["image_path"], self.folder), "p_value": row.get("p_value")} for row, _ in shown]
        page.thumbnails = [partial(Thumbnail, *kept) for _, kept in shown]
        page.class_done(ClassResult(self.title, images, {}, []), more, scale)
        return page.finish()


def link(path: str, folder: Path) -> str:
    """Make a link to a file for a page in a folder: relative, or absolute where they have but the root in common."""
    target, start = os.path.abspath(path), os.path.abspath(folder)  # noqa: PTH100 - links stay
    if os.path.commonpath([target, start]) == os.path.sep:
        return f"file://{quote(os.fsencode(target))}"
    return quote(os.fsencode(os.path.relpath(target, start)))
