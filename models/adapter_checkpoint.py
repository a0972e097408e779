"""Checkpoints of trained adapters, SDP+'s and DP-CLIP's: the authors' forms, and a record of the training in ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from models.adapter import AdapterSettings, ImageAdapter
from models.backbone import Backbone
from models.checkpoints import load_into, read_checkpoint
from models.fidelity import FidelityName
from models.presets import preset_name
from models.prompts import PromptEnsemble, parse_prompts
from utils.errors import UserError
from utils.files import sha256_of

M = TypeVar("M", bound=nn.Module)

SDP_PLUS, DP_CLIP = "SDP+", "DP-CLIP"  # as files and results name the methods
KEYS = {SDP_PLUS: "linear_layers", DP_CLIP: "image_adapter"}  # where in a file the authors keep the adapters
OPTIMIZER = "image_optimizer"  # and DP-CLIP's the optimiser
ORIGIN = ("epoch", "method", "fidelity", "settings", "backbone", "train_dataset", "train_classes", "shot")
ORIGIN += ("options", "prompts")
RECORDS = {  # of which kinds what a training records must be
    "backbone": {"name": str, "image_size": int, "features_list": list},
    "options": {"model": str, "pretrained": str | None, "prompts": str | None, "obj_name": str | None},
    "prompts": {},
    "images": {"bytes": list, "sha256": list},
}


@dataclass(frozen=True)
class AdapterCheckpoint:
    """What a file of trained adapters holds."""

    path: Path
    sha256: str  # of its content
    state: Mapping[str, Tensor]  # the adapters' state dict
    fidelity: FidelityName  # of the training; "released" where the file does not say, as the authors' do not
    origin: Mapping[str, Any]  # what the file says of the training, see `ORIGIN`
    images: Mapping[str, Sequence[Any]] | None = None  # fingerprints of those that were trained on, if it says them

    @property
    def options(self) -> dict[str, Any]:
        """The options of the training, by name, that whatever uses the adapters takes as well unless told otherwise."""
        found, backbone = {"fidelity": self.fidelity}, self.origin.get("backbone")
        if backbone is not None:
            blocks = tuple(backbone["features_list"])
            found |= {"model": preset_name(backbone["name"]), "features_list": blocks}
            found["image_size"] = backbone["image_size"]
        return found | self.origin.get("options", {})

    @property
    def prompts(self) -> dict[str, PromptEnsemble]:
        """The prompt ensembles of the training, by the name or path under which it knew them."""
        recorded = self.origin.get("prompts", {}).items()
        return {name: parse_prompts(content, f"{self.path}: prompts {name}") for name, content in recorded}


def checkpoint_of(
    method: str, adapters: nn.Module, backbone: Backbone, fidelity: FidelityName, epoch: int, **entries: Any
) -> dict[str, Any]:
    """What to save of adapters trained on a backbone: the authors' form with a record of the training.

    Epochs count from 1. Of the further entries those in `ORIGIN` are read again.
    """
    return {
        "epoch": epoch,
        KEYS[method]: adapters.state_dict(),
        **entries,
        "method": method,
        "fidelity": fidelity,
        "backbone": {
            "name": backbone.name,
            "weights_sha256": backbone.weights.sha256,
            "image_size": backbone.image_size,
            "features_list": list(backbone.features_list),
        },
    }


def settings_record(settings: AdapterSettings) -> dict[str, Any]:
    """An image adapter's form, beside blocks and fidelity: the options that say it, by name."""
    return {
        "image_adapt_layers": list(settings.adapt_layers),
        "image_adapt_weight": settings.adapt_weight,
        "relu": settings.relu,
        "grn": settings.grn,
    }


