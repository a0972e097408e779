"""Exported models: ONNX with what a detector is made of in its metadata, and predictions by onnxruntime or OpenVINO."""

import hashlib
import json
import logging
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.images import Range
from datasets.transforms import unnormalised
from engine.calibration import Calibration, difference
from engine.installation import check_extras
from engine.options import TILES
from engine.origin import tile_settings
from engine.predicting import Predictor
from engine.prediction_options import THRESHOLDS, Input, PredictionOptions
from engine.tiling import tiling_of
from utils.errors import UserError
from utils.evaluation_types import Prediction
from utils.files import atomic_open, open_regular
from utils.json_files import parse_json

logger = logging.getLogger(__name__)

IMAGES, MAP, TEXT_PROB, P_VALUE, IS_ANOMALOUS = "images", "map", "text_prob", "p_value", "is_anomalous"
Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # of a model: from images to outputs by their names
RECORD, DIGEST = "detector", "content_sha256"  # keys of the metadata
MARK = f"{DIGEST}\x12\x40".encode()  # the latter as protobuf writes it, before a value of so many characters:
LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """What is to be known of an exported model to predict with it."""

    origin: dict[str, Any]  # what its scores depend on, see `Predictor`
    notes: list[str]  # on what it was made with
    calibration: Calibration | None
    input: Input
    one_by_one: bool  # whether it takes a single image

    def metadata(self, **others: Any) -> dict[str, str]:
        """Give the metadata to write: itself for `predict.py`, and its origin and `others` by key for people."""
        said = {key: value for key, value in {**self.origin, **others}.items() if value is not None}
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}
        return texts | {RECORD: json.dumps(asdict(self), allow_nan=False), DIGEST: LENGTH * "0"}


def write_model(path: Path, content: bytes) -> None:
    """Write a serialised model with the digest of its content, atomically."""
    start, digest = _digest(memoryview(content), content.rfind(MARK))
    with atomic_open(path, "wb") as file:
        file.write(content)
        file.seek(start)
        file.write(digest)


def check_model(path: Path) -> str:
    """Refuse a file that is not as `write_model` wrote it; returns the digest of its content."""
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.rfind(MARK)
            with memoryview(content) as view:
                start, digest = _digest(view, place)
            written = content[start : start + LENGTH]
    except (OSError, ValueError) as error:  # ValueError of a name that holds a NUL, and of a file that is empty
        raise UserError(f"--onnx {path}: cannot be read, {getattr(error, 'strerror', None) or error}") from error
    if place < 0:
        raise UserError(f"--onnx {path}: this is no model that export.py wrote, or a part of one; export it again")
    if written != digest:
        raise UserError(f"--onnx {path} is damaged: its content is another than was written; export it again")
    return digest.decode()


def _digest(content: memoryview, place: int) -> tuple[int, bytes]:
    """Find where a serialised model with its mark at `place` has its digest, the SHA-256 of all else, and that."""
    start = place + len(MARK)
    digest = hashlib.sha256(content[:start])
    digest.update(content[start + LENGTH :])
    return start, digest.hexdigest().encode()


def _onnxruntime(path: Path, precision: str) -> tuple[Mapping[str, str], Run]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return session.get_modelmeta().custom_metadata_map, lambda images: dict(
        zip(names, session.run(names, {IMAGES: images}), strict=True)
    )


def _openvino(path: Path, precision: str) -> tuple[Mapping[str, str], Run]:
    import openvino

    core, wanted = openvino.Core(), {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}[precision]
    model = core.read_model(path)
    # It computes in bf16 unasked where the processor can, and in fp32 in spite of being asked where it cannot.
    settings = {"INFERENCE_PRECISION_HINT": wanted, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(model, "CPU", settings)
    if compiled.get_property("INFERENCE_PRECISION_HINT") != wanted:
        raise UserError(f"--precision {precision}: OpenVINO does not compute in it on this processor; leave it out")
    names = [one.any_name for one in compiled.outputs]
    metadata = {key: value.astype(str) for key, value in model.get_rt_info()["framework"].items()}
    return metadata, lambda images: dict(zip(names, compiled([images]).values(), strict=True))


RUNTIMES = {"onnxruntime": _onnxruntime, "openvino": _openvino}


@dataclass(frozen=True)
class OnnxDetector:
    """A detector that is an exported model."""

    record: ExportRecord
    run: Run
    versions: dict[str, str]  # of the runtime, and the digest of the model

    @classmethod
    def load(cls, path: Path, runtime: str, precision: str = "fp32") -> "OnnxDetector":
        """Read a file that export.py wrote, for a runtime."""
        check_extras(f"--runtime {runtime}", runtime)
        digest = check_model(path)
        try:
            metadata, run = RUNTIMES[runtime](path, precision)
        except UserError:
            raise
        except Exception as error:  # each runtime raises errors of its own
            raise UserError(f"--onnx {path}: {runtime} cannot run it: {' '.join(str(error).split())[:200]}") from error
        record = parse_json(metadata[RECORD], ExportRecord, f"--onnx {path}")
        return cls(record, run, {runtime: version(runtime), "exported_model": digest})

    def outputs(self, images: Tensor) -> dict[str, np.ndarray]:
        """Run the model on normalised images, float32 [B, 3, S, S]; returns all its outputs."""
        if self.record.input == "normalised":
            return self.run(images.numpy())
        pixels = unnormalised(images)
        return self.run((pixels.permute(0, 2, 3, 1) if self.record.input == "nhwc" else pixels).contiguous().numpy())

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        """Anomaly maps [B, S, S] and `text_prob` [B] of normalised images [B, 3, S, S] of the one class it knows."""
        found = self.outputs(images)
        return Prediction(torch.from_numpy(found[MAP]), torch.from_numpy(found[TEXT_PROB]))


class OnnxPredictor(Predictor):
    """The detector in the file that `--onnx` names, which brings what it was made of, and perhaps a calibration."""

    def __init__(self, options: PredictionOptions, intensity: Range | None = None) -> None:
        self.detector = detector = OnnxDetector.load(options.onnx, options.runtime, options.precision)
        record, tiles = detector.record, TILES if options.tile is not None else {}
        self.options = options = replace(
            options,
            method=record.origin["method"],
            object=record.origin["phrases"][0],
            batch_size=1 if record.one_by_one else options.batch_size,
            **{name: value for name, value in tiles.items() if getattr(options, name) is None},
        )
        self.intensity, self.tiling, self.versions = intensity, tiling_of(options), detector.versions
        self.device, self.image_size = torch.device("cpu"), record.origin["image_size"]
        run = {"precision": options.precision, "intensity": intensity and list(intensity), **tile_settings(options)}
        self.origin = record.origin | run
        self.notes = [*record.notes, f"run by {options.runtime} in {options.precision}, from {options.onnx.name}"]
        if found := difference({"intensity": record.origin["intensity"]}, {"intensity": run["intensity"]}):
            self.notes.append(f"{options.onnx.name} was exported with {found}")
            logger.warning("%s", self.notes[-1])
        given = [name for name in THRESHOLDS if getattr(options, name) is not None]
        if record.calibration is None:
            if options.save_masks and not given:
                raise UserError(f"--save_masks needs what pixels are marked by, and {options.onnx} has no calibration")
        elif "threshold" in given:
            raise UserError(f"--threshold: {options.onnx} has a calibration, which brings the threshold; leave it out")
        elif not given:
            if found := difference(record.calibration.origin, self.origin):
                raise UserError(f"{options.onnx} was calibrated with {found}: calibrate again with --normal_dir")
            self.calibration = record.calibration
