"""What the parts of a reproduction take, measured on a few images with untrained models of the same shapes."""

import contextlib
import io
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch
from torch.nn.functional import normalize

from datasets.image_set import ImageSet
from datasets.transforms import image_from_tensor
from engine.data_sets import evaluation_loader
from engine.detectors import METHODS
from engine.dp_clip_training import DPClipTraining
from engine.evaluation import evaluate_and_report
from engine.loading import find_device
from engine.options import resolve
from engine.reproduction_options import ReproductionOptions
from engine.reproduction_plan import Part
from engine.sdp_plus_training import SDPPlusTraining
from engine.testing_options import DPClipOptions, SDPOptions, SDPPlusOptions
from engine.training import Training
from engine.training_options import DPClipTrainingOptions, SDPPlusTrainingOptions
from engine.training_sets import fingerprints
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.linear import use_fastest_kernels
from models.model_config import build_clip, config_digest, read_config
from models.presets import PRESETS
from models.weights import Weights, quick_gelu_weights
from utils.arguments import options_from
from utils.background import free_cores
from utils.runtime import Stopwatch, progress

TESTS = {"sdp": SDPOptions, "sdp_plus": SDPPlusOptions, "dp_clip": DPClipOptions}
TRAININGS: Mapping[str, tuple[type[Training], type]] = {
    "sdp_plus": (SDPPlusTraining, SDPPlusTrainingOptions),
    "dp_clip": (DPClipTraining, DPClipTrainingOptions),
}
PAGE = 30 << 20  # bytes that a page takes at most
IMAGES = {"cpu": 2, "cuda": 8}  # that are measured, half of them normal
STATES = 9  # numbers kept for each trained one: in three files, with both moments of Adam
IMPORT = [sys.executable, "-c", "import engine.testing"]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a kind of part takes, for a run and for each image; its bytes are on the disk."""

    start: float  # seconds of Python, its packages and the model
    image: float  # seconds of a test, or of a training beside its epochs
    step: float = 0.0  # seconds of each epoch of a training
    image_bytes: float  # of a test's results, or of a training's tokens
    run_bytes: float = 0.0

    def of(self, part: Part) -> tuple[float, float]:
        """Estimate seconds and bytes of what is to be done of a part."""
        counts = [part.images_of(images) for images in part.todo()]
        if not counts:
            return 0.0, 0.0
        seconds = self.start + sum(counts) * (self.image + part.options.get("epochs", 0) * self.step)
        written = [count * self.image_bytes for count in counts]
        return seconds, self.run_bytes + sum(written if part.trains else (min(one, PAGE) for one in written))


Kind = tuple[str, str, bool]  # model, method, whether it is a training


def kind_of(part: Part) -> Kind:
    """Tell parts that take as long for each image."""
    return part.model, part.method, part.trains


def measure(parts: Sequence[Part], images: ImageSet, options: ReproductionOptions) -> dict[Kind, Speed]:
    """Measure each kind of part twice in this process, on some of the images, and take the second time.

    The model has the weights that open_clip starts from, which are as much work as any.
    """
    device, speeds = find_device(options.device), {}
    few = _some(images, IMAGES[device.type])
    logging.disable(logging.WARNING)
    try:
        kinds = sorted({kind_of(part): part for part in parts}.values(), key=lambda part: part.model)
        bar = progress(kinds, unit="kind", desc="measuring")
        for model, own in groupby(bar, lambda part: part.model):
            watch = Stopwatch()
            with watch("start"):
                subprocess.run(IMPORT, check=True)
                backbone = _untrained(model, device, options.precision)
            for part in own:
                with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):  # its bars
                    found = (_training if part.trains else _test)(part, few, backbone, Path(folder))
                speeds[kind_of(part)] = Speed(start=watch["start"], **found)
    finally:
        logging.disable(logging.NOTSET)
    return speeds


def _some(images: ImageSet, count: int) -> ImageSet:
    """Choose normal and anomalous images of one class, as many of both, which are all of a kind where it has one."""
    name = next((one.cls_name for one in images.entries if one.mask_path), images.entries[0].cls_name)
    own = [one for one in images.entries if one.cls_name == name]
    masked = [one for one in own if one.mask_path][: count // 2]
    return replace(images, entries=[one for one in own if not one.mask_path][: count - len(masked)] + masked)


def _untrained(model: str, device: torch.device, precision: str) -> Backbone:
    preset = PRESETS[model]
    config, quick_gelu = read_config(preset.model), quick_gelu_weights(preset.model, preset.pretrained)[0]
    clip = build_clip(preset.model, config, preset.image_size, quick_gelu=quick_gelu)
    return Backbone(
        clip=use_fastest_kernels(clip.eval().requires_grad_(False), device, precision),
        name=preset.model,
        weights=Weights(Path("none"), "", None),
        activation="none",
        image_size=preset.image_size,
        features_list=preset.features_list,
        config_sha256=config_digest(config),
        device=device,
        precision=precision,
    )


def _text(backbone: Backbone, count: int) -> torch.Tensor:
    """Draw text features [n, D, 2]."""
    return normalize(torch.randn(count, backbone.clip.visual.proj.shape[1], 2), dim=1).to(backbone.device)


def _test(part: Part, images: ImageSet, backbone: Backbone, folder: Path) -> dict[str, float]:
    method, count = METHODS[part.method](), len(images.entries)
    given = {"dataset": [images.spec.name], "model": part.model, "save_path": folder, "num_workers": 0}
    given |= {"batch_size": count, "bootstrap": part.options["bootstrap"]}
    trained, fidelity = None, Fidelity.named("corrected", method.system)
    if part.method in TRAININGS:
        kind, options_kind = TRAININGS[part.method]
        training = {"train_dataset": given["dataset"], "model": part.model, "save_path": folder}
        trained = kind.untrained(resolve(options_from(options_kind, training)), backbone, fidelity)
        given["checkpoint"] = ["none"]
    options = resolve(options_from(TESTS[part.method], given), images.spec, **method.defaults(images.spec))
    text = dict.fromkeys(images.phrases(), _text(backbone, 1)[0])
    detector = method.detector(options, backbone, fidelity, trained, text)
    for _ in range(2):
        evaluate_and_report(
            detector,
            lambda todo: evaluation_loader(images, backbone, options),
            images,
            options,
            title="",
            description={},
            device=backbone.device,
            stopwatch=(watch := Stopwatch()),
            to_picture=lambda image: image_from_tensor(image.image),
            made_with="",
        )
    readers = max(1, part.running.get("num_workers", free_cores()))
    alone = watch["loading"] / readers - watch["loading"]  # workers read at the same time
    return {"image": (watch.total() + alone) / count, "image_bytes": _size(folder) / count}


def _training(part: Part, images: ImageSet, backbone: Backbone, folder: Path) -> dict[str, float]:
    (kind, options_kind), count = TRAININGS[part.method], len(images.entries)
    given = {"train_dataset": [images.spec.name], "model": part.model, "save_path": folder, "num_workers": 0}
    given["batch_size"] = min(count, part.options["batch_size"])
    known = {"images": [images], "fingerprints": fingerprints([images]), "text": _text(backbone, count)}
    for attempt in range(2):
        cache = folder / str(attempt)
        options, watch = resolve(options_from(options_kind, given | {"cache_dir": cache})), Stopwatch()
        fidelity = Fidelity.named(options.fidelity, METHODS[part.method]().system)
        trained = kind.untrained(options, backbone, fidelity)
        training = kind(options=options, backbone=backbone, fidelity=fidelity, trained=trained, **known)
        with watch("begin"):
            training.begin()
        with watch("epoch"):
            list(training.steps(1))
    parameters = sum(one.numel() * one.element_size() for one in trained.parameters())
    seconds = {"image": watch["begin"] / count, "step": watch["epoch"] / count}
    return {**seconds, "image_bytes": _size(cache) / count, "run_bytes": STATES * parameters}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
