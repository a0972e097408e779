"""Checkpoints of trained adapters, SDP+'s and DP-CLIP's: the authors' forms, and a record of the training in ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from open_clip.model import CLIPVisionCfg
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from typing_extensions import NotRequired, TypedDict

from models.backbone import Backbone
from models.checkpoints import check_fit, load_into, read_checkpoint, state_dict_in
from models.dp_clip import ImageAdapter
from models.fidelity import FidelityName
from models.presets import preset_name
from models.prompts import PromptEnsemble
from models.representative import RepVec
from utils.errors import UserError
from utils.files import sha256_of
from utils.json_files import validate

M = TypeVar("M", bound=nn.Module)

SDP_PLUS, DP_CLIP = "SDP+", "DP-CLIP"  # as files and results name the methods
KEYS = {SDP_PLUS: "linear_layers", DP_CLIP: "image_adapter"}  # where in a file the authors keep the adapters
FILES = {SDP_PLUS: "epoch_{}.pth", DP_CLIP: "image_adapter_{}.pth"}  # what a training calls the file of an epoch
OPTIMIZER = "image_optimizer"  # and DP-CLIP's the optimiser
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Backbone(TypedDict):
    name: str
    weights_sha256: NotRequired[str]
    config_sha256: NotRequired[str]  # see `config_digest`; earlier versions did not record it
    image_size: PositiveInt
    features_list: list[PositiveInt]


class _Options(TypedDict):
    model: str
    pretrained: str | None
    prompts: str | None
    obj_name: str | None
    rep_vec: NotRequired[RepVec | None]
    dbscan_eps: NotRequired[NonNegativeFloat | None]
    dbscan_min_samples: NotRequired[PositiveInt | None]
    smoothing: NotRequired[Annotated[float, Field(ge=0, le=1000)] | None]


class _Settings(TypedDict, total=False):
    image_adapt_layers: list[NonNegativeInt]
    image_adapt_weight: Annotated[float, Field(ge=0, le=1)]
    relu: bool
    grn: bool
    align_corners: bool  # earlier versions did not record it


class _Images(TypedDict):  # columns of all images, in the order of the training
    img_path: list[str]
    cls_name: list[str]
    anomaly: list[int]
    mask_sha256: list[str]  # "" where no mask is read
    bytes: list[int]  # of the image's file
    sha256: list[str]


class Record(TypedDict, total=False):
    """What a checkpoint says of its training; what else is in the file is not read."""

    epoch: int  # from 1 on
    method: str
    fidelity: FidelityName
    settings: _Settings
    backbone: _Backbone
    train_dataset: list[str] | str
    train_protocol: list[str] | None
    train_classes: list[str] | None
    shot: int | None
    seed: int
    training: dict[str, Any]  # what else the adapters depend on, by the options' names
    options: _Options
    prompts: dict[str, dict[str, str | list[str]]]
    images: _Images


@dataclass(frozen=True)
class AdapterCheckpoint:
    """What a file of trained adapters holds."""

    path: Path
    sha256: str  # of its content
    state: Mapping[str, Tensor]  # the adapters' state dict
    origin: Record
    images: _Images | None = None  # those that were trained on, if the file says so

    @property
    def fidelity(self) -> FidelityName:
        """That of the training; "released" where the file does not say, as the authors' do not."""
        return self.origin.get("fidelity", "released")

    @property
    def options(self) -> dict[str, Any]:
        """Give the training's options, by name, that whatever uses the adapters takes unless told otherwise."""
        found: dict[str, Any] = {"fidelity": self.fidelity}
        if backbone := self.origin.get("backbone"):
            found |= {"model": preset_name(backbone["name"]), "image_size": backbone["image_size"]}
            found["features_list"] = tuple(backbone["features_list"])
        return found | self.origin.get("options", {})

    @property
    def config_sha256(self) -> str | None:
        """Give `Backbone.config_sha256` of the training, None if that is not known."""
        return self.origin.get("backbone", {}).get("config_sha256")

    @property
    def prompts(self) -> dict[str, PromptEnsemble]:
        """Give the training's prompt ensembles, by the name or path under which it knew them."""
        recorded = self.origin.get("prompts", {}).items()
        return {name: validate(content, PromptEnsemble, f"{self.path}: prompts {name}") for name, content in recorded}


