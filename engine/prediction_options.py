"""The options of predict.py, export.py and app.py, see `engine.options`."""

from dataclasses import fields
from pathlib import Path
from typing import Literal

from datasets.registry import Domain
from engine.detectors import METHOD_OPTIONS, METHODS
from engine.options import (
    CLIP_AD_FIDELITY,
    DEFAULT_MODEL,
    FIDELITY,
    MODEL,
    BackboneOptions,
    ClipOptions,
    ImageOptions,
    PromptOptions,
    ReadingOptions,
    SeedOptions,
    TileOptions,
)
from models.fidelity import FidelityName
from utils.arguments import FiniteFloat, Options, Port, Rate, Text, flag, option, required

DEFAULT_FOLDER = Path("results/predict")
OF_METHODS = tuple(dict.fromkeys(METHOD_OPTIONS.values()))
NO_TILES = "--normal_memory compares patches of whole images: leave out --tile"
Input = Literal["nhwc", "nchw", "normalised"]  # of an exported model
THRESHOLDS = ("normal_dir", "calibration", "threshold")  # options that bring one


class InputOptions(Options):
    """What is looked at."""

    inputs: tuple[str, ...] = required(
        "image files, folders, patterns in quotes like 'parts/**/*.png', or - for a list on standard input",
        positional=True,
        metavar="INPUT",
    )
    watch: bool = flag("go on with images that come into the folders, until Ctrl-C, each in a line on standard output")


class MethodOptions(Options):
    """What is looked for, and by which method."""

    object: Text | None = option("what is on them, as in 'metal nut'; default: the training's --obj_name, else object")
    method: str = option("the detector", "sdp", choices=METHODS)
    checkpoint: Path | None = option("trained adapters, for all methods but sdp")
    domain: Domain = option(
        "whose prompts to take if --prompts names none, and dp_clip's form of maps and scores", "industrial"
    )


class ThresholdOptions(Options):
    """From which score on something is marked."""

    calibration: Path | None = option("calibration.json of an earlier run, which has thresholds")
    threshold: FiniteFloat | None = option("mark what scores above this on the maps, where there is no calibration")


class CalibrationOptions(Options):
    """What a calibration is made from."""

    normal_dir: Path | None = option("folder of normal images to calibrate on")
    normal_memory: bool = flag("add to the maps how far patches are from those of the normal images")
    false_alarm_rate: Rate = option("share of normal images that may be called anomalous, with --normal_dir", 0.05)


class RuntimeOptions(Options):
    """What runs the model."""

    runtime: Literal["pytorch", "onnxruntime", "openvino"] = option("what runs it; the others run --onnx", "pytorch")
    onnx: Path | None = option("model that export.py wrote, which brings its method, object and weights")

    def mistake(self) -> str | None:
        if (self.runtime == "pytorch") != (self.onnx is None):
            return "--runtime onnxruntime or openvino runs the model that --onnx names: give both, or neither"
        return super().mistake()


class PredictionOutputOptions(Options):
    """What is written, and where to."""

    save_path: Path | None = option(
        f"folder for the results; default: {DEFAULT_FOLDER}; with --watch and - none, as standard output has the lines"
    )
    save_maps: bool = flag("write every anomaly map to maps/ as .npy")
    save_masks: bool = flag("write the marked pixels of every image to masks/ as .png")
    no_overlays: bool = flag("leave out overlays/, the images with their maps")
    resume: bool = flag("go on with the prediction in --save_path")


class ConstructionOptions(MethodOptions, ClipOptions, PromptOptions, *OF_METHODS):
    """What a detector is made of, which an exported one keeps."""

    model: str | None = option(MODEL.format(f"the checkpoint's, else {DEFAULT_MODEL}"))
    fidelity: FidelityName | None = option(FIDELITY.format(f"the checkpoint's; without one, {CLIP_AD_FIDELITY}"))

    def mistake(self) -> str | None:
        others = (kind for kind in OF_METHODS if kind is not METHOD_OPTIONS.get(self.method))
        if idle := self.first_given(one.name for kind in others for one in fields(kind)):
            return f"--{idle} is not an option of --method {self.method}"
        return super().mistake()


class DetectorOptions(ConstructionOptions, ThresholdOptions, BackboneOptions, ImageOptions, TileOptions):
    """What a detector for photographs is made with."""

    def mistake(self) -> str | None:
        given = [name for name in THRESHOLDS if getattr(self, name, None) is not None]
        if len(given) > 1:
            return f"give --{given[0]} or --{given[1]}, not both: each brings the threshold"
        return super().mistake()


class PredictionOptions(
    InputOptions,
    DetectorOptions,
    RuntimeOptions,
    CalibrationOptions,
    SeedOptions,
    ReadingOptions,
    PredictionOutputOptions,
):
    """The options of predict.py."""

    @property
    def is_streamed(self) -> bool:
        """Tell whether images come one by one, and a line to standard output answers each."""
        return self.watch or self.inputs == ("-",)

    def mistake(self) -> str | None:
        if self.onnx is not None and (wrong := self._not_with_onnx()):
            return f"{wrong}: leave it out with --onnx"
        if self.normal_memory and self.normal_dir is None and self.calibration is None:
            return "--normal_memory needs normal images: --normal_dir, or a --calibration that was made with it"
        if self.normal_memory and self.tile is not None:
            return NO_TILES
        if self.normal_dir is None and self.first_given(("false_alarm_rate",)):
            return "--false_alarm_rate goes with --normal_dir: a --calibration keeps the rate that it was made for"
        if self.watch and "-" in self.inputs:
            return "--watch takes folders, not - for a list on standard input"
        if self.is_streamed and self.intensity == "auto":
            return "--intensity auto needs all images at once: give full or LO,HI"
        of_folder = self.first_given(("save_maps", "save_masks", "no_overlays", "resume"))
        if self.is_streamed and self.save_path is None and of_folder:
            return f"--{of_folder} needs a folder for the results: give --save_path"
        if self.save_masks and self.onnx is None and self.first_given(THRESHOLDS) is None:
            return "--save_masks needs what pixels are marked by: --normal_dir, --calibration or --threshold"
        return super().mistake()

    def _not_with_onnx(self) -> str | None:
        """Say which option an exported model has no use for."""
        if name := self.first_given(one.name for one in fields(ConstructionOptions) if one.name != "cache_dir"):
            return f"--{name} is what the exported model brings"
        if self.device not in ("auto", "cpu"):
            return f"--device {self.device} is not where exported models are run"
        if self.precision in ("auto", "fp16") or (self.precision == "bf16" and self.runtime == "onnxruntime"):
            return f"--precision {self.precision} is not one of {self.runtime}'s here"
        idle = self.first_given(("compile", "normal_memory"))
        return idle and f"--{idle} is for PyTorch alone"


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


class ServerOptions(Options):
    """Where the page is."""

    host: str = option("address to listen at; at 0.0.0.0 all that reach this machine may use the page", "127.0.0.1")
    port: Port = option("port to listen at", 7860)


class PageOptions(ServerOptions, DetectorOptions, CalibrationOptions):
    """The options of app.py: what the page begins with, and what cannot be chosen on it."""

    model: str | None = option(MODEL.format("the checkpoint's, else demo"))
