"""What the page of app.py asks for: detectors, kept from one question to the next, and what is shown of results."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from datasets.registry import get_spec
from engine.detector import Detector, Result
from engine.loading import OF_A_BACKBONE, backbone_from_options
from engine.options import BackboneOptions
from engine.prediction_options import DetectorOptions, PageOptions
from models.backbone import Backbone
from models.fidelity import Fidelity
from utils.errors import UserError
from utils.pictures import ColourScale, fitted, fitted_to, overlay

KEPT = 2  # detectors; they share one backbone
SMALL = 320  # pixels along the longer side, in the gallery
MOST_REGIONS = 10  # that are drawn, of the highest peaks
COLUMNS = ("picture", "verdict", "score", "p-value", "text_prob", "map_max", "regions")


@dataclass(frozen=True)
class Choice:
    """What is chosen on the page, the pictures aside."""

    method: str
    model: str  # "" is that of the adapters' training
    object: str = ""
    checkpoint: str | None = None
    normal: tuple[str, ...] = ()  # pictures to calibrate on
    memory: bool = False  # whether these count for the maps, too
    rate: float = 0.05  # of false alarms


class View(NamedTuple):
    """A picture with its map, as they are shown."""

    title: str
    picture: np.ndarray  # uint8 RGB [h, w, 3]
    scores: np.ndarray  # float32, of any size
    scale: ColourScale
    regions: list[tuple[tuple[int, ...], str]]  # left, top, right and bottom in the picture's pixels, and a label

    def shown(self, opacity: float = 1) -> np.ndarray:
        """Lay the map over the picture, its own opacity times one in [0, 1]: uint8 RGB [h, w, 3]."""
        laid_over = overlay(self.picture, fitted_to(self.picture, self.scores), self.scale)
        return cv2.addWeighted(laid_over, opacity, self.picture, 1 - opacity, 0)

    def outlines(self) -> list[tuple[np.ndarray, str]]:
        """Mark where each region's box is drawn, uint8 [h, w] of 0 and 1, with its label."""
        size, width = self.picture.shape[:2], 1 + max(self.picture.shape) // 256
        return [
            (cv2.rectangle(np.zeros(size, np.uint8), (left, top), (right, bottom), 1, width), label)
            for (left, top, right, bottom), label in self.regions
        ]

    def small(self) -> np.ndarray:
        """Make the picture with the map for the gallery, uint8 RGB."""
        return self._replace(picture=fitted(self.picture, SMALL)).shown()


class Findings(NamedTuple):
    """What is said of several pictures."""

    verdict: str
    views: list[View]  # of those that could be read
    rows: list[list[Any]]  # of a table, by `COLUMNS`
    notes: list[str]  # warnings and errors


class Inspector:
    """Answers the page, one question at a time; the `options` hold where the page has no choice."""

    def __init__(self, options: PageOptions) -> None:
        self.options = options
        model, checkpoint = options.model or ("" if options.checkpoint else "demo"), options.checkpoint
        of_normal = {"memory": options.normal_memory, "rate": options.false_alarm_rate}
        self.first = Choice(options.method, model, options.object or "", checkpoint and str(checkpoint), **of_normal)
        self.detector = lru_cache(KEPT)(self._detector)
        self._loaded: tuple[str, Backbone] | None = None

    def inspect(self, paths: Sequence[str], choice: Choice, advance: Callable[[], object] = lambda: None) -> Findings:
        """Predict pictures; `advance` is called after each."""
        if not paths:
            raise UserError("there are no pictures: upload one or several")
        with _warnings() as notes:
            detector, said = self.detector(choice)
            began = perf_counter()
            results = copy(detector).each(paths, advance)  # a copy warns each time
            seconds = perf_counter() - began
        notes, views, rows = [*said, *notes], [], []
        for path, result in zip(paths, results, strict=True):
            name = Path(path).name
            if isinstance(result, UserError):
                notes.append(str(result).replace(str(path), name))
                rows.append([name, "not read", *[None] * (len(COLUMNS) - 2)])
                continue
            views.append(_view(name, result))
            scores = (result.score, result.p_value, result.text_prob, result.map_max)
            marked = None if result.regions is None else len(result.regions)
            rows.append([name, _verdict(result), *(score and round(score, 4) for score in scores), marked])
        return Findings(_summary(results, seconds), views, rows, list(dict.fromkeys(notes)))

    def _detector(self, choice: Choice) -> tuple[Detector, list[str]]:
        """Make the detector that is chosen, calibrated if there are normal pictures; and list what is warned of."""
        given = self.options.given(one.name for one in fields(DetectorOptions) if one.name not in CHOSEN)
        if choice.model != self.first.model:
            given = {name: value for name, value in given.items() if name not in OF_A_BACKBONE}
        if choice.method == "sdp" and choice.model == "demo":
            given.setdefault("smoothing", get_spec("demo").smoothing)
        given |= {"object": choice.object.strip() or None, "backbone": choice.model or None}
        given["checkpoint"] = choice.checkpoint
        normal = choice.normal or self.options.normal_dir
        with _warnings() as said:
            detector = Detector(choice.method, load=self._backbone, **given)
            if normal:
                detector.calibrate(normal, choice.rate, memory=choice.memory)
        return detector, said

    def _backbone(self, options: BackboneOptions, fidelity: Fidelity, device: torch.device) -> Backbone:
        """Load a backbone, or take the one that was loaded last."""
        key = repr(([getattr(options, one.name) for one in fields(BackboneOptions)], fidelity, device))
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # before another takes as much memory
            self.detector.cache_clear()
            self._loaded = key, backbone_from_options(options, fidelity, device)
        return self._loaded[1]


CHOSEN = {one.name for one in fields(Choice)}


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what this thread warns of within a block."""
    said: list[str] = []
    handler, thread, root = logging.Handler(logging.WARNING), threading.get_ident(), logging.getLogger()
    handler.addFilter(lambda record: record.thread == thread)
    handler.emit = lambda record: said.append(record.getMessage())
    root.addHandler(handler)
    try:
        yield said
    finally:
        root.removeHandler(handler)


def _view(name: str, result: Result) -> View:
    prediction, regions = result.prediction, []
    picture = prediction.photograph.picture.numpy()
    factor = picture.shape[1] / prediction.photograph.size[0]
    for number, region in enumerate((result.regions or ())[:MOST_REGIONS], 1):
        x, y, width, height = (region[side] for side in ("x", "y", "width", "height"))
        box = tuple(round(factor * side) for side in (x, y, x + width, y + height))
        regions.append((box, f"{number}: peak {region['peak']:.3g}, {region['area']} px"))
    return View(f"{name}: {_verdict(result)}", picture, prediction.shown_map, result.scale, regions)


def _verdict(result: Result) -> str:
    return {None: "no verdict", False: "normal", True: "anomalous"}[result.is_anomalous]


def _summary(results: Sequence[Result | UserError], seconds: float) -> str:
    read = [result for result in results if isinstance(result, Result)]
    time = f"{seconds / len(results):.2f} s a picture"
    if not read:
        return f"None of {len(results)} could be read" if len(results) > 1 else "It could not be read"
    if read[0].is_anomalous is None:
        return f"No verdict without normal pictures, but maps and scores ({time})"
    if len(results) == 1:
        return f"{_verdict(read[0]).capitalize()}, with a p-value of {read[0].p_value:.3g} ({time})"
    return f"{sum(result.is_anomalous for result in read)} of {len(read)} are anomalous ({time})"
