"""The options of export.py, see `engine.options`."""

from pathlib import Path
from typing import Literal

from engine.options import ImageOptions
from engine.prediction_options import ConstructionOptions
from utils.arguments import Options, option, required

Input = Literal["nhwc", "nchw", "normalised"]


class FileOptions(Options):
    """What is written."""

    output: Path = required("the ONNX file to write")
    input: Input = option("images as uint8 [B, S, S, 3] or [B, 3, S, S], or normalised float32 [B, 3, S, S]", "nhwc")
    opset: int = option("version of ONNX's operators", 20, choices=range(18, 24))
    verify: tuple[str, ...] | None = option(
        "compare with PyTorch on images, folders or patterns; without any, on data/demo", nargs="*", metavar="IMAGE"
    )


class SourceOptions(Options):
    """What is exported, beside what the options below name."""

    saved: Path | None = option("detector that was saved in Python, which brings the options of its making")
    calibration: Path | None = option("calibration.json of predict.py, for p-values and the verdict")


class ExportOptions(FileOptions, SourceOptions, ConstructionOptions, ImageOptions):
    """The options of export.py."""
