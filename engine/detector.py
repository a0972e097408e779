"""The detectors for Python: pictures in, scores, maps and regions out; see `hubconf.py` for how to get one."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from datasets.images import ImageSource
from datasets.intensity import find_range
from datasets.photographs import find_photographs
from engine.calibration import Calibration, read_calibration
from engine.loading import Loader, backbone_from_options
from engine.normal_memory import make_memory
from engine.options import named_backbone
from engine.predicted import Prediction
from engine.predicting import Found, Predictor, calibrate
from engine.prediction_options import NO_TILES, CalibrationOptions, DetectorOptions
from engine.saved_detectors import DetectorRecord, read_detector, write_detector
from utils.arguments import options_from, plain_record
from utils.errors import UserError
from utils.pictures import ColourScale, class_scale

logger = logging.getLogger(__name__)

# Options that a file leaves out: what it holds itself, and what depends on the machine.
NOT_SAVED = {"checkpoint", "calibration", "cache_dir", "device", "compile", "batch_size"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """What a detector says of one picture, in whose pixels the regions are given."""

    score: float  # the map's maximum; with a calibration, standard deviations of normal images above the threshold
    text_prob: float  # how well the picture fits the text of an anomaly, in [0, 1]
    map_max: float  # at the model's size; with tiles, at the picture's
    peak_x: int  # where that is, in the picture's pixels
    peak_y: int
    p_value: float | None = None  # how often, at most, a normal image looks as anomalous; None without a calibration
    is_anomalous: bool | None = None  # None without a calibration
    regions: list[dict[str, float]] | None = None  # box, area and peak of what is marked; None without a threshold
    prediction: Prediction = field(repr=False)
    scale: ColourScale = field(repr=False)  # of the calibration, else of the pictures that were given together

    @cached_property
    def map(self) -> np.ndarray:
        """Compute the anomaly map at the picture's own size, float32 [H, W]."""
        return cv2.resize(self.prediction.anomaly_map, self.prediction.photograph.size, interpolation=cv2.INTER_LINEAR)

    def show(self, scale: ColourScale | None = None) -> Image.Image:
        """Lay the map over the picture, of at most 1024 pixels a side, on its own colour scale or another."""
        return Image.fromarray(self.prediction.overlay(scale or self.scale))

    def _repr_png_(self) -> bytes:  # by which notebooks show it
        return self.show()._repr_png_()