def read_adapters(path: Path, method: str) -> AdapterCheckpoint:
    """Read a method's adapters from a checkpoint, or from safetensors whose metadata may say of the training.

    Of DP-CLIP an absent epoch counts as 0, and absent settings, as in the authors' files, are left to the caller.
    """
    content, key = read_checkpoint(path), KEYS[method]
    entries, state = content, content.get(key)
    if path.suffix == ".safetensors":
        entries = content.pop("metadata", {})
        state = {name.removeprefix(f"{key}."): value for name, value in content.items()}
    part, script = {SDP_PLUS: ("fc.", "train_sdp_plus.py"), DP_CLIP: ("det_proj.", "train_dp_clip.py")}[method]
    if not isinstance(state, Mapping) or not any(str(name).startswith(part) for name in state):
        raise UserError(
            f"{path} holds no adapters of {method} ('{key}' with {part} and so on), but "
            f"{', '.join(map(str, content))[:200]}; give a file that {script} wrote or the authors published"
        )
    # Response normalisations may have axes of one: [1, 1, C] is as good as [C].
    state = {
        name: value.flatten() if ".grn." in str(name) and isinstance(value, Tensor) else value
        for name, value in state.items()
    }
    if method == DP_CLIP:
        entries = {"epoch": 0, "settings": {}} | entries
        _check_types(path, entries["epoch"], entries["settings"])
    for name, kinds in RECORDS.items():
        record = entries.get(name, {})
        if not isinstance(record, Mapping) or not all(isinstance(record.get(k), kinds[k]) for k in kinds if record):
            raise UserError(f"{path}: '{name}' is {str(record)[:100]}, not what a training records")
    origin = {name: entries[name] for name in ORIGIN if name in entries}
    fidelity = origin.get("fidelity", "released")
    if fidelity not in ("released", "corrected"):
        raise UserError(f"{path}: 'fidelity' is {fidelity!r}, neither 'released' nor 'corrected'")
    return AdapterCheckpoint(path, sha256_of(path), state, fidelity, origin, entries.get("images") or None)


def _check_types(path: Path, epoch: Any, settings: Any) -> None:
    if not isinstance(epoch, int):
        raise UserError(f"{path}: 'epoch' is {epoch!r}, not a whole number")
    usual = settings_record(AdapterSettings(features_list=()))
    if (
        not isinstance(settings, Mapping)
        or not all(isinstance(settings.get(name, value), type(value)) for name, value in usual.items())
        or not all(isinstance(layer, int) for layer in settings.get("image_adapt_layers", []))
    ):
        raise UserError(f"{path}: 'settings' are {settings!r}, not those of an image adapter")


def load_adapters(checkpoint: AdapterCheckpoint, module: M, backbone: Backbone) -> M:
    """Load adapters into an untrained module for a backbone, in evaluation mode; a `UserError` if they do not fit."""
    here = " ".join(map(str, backbone.features_list))
    trained, known = checkpoint.options, preset_name(backbone.name)
    blocks, model = trained.get("features_list", backbone.features_list), trained.get("model", known)
    if model != known and not (blocks == backbone.features_list and _fits(checkpoint, module)):
        raise UserError(f"{checkpoint.path} was trained with {model}; give --model {model}, or leave the option out")
    if blocks != backbone.features_list:
        there = " ".join(map(str, blocks))
        raise UserError(
            f"{checkpoint.path} was trained on blocks {there}, and the blocks tapped here are {here}; give "
            f"--features_list {there}"
        )
    what = f"the adapters of {backbone.name} tapped after {here}"
    if isinstance(module, ImageAdapter):
        what += f" and adapted after {' '.join(str(number + 1) for number in module.settings.adapt_layers)}"
    load_into(module, checkpoint.state, checkpoint.path, what)
    return module.eval().requires_grad_(False)


def _fits(checkpoint: AdapterCheckpoint, module: nn.Module) -> bool:
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    return shapes == {name: value.shape for name, value in checkpoint.state.items() if isinstance(value, Tensor)}


def mismatches(checkpoint: AdapterCheckpoint, backbone: Backbone) -> list[str]:
    """In what the backbone differs from the one that the adapters were trained on, a sentence each."""
    trained = checkpoint.origin.get("backbone", {})
    here = {"weights_sha256": backbone.weights.sha256, "image_size": backbone.image_size}
    return [
        f"{checkpoint.path} was trained with {key} {trained[key]}, and is used with {value}"
        for key, value in here.items()
        if trained.get(key, value) != value
    ]
