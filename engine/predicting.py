"""Predict photographs of a user's own, with a calibration on normal ones."""

import hashlib
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datasets.photographs import find_photographs
from datasets.registry import get_spec
from engine.calibration import LEAST, Calibration, read_calibration
from engine.detectors import METHODS, warn_of_differences
from engine.loading import backbone_from_options, find_device
from engine.options import resolve
from engine.prediction import Seen, Unread, predict_photographs
from engine.prediction_files import PredictionFiles, check_unused
from engine.prediction_options import PredictionOptions
from engine.prediction_writer import PredictionWriter
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.prompts import read_prompts
from utils.distributed import from_main, is_main
from utils.errors import UserError
from utils.evaluation_types import Detector
from utils.lock import locked
from utils.runtime import environment, git_commit, seed_everything, start_log

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A detector, its backbone, the options with which it was made, and what its scores depend on."""

    detector: Detector
    backbone: Backbone
    options: PredictionOptions
    origin: dict[str, Any]

    def predict(self, paths: Sequence[Path], order: Sequence[int], description: str) -> Iterator[Seen | Unread]:
        """Predict the photographs with the indices `order`, see `predict_photographs`."""
        name = self.options.object
        return predict_photographs(self.detector, self.backbone, name, paths, order, self.options, description)


def predict(options: PredictionOptions) -> int:
    """Predict the photographs that the options name, and write what is found; 1 if one could not be read."""
    paths = from_main(lambda: find_photographs(options.inputs, sys.stdin))
    with locked(options.save_path):
        if is_main() and not options.resume:
            check_unused(options.save_path)
        start_log(options.save_path / "predict.log", append=options.resume)
        seed_everything(options.seed)
        return _predict(_load(options), paths)


def _load(options: PredictionOptions) -> Loaded:
    """Load the method that the options name.

    In released fidelity DP-CLIP's images influence each other within a batch, so they are taken one by one.
    """
    method = METHODS[options.method].load()
    if method.read is None and options.checkpoint is not None:
        raise UserError(f"--method {options.method} takes no --checkpoint; choose another for trained adapters")
    if method.read is not None and options.checkpoint is None:
        raise UserError(f"--method {options.method} needs trained adapters: give them with --checkpoint")
    checkpoint = None if method.read is None else method.read(options.checkpoint)
    spec = replace(get_spec("folder"), domain=options.domain)
    options = resolve(options, spec, **method.defaults(spec), fidelity=checkpoint and checkpoint.fidelity)
    fidelity = Fidelity.named(options.fidelity, method.system)
    if fidelity.grn_over_batch and options.batch_size > 1:
        logger.info("in released fidelity the images of a batch influence each other: they are taken one by one")
        options = replace(options, batch_size=1)
    prompts = read_prompts(options.prompts)
    backbone = backbone_from_options(options, fidelity, find_device(options.device))
    trained = checkpoint and method.load(checkpoint, options, backbone, fidelity)
    text = method.text_features(options, backbone, {options.object: options.object})
    if checkpoint is not None:
        warn_of_differences(checkpoint, backbone, options.fidelity)
    origin = {
        "method": options.method,
        "checkpoint_sha256": checkpoint and checkpoint.sha256,
        "weights_sha256": backbone.weights.sha256,
        "activation": backbone.activation,
        "image_size": backbone.image_size,
        "features_list": list(backbone.features_list),
        "fidelity": options.fidelity,
        "precision": options.precision,
        "prompts_sha256": hashlib.sha256(repr(prompts).encode()).hexdigest(),
        "phrases": [options.object],
        **method.record(options, trained),
    }
    return Loaded(method.detector(options, backbone, fidelity, trained, text), backbone, options, origin)


def _predict(loaded: Loaded, paths: Sequence[Path]) -> int:
    options = loaded.options
    calibration = _calibration(loaded)
    if not is_main():  # it predicts its share, and hands the results to the main process
        for _ in loaded.predict(paths, from_main(list), "predicting"):
            pass
        return 0
    settings = loaded.origin | {
        "calibration": None if calibration is None else asdict(calibration),
        "threshold": options.threshold,
        "environment": environment(loaded.backbone.device),
        "git_commit": git_commit(Path(__file__).parent),
    }
    files = PredictionFiles(options.save_path, settings)
    if calibration is not None:
        calibration.save(options.save_path / "calibration.json")
        _tell(calibration, options.save_path)
    writer = PredictionWriter(options, files, paths, calibration)
    order = from_main(writer.order)
    logger.info("%d images, of which %d are to be predicted now", len(paths), len(order))
    for one in loaded.predict(paths, order, "predicting"):
        writer.write(one)
    return writer.finish()


def _calibration(loaded: Loaded) -> Calibration | None:
    """The calibration that the options name, made from normal images or read from a file; None without either.

    Of several processes the main one alone is given one that is made.

    Raises:
        UserError: there are too few normal images that can be read, or the file does not fit.
    """
    options = loaded.options
    if options.calibration is not None:
        return read_calibration(options.calibration, loaded.origin)
    if options.normal_dir is None:
        return None
    paths = find_photographs([str(options.normal_dir)], ())
    seen = []
    for one in loaded.predict(paths, range(len(paths)), "calibrating"):
        if isinstance(one, Unread):
            logger.warning("left out of the calibration: %s", one.reason)
        else:
            seen.append((one.text_prob, one.map_max))
    if not is_main():
        return None
    if len(seen) < LEAST:
        raise UserError(f"--normal_dir {options.normal_dir}: {len(seen)} images are too few, give at least {LEAST}")
    text_prob, map_max = (list(values) for values in zip(*seen, strict=True))
    return Calibration(text_prob, map_max, options.false_alarm_rate, dict(loaded.origin))


def _tell(calibration: Calibration, folder: Path) -> None:
    """Log what the calibration promises."""
    count = len(calibration.map_max)
    logger.info(
        "calibrated on %d normal images, kept in %s: at most %.1f %% of normal images are called anomalous",
        count,
        folder / "calibration.json",
        100 * calibration.promised_rate,
    )
    if calibration.promised_rate > calibration.rate:
        logger.warning(
            "a false-alarm rate of %g needs %d normal images or more; with %d no less than %.1f %% can be promised",
            calibration.rate,
            calibration.needed_images,
            count,
            100 * calibration.promised_rate,
        )
