"""The export of a detector as ONNX, and its comparison with PyTorch."""

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn

from datasets.loader import in_batches
from datasets.photographs import find_photographs
from datasets.transforms import CLIP_MEAN, CLIP_STD, normalised
from engine.calibration import TERMS, Calibration
from engine.detector import Detector
from engine.installation import check_extras
from engine.onnx_predictor import IMAGES, IS_ANOMALOUS, MAP, P_VALUE, TEXT_PROB, ExportRecord, OnnxDetector, write_model
from engine.options import PROJECT
from engine.predicting import Predictor
from engine.prediction_options import DetectorOptions, ExportOptions, Input
from utils.errors import UserError
from utils.evaluation_types import Detector as AnyDetector
from utils.files import output_file
from utils.names import shown
from utils.runtime import progress

TOLERANCE = 1e-4  # of maps and scores by another runtime, as a share of their range
MOST_BYTES = (1 << 31) - (1 << 27)  # of an image tower: a file holds 2 GiB, of which some is left for the rest
DEMO = PROJECT / "data" / "demo"
MOST_COMPARED = 32  # images
THRESHOLDS = ("promised_rate", "text_threshold", "map_threshold", "pixel_threshold")  # of a calibration


class ExportedModel(nn.Module):
    """What an exported model computes of a batch of images: maps, probabilities and, with a calibration, p-values."""

    def __init__(self, detector: AnyDetector, name: str, kind: Input, calibration: Calibration | None) -> None:
        super().__init__()
        self.detector, self.name, self.kind, self.calibration = detector, name, kind, calibration
        self.mean, self.std = (255 * torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """From images as `ExportOptions.input` says them to outputs by name, of which all but the maps are [B]."""
        if self.kind == "nhwc":
            images = images.permute(0, 3, 1, 2)
        if self.kind != "normalised":
            images = (images.float() - self.mean) / self.std
        found = self.detector.predict(images, [self.name])  # whose text is every image's, by broadcasting
        return {MAP: found.maps, TEXT_PROB: found.text_prob, **self._verdict(found.text_prob, found.maps.amax((1, 2)))}

    def _verdict(self, text_prob: Tensor, map_max: Tensor) -> dict[str, Tensor]:
        """Compute the p-value of both scores [B], as `Calibration.p_value`, and compare it with the promised rate.

        The latter is told by the thresholds, as the rate may be rounded otherwise than a p-value.
        """
        normal = self.calibration
        if normal is None:
            return {}
        terms = ((text_prob, normal.text_prob, normal.text_threshold), (map_max, normal.map_max, normal.map_threshold))
        rarest = torch.stack([(torch.tensor(values) >= score[:, None]).sum(1) for score, values, _ in terms]).amin(0)
        p_value = (TERMS * (1 + rarest) / (len(normal.map_max) + 1)).clamp(max=1)
        return {P_VALUE: p_value, IS_ANOMALOUS: torch.stack([score > limit for score, _, limit in terms]).any(0)}


def export(options: ExportOptions) -> int:
    """Write the detector that the options name as ONNX; 1 if it is to be compared with PyTorch, and differs."""
    check_extras("export.py", "onnx", "onnxscript")
    paths = [] if options.verify is None else _paths(options.verify)
    output_file(options.output)  # which may refuse it
    names = [one.name for one in fields(DetectorOptions) if one.name not in ("method", "model")]
    given = options.given(name for name in names if hasattr(options, name))  # alone, as a saved one brings its own
    detector = Detector(options.method, backbone=options.model, saved=options.saved, device="cpu", **given)
    predictor, calibration = detector.predictor, detector.calibration
    reduced = None if predictor.options.precision == "fp32" else predictor.options.precision
    for what, there in (("a memory", predictor.memory), ("tiles", predictor.tiling), (reduced, reduced)):
        if there is not None:
            raise UserError(f"--saved {options.saved} was made with {what}, which cannot be exported: save it without")
    if sum(one.nbytes for one in predictor.backbone.clip.visual.parameters()) > MOST_BYTES:
        raise UserError(f"--model {predictor.backbone.name} is too large: an ONNX file may have 2 GiB; choose another")
    images, dataset = [], predictor.dataset(paths)
    for index in range(len(paths)):  # before what takes long
        _, photograph = dataset[index]
        if isinstance(photograph, UserError):
            raise photograph
        images.append(photograph.image)
    thresholds = {name: getattr(calibration, name) for name in THRESHOLDS} if calibration else {}
    record = ExportRecord(
        origin=predictor.origin,
        notes=predictor.notes,
        calibration=calibration,
        input=options.input,
        one_by_one=predictor.one_by_one,
    )
    said = {"class_names": [predictor.options.object], "opset": options.opset, **thresholds}
    print(shown(f"exporting {predictor.options.object}, which takes a minute or so"))
    model = ExportedModel(predictor.detector, predictor.options.object, options.input, calibration)
    program = trace(model, predictor.image_size, options.opset, one_by_one=predictor.one_by_one)
    program.model.metadata_props.update(record.metadata(**said, preprocessing=_preprocessing(predictor, options.input)))
    write_model(options.output, program.model_proto.SerializeToString())
    print(shown(f"wrote {options.output}, {options.output.stat().st_size / (1 << 20):.1f} MiB"))
    return verify(predictor, calibration, OnnxDetector.load(options.output, "onnxruntime"), images) if paths else 0


def trace(model: ExportedModel, size: int, opset: int, *, one_by_one: bool = False) -> torch.onnx.ONNXProgram:
    """Make a graph of a model for images of a side: for batches of any size, or for one image."""
    batch = 1 if one_by_one else 2
    shape = (batch, size, size, 3) if model.kind == "nhwc" else (batch, 3, size, size)
    example = torch.zeros(shape, dtype=torch.float32 if model.kind == "normalised" else torch.uint8)
    return torch.onnx.export(
        model.eval(),
        (example,),
        input_names=[IMAGES],
        output_names=[MAP, TEXT_PROB, *([P_VALUE, IS_ANOMALOUS] if model.calibration else [])],
        dynamic_shapes={IMAGES: {} if one_by_one else {0: torch.export.Dim("batch")}},
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )


def _preprocessing(predictor: Predictor, kind: Input) -> dict[str, Any]:
    """Describe for other programs what is done to an image before the model gets it."""
    return {
        "colour_order": "RGB",
        "size": predictor.image_size,
        "resize": "bicubic, antialiased, to a square, the aspect not kept (Pillow's BICUBIC)",
        "layout": "nhwc" if kind == "nhwc" else "nchw",
        "dtype": "float32" if kind == "normalised" else "uint8",
        "mean": CLIP_MEAN,  # of values in [0, 1]
        "std": CLIP_STD,
        "normalised_by_the_model": kind != "normalised",
    }


def _paths(inputs: Sequence[str]) -> list[Path]:
    """Choose images to compare on, `MOST_COMPARED` of them at most."""
    check_extras("--verify", "onnxruntime")
    if not inputs and not DEMO.is_dir():
        raise UserError("--verify without images takes those of data/demo: draw them with python demo/draw.py")
    paths = find_photographs(inputs or [str(DEMO / "*" / "test" / "**" / "*.png")], ())
    return paths[:: -(-len(paths) // MOST_COMPARED)]


def verify(
    predictor: Predictor, calibration: Calibration | None, exported: OnnxDetector, images: Sequence[Tensor]
) -> int:
    """Compare an exported model with the detector it was made from, and print by how much they differ; 1 if too much.

    Images are uint8 [3, S, S]. The p-values and verdicts are compared with those that follow from the
    exported model's own scores, as the least rounding of scores changes the rank of an image that was calibrated on.
    """
    name = predictor.options.object
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)  # output -> its values and the right ones
    seconds: Counter[str] = Counter()
    batches = [normalised(torch.stack(one)) for one in in_batches(images, predictor.options.batch_size)]
    for number, batch in enumerate(progress([batches[0], *batches], unit="batch", desc="comparing")):
        began = perf_counter()
        own = predictor.detector.predict(batch, [name] * len(batch))
        between = perf_counter()
        found = exported.outputs(batch)
        if number == 0:  # which warms up
            continue
        seconds += Counter({"PyTorch": between - began, "onnxruntime": perf_counter() - between})
        pairs[MAP].append((found[MAP], own.maps.numpy()))
        pairs[TEXT_PROB].append((found[TEXT_PROB], own.text_prob.numpy()))
        if calibration is not None:
            scores = list(zip(found[TEXT_PROB].tolist(), found[MAP].max((1, 2)).tolist(), strict=True))
            pairs[P_VALUE].append((found[P_VALUE], np.array([calibration.p_value(*one) for one in scores])))
            verdicts = [calibration.score(*one) > 0 for one in scores]
            pairs[IS_ANOMALOUS].append((found[IS_ANOMALOUS], np.array(verdicts)))
    differences = {output: _difference(*map(np.concatenate, zip(*both, strict=True))) for output, both in pairs.items()}
    print(f"largest differences on {len(images)} images, as shares of the largest value ({TOLERANCE:g} is allowed)")
    print(tabulate(differences.items(), headers=("output", "difference"), floatfmt=".1e"))
    ways = ", ".join(f"{way} {total / len(images):.4f}" for way, total in seconds.items())
    print(f"seconds an image: {ways} (threads: {torch.get_num_threads()}, images at once: {len(batches[0])})")
    if all(one <= TOLERANCE for one in differences.values()):  # which what is not a number is not
        return 0
    print("the exported model differs too much: do not use it", file=sys.stderr)
    return 1


def _difference(values: np.ndarray, right: np.ndarray) -> float:
    values, right = values.astype(np.float64), right.astype(np.float64)
    return float(np.abs(values - right).max() / (np.abs(right).max() or 1))