class Detector:
    """Finds anomalies in pictures of one kind of object by SDP, SDP+ or DP-CLIP, as predict.py does.

    The options are predict.py's under their names: `object`, `checkpoint`, `pretrained`, `image_size`, `device`,
    `precision`, `prompts`, `smoothing`, `tile` and so on (`DetectorOptions`); `backbone` is its `--model`. A detector
    that was saved brings its own. A mistake is a `UserError` of one sentence, which calls the options as the command
    line does. Nothing is printed; warnings are logged.
    """

    def __init__(
        self,
        method: str,
        *,
        backbone: str | Path | None = None,
        saved: str | Path | None = None,
        load: Loader = backbone_from_options,
        **options: Any,
    ) -> None:
        given = {name: value for name, value in (*options.items(), ("model", backbone)) if value is not None}
        file = None if saved is None else read_detector(Path(saved))
        if file is not None:
            if (made := file.record.origin.get("method")) != method:
                raise UserError(f"{saved} holds a detector of {made}: load it as that, not as {method}")
            if "prompts" in given:
                file = file._replace(record=replace(file.record, prompts=None))
            unless_given = {"threshold": None} if "calibration" in given else {}  # which brings one
            given = file.record.options | unless_given | given
        self.options = options_from(DetectorOptions, {**given, "method": method})
        if file is not None and file.record.calibration is not None and self.options.threshold is not None:
            raise UserError(f"--threshold: {saved} has a calibration, which brings the threshold; leave it out")
        if self.options.intensity == "auto":
            raise UserError("--intensity auto needs all images at once: give full or LO,HI")
        intensity, _ = find_range(self.options.intensity, [])
        with torch.random.fork_rng(devices=[]):  # as adapters draw weights before their own are loaded
            self.predictor = Predictor(self.options, intensity, file, load)
        self.calibration: Calibration | None = file and file.record.calibration
        if self.options.calibration is not None:
            self.calibration = read_calibration(self.options.calibration, self.predictor.origin)
        self._has_warned = False

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> Result | list[Result]:
        """Predict one picture, or several in batches: paths, pictures of Pillow and arrays of NumPy (RGB).

        A folder stands for the images in it. All are read as predict.py reads files: upright by EXIF, 16 bits by their
        range, without alpha.
        """
        if isinstance(images, ImageSource) and not _is_folder(images):
            return self([images])[0]
        found: list[Prediction] = []
        for _, prediction in self._predict(_listed(images), self.predictor):
            if isinstance(prediction, UserError):
                raise prediction
            found.append(prediction)
        return self._results(found)

    def each(
        self, images: Iterable[ImageSource] | str | Path, advance: Callable[[], object] = lambda: None
    ) -> list[Result | UserError]:
        """Predict as a call does, with the error in the place of each picture that cannot be predicted.

        What is done after each picture is called by `advance`, as of a bar of progress.
        """
        found: list[Prediction | UserError] = []
        for _, prediction in self._predict(_listed(images), self.predictor):
            found.append(prediction)
            advance()
        results = iter(self._results([one for one in found if isinstance(one, Prediction)]))
        return [next(results) if isinstance(one, Prediction) else one for one in found]

    def _results(self, found: Sequence[Prediction]) -> list[Result]:
        """Make the results of pictures that were given together."""
        calibration, threshold = self.calibration, self.options.threshold
        if calibration is not None:
            scale, threshold = calibration.scale, calibration.pixel_threshold
        elif found:
            scale = class_scale([prediction.shown_map for prediction in found])
        results = []
        for prediction in found:
            row = prediction.row(calibration, threshold)
            results.append(Result(**{"score": row["map_max"], **row}, prediction=prediction, scale=scale))
        return results

    def calibrate(
        self, normal_images: Iterable[ImageSource] | str | Path, false_alarm_rate: float = 0.05, *, memory: bool = False
    ) -> None:
        """Find thresholds from pictures of normal objects, or a folder of them, as `predict.py --normal_dir` does.

        Of normal pictures taken alike, at most the share `false_alarm_rate` is then called anomalous. Two pictures are
        the least, and 39 are needed for 0.05; with fewer, a warning says which rate holds. With a `memory`, maps also
        say how far patches are from those of the normal pictures, as with `--normal_memory`.
        """
        rate = options_from(CalibrationOptions, {"false_alarm_rate": false_alarm_rate}).false_alarm_rate
        if memory and self.options.tile is not None:
            raise UserError(NO_TILES)
        pictures, place, predictor = _listed(normal_images), "normal_images", copy(self.predictor)
        predictor.compare_with(make_memory(predictor, pictures, place) if memory else None)
        found = self._predict(pictures, predictor)
        self.calibration = calibrate(found, pictures, rate, predictor.origin, place)
        self.predictor = predictor  # only now, as what went before stays where that fails
        if self.calibration.shortcoming:
            logger.warning("%s", self.calibration.shortcoming)

    def save(self, path: str | Path) -> None:
        """Write the detector as safetensors: settings, prompts, text features, trained adapters and calibration.

        The backbone's weights are named by their SHA-256 and not included: whoever loads the file needs them as well.
        """
        predictor, trained, memory = self.predictor, self.predictor.checkpoint, self.predictor.memory
        options = {name: value for name, value in plain_record(self.options).items() if name not in NOT_SAVED}
        if self.calibration is not None:
            del options["threshold"]  # the calibration brings one
        record = DetectorRecord(
            options=options | named_backbone(predictor.options),
            origin=predictor.origin,
            prompts=predictor.prompts,
            calibration=self.calibration,
            training=trained and trained.origin,
            remembered=memory.digests if memory else (),
        )
        adapters, tokens = trained.state if trained else {}, memory.tokens if memory else ()
        write_detector(Path(path), record, predictor.text, adapters, tokens)

    def _predict(self, pictures: Sequence[ImageSource], predictor: Predictor) -> Iterator[Found]:
        if not self._has_warned:
            _, said = find_range(self.options.intensity, pictures, self.options.max_pixels, at_once=False)
            for sentence in said:
                logger.warning("%s", sentence)
                self._has_warned = True  # once, as pictures may come one by one
        dataset = predictor.dataset(pictures)
        return predictor.predict_items(dataset[index] for index in range(len(dataset)))


def _is_folder(images: Any) -> bool:
    return isinstance(images, str | Path) and os.path.isdir(images)  # noqa: PTH112 - which any name may be asked


def _listed(images: ImageSource | Iterable[ImageSource]) -> Sequence[ImageSource]:
    """List the pictures one by one; those of a folder are its files."""
    if _is_folder(images):
        return find_photographs([str(images)], ())
    pictures = list(images) if isinstance(images, Iterable) and not isinstance(images, ImageSource) else [images]
    for picture in pictures:
        if not isinstance(picture, ImageSource):
            kind = type(picture).__name__
            raise UserError(f"an image is a path, a picture of Pillow or an array of NumPy, and not of type {kind}")
    return pictures
