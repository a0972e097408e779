"""Predict photographs of a user's own, with a calibration on normal ones."""

import hashlib
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.loader import in_batches, make_loader
from datasets.photographs import Photograph, PhotographDataset, find_photographs
from datasets.registry import get_spec
from engine.calibration import LEAST, Calibration, read_calibration
from engine.detectors import METHODS
from engine.loading import backbone_from_options, find_device, warn_of_differences
from engine.options import resolve
from engine.prediction_files import holds_prediction
from engine.prediction_options import PredictionOptions
from engine.prediction_writer import Prediction, PredictionWriter
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.prompts import read_prompts
from utils.distributed import from_main, in_turn, is_main, rank, world_size
from utils.errors import UserError
from utils.evaluation_types import Detector
from utils.runtime import environment, git_commit, locked, seed_everything, start_log

logger = logging.getLogger(__name__)


def predict(options: PredictionOptions) -> int:
    """Predict the photographs that the options name, and write what is found; 1 if one could not be read."""
    paths = from_main(lambda: find_photographs(options.inputs, sys.stdin))
    with locked(options.save_path):
        if is_main() and not options.resume and holds_prediction(options.save_path):
            what = f"{options.save_path} holds a prediction already"
            raise UserError(f"{what}: go on with it by --resume, choose another --save_path, or delete it")
        start_log(options.save_path / "predict.log", append=options.resume)
        seed_everything(options.seed)
        return _predict(_load(options), paths)


@dataclass(frozen=True)
class Predictor:
    """A detector, its backbone, the options with which it was made, and what its scores depend on."""

    detector: Detector
    backbone: Backbone
    options: PredictionOptions
    origin: dict[str, Any]

    def predict(
        self, paths: Sequence[Path], order: Sequence[int], description: str
    ) -> Iterator[tuple[int, Prediction | UserError]]:
        """Predict the photographs with the indices `order`; of several processes, the main one is given all.

        Yields:
            which photograph, and what the detector says of it, or why it could not be predicted.
        """
        dataset = PhotographDataset(paths, self.backbone.image_size)
        batches = in_batches(order, self.options.batch_size)[rank() :: world_size()]
        loader = make_loader(dataset, batches, min(self.options.num_workers, len(order)), collate_fn=list)
        bar = {"total": len(order), "unit": "image", "desc": description, "dynamic_ncols": True}
        with logging_redirect_tqdm(), tqdm(**bar, disable=not is_main()) as progress:
            for batch in in_turn(map(self._predict_batch, loader), UserError):
                yield from batch
                progress.update(len(batch))

    def _predict_batch(
        self, items: Sequence[tuple[int, Photograph | UserError]]
    ) -> list[tuple[int, Prediction | UserError]]:
        photographs = [item for _, item in items if isinstance(item, Photograph)]
        found = iter(self._predict_photographs(photographs) if photographs else ())
        return [(index, item if isinstance(item, UserError) else next(found)) for index, item in items]

    def _predict_photographs(self, photographs: Sequence[Photograph]) -> Iterator[Prediction | UserError]:
        images = torch.stack([photograph.image for photograph in photographs]).to(self.backbone.device)
        predicted = self.detector.predict(images, [self.options.object] * len(images))
        maps, text_prob = predicted.maps.float().cpu().numpy(), predicted.text_prob.double().cpu().tolist()
        for photograph, anomaly_map, probability in zip(photographs, maps, text_prob, strict=True):
            if np.isfinite(anomaly_map).all() and np.isfinite(probability):
                yield Prediction(photograph, anomaly_map, probability)
            else:
                yield UserError("the anomaly map has values that are not finite; see --precision and the weights")


def _load(options: PredictionOptions) -> Predictor:
    """Load the method that the options name.

    In released fidelity DP-CLIP's images influence each other within a batch, so they are taken one by one.
    """
    method = METHODS[options.method]()
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
    return Predictor(method.detector(options, backbone, fidelity, trained, text), backbone, options, origin)


def _predict(predictor: Predictor, paths: Sequence[Path]) -> int:
    options = predictor.options
    calibration = _calibration(predictor)
    if not is_main():  # it predicts its share, and hands the results to the main process
        list(predictor.predict(paths, from_main(list), "predicting"))
        return 0
    settings = predictor.origin | {
        "calibration": None if calibration is None else asdict(calibration),
        "threshold": options.threshold,
        "environment": environment(predictor.backbone.device),
        "git_commit": git_commit(Path(__file__).parent),
    }
    writer = PredictionWriter(options, settings, paths, calibration)
    if calibration is not None:
        calibration.save(options.save_path / "calibration.json")
        _tell(calibration, options.save_path)
    order = from_main(writer.order)
    logger.info("%d images, of which %d are to be predicted now", len(paths), len(order))
    for index, found in predictor.predict(paths, order, "predicting"):
        writer.write(index, found)
    return writer.finish()


def _calibration(predictor: Predictor) -> Calibration | None:
    """Make the calibration that the options name from normal images, or read it; None without either.

    Of several processes the main one alone is given one that is made.
    """
    options = predictor.options
    if options.calibration is not None:
        return read_calibration(options.calibration, predictor.origin)
    if options.normal_dir is None:
        return None
    paths = find_photographs([str(options.normal_dir)], ())
    scores = []
    for _, found in predictor.predict(paths, range(len(paths)), "calibrating"):
        if isinstance(found, UserError):
            logger.warning("left out of the calibration: %s", found)
        else:
            scores.append((found.text_prob, found.map_max))
    if not is_main():
        return None
    if len(scores) < LEAST:
        raise UserError(f"--normal_dir {options.normal_dir}: {len(scores)} images are too few, give at least {LEAST}")
    text_prob, map_max = map(list, zip(*scores, strict=True))
    return Calibration(text_prob, map_max, options.false_alarm_rate, dict(predictor.origin))


def _tell(calibration: Calibration, folder: Path) -> None:
    """Log what the calibration promises."""
    count, percent = len(calibration.map_max), 100 * calibration.promised_rate
    said = "calibrated on %d normal images, kept in %s: at most %.1f %% of normal images are called anomalous"
    logger.info(said, count, folder / "calibration.json", percent)
    if calibration.promised_rate > calibration.rate:
        said = "a false-alarm rate of %g needs %d normal images or more; with %d no less than %.1f %% can be promised"
        logger.warning(said, calibration.rate, calibration.needed_images, count, percent)