def read_adapters(path: Path, method: str) -> AdapterCheckpoint:
    """Read a method's adapters from a checkpoint, or from safetensors whose metadata may say of the training.

    Of DP-CLIP an absent epoch counts as 0, and absent settings, as in the authors' files, are left to the caller.
    """
    content, key = read_checkpoint(path), KEYS[method]
    origin = validate(content.pop("metadata", content), Record, str(path))
    state = {name.removeprefix(f"{key}."): value for name, value in state_dict_in(content, path, key).items()}
    part, script = {SDP_PLUS: ("fc.", "train_sdp_plus.py"), DP_CLIP: ("det_proj.", "train_dp_clip.py")}[method]
    if not any(name.startswith(part) for name in state):
        raise UserError(
            f"{path} holds no adapters of {method} ('{key}' with {part} and so on), but "
            f"{', '.join(map(str, content))[:200]}; give a file that {script} wrote or the authors published"
        )
    # Response normalisations may have axes of one: [1, 1, C] is as good as [C].
    state |= {name: state[name].flatten() for name in state if ".grn." in name and isinstance(state[name], Tensor)}
    if method == DP_CLIP:
        origin = {"epoch": 0, "settings": {}} | origin
    images = origin.pop("images", None)
    return AdapterCheckpoint(path, sha256_of(path), state, origin, images)


def fits(checkpoint: AdapterCheckpoint, config: Mapping[str, Any]) -> bool:
    """Tell whether adapters fit a model with this config: each has a weight from its width C to its embedding D."""
    shape = config["embed_dim"], config["vision_cfg"].get("width", CLIPVisionCfg.width)
    return any(isinstance(value, Tensor) and value.shape == shape for value in checkpoint.state.values())


def load_adapters(checkpoint: AdapterCheckpoint, module: M, backbone: Backbone) -> M:
    """Load adapters into an untrained module for a backbone, in evaluation mode; a `UserError` if they do not fit."""
    here = " ".join(map(str, backbone.features_list))
    trained, known = checkpoint.options, preset_name(backbone.name)
    there, model = " ".join(map(str, trained.get("features_list", backbone.features_list))), trained.get("model", known)
    is_other = model != known and checkpoint.config_sha256 != backbone.config_sha256
    trained_with = f"{checkpoint.path} was trained with {model}; give --model {model}, or leave the option out"
    if there != here and is_other:
        raise UserError(trained_with)
    if there != here:
        raise UserError(
            f"{checkpoint.path} was trained on blocks {there}, and the blocks tapped here are {here}; give "
            f"--features_list {there}"
        )
    what = f"the adapters of {backbone.name} tapped after {here}"
    if isinstance(module, ImageAdapter):
        what += f" and adapted after {' '.join(str(number + 1) for number in module.settings.image_adapt_layers)}"
    if is_other:
        try:
            check_fit(module, checkpoint.state, checkpoint.path, what)
        except UserError as error:
            raise UserError(trained_with) from error
    load_into(module, checkpoint.state, checkpoint.path, what)
    return module.eval().requires_grad_(False)


def mismatches(checkpoint: AdapterCheckpoint, backbone: Backbone) -> list[str]:
    """Say how the backbone differs from the one that the adapters were trained on, a sentence each."""
    trained, here = checkpoint.origin.get("backbone", {}), backbone.record
    return [
        f"{checkpoint.path} was trained with {key} {trained[key]}, and is used with {here[key]}"
        for key in ("weights_sha256", "config_sha256", "image_size")
        if trained.get(key, here[key]) != here[key]
    ]
