"""The frozen OpenCLIP: stock open_clip, checked, with its position embedding resized to the grid in use."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import open_clip
import torch
from open_clip.model import CLIPVisionCfg, resize_pos_embed
from torch import Tensor

from models.checkpoints import check_fit, load_into
from models.fidelity import Fidelity
from models.linear import convert_linear_layers, use_fastest_kernels
from models.model_config import build_clip, check_servable, config_digest, read_config
from models.weights import Weights, find_weights, quick_gelu_weights, read_state_dict
from utils.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast, by precision


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen CLIP in evaluation mode, and what it was made from."""

    clip: open_clip.CLIP  # its parameters take no gradients
    name: str  # open_clip name or config path
    weights: Weights  # the file its parameters came from
    activation: str  # "gelu" or "quick_gelu"
    image_size: int  # side of the input in pixels
    features_list: tuple[int, ...]  # 1-based numbers of the tapped blocks, ascending
    config_sha256: str  # of what the config says of the towers, see `config_digest`
    device: torch.device
    precision: str  # of `DTYPES`; but in fp32, the image tower's linear layers are kept in it
    compile: bool = False  # whether the image tower is compiled by PyTorch before it is run

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return self.clip.visual.grid_size[0]

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint records of the backbone that it was trained on."""
        files = {"weights_sha256": self.weights.sha256, "config_sha256": self.config_sha256}
        return {"name": self.name, **files, "image_size": self.image_size, "features_list": list(self.features_list)}

    def autocast(self) -> torch.autocast:
        """Context in which the towers are to be run."""
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def run_image_tower(self, encode: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run `encode` on the image tower, its first argument, in this precision."""
        if self.compile:
            encode = torch.compile(encode)
        with self.autocast():
            return encode(self.clip.visual, *arguments, **options)


def load_backbone(
    *,
    model: str,  # an open_clip model name, or the path of a model config JSON
    pretrained: str,  # an open_clip tag of it, or the path of a state dict
    image_size: int | None,  # None for the model's own
    features_list: Sequence[int] | None,  # None for the last block of each stage
    fidelity: Fidelity,  # decides the activation of OpenAI's weights
    device: torch.device,
    precision: str = "fp32",
    compile: bool = False,
) -> Backbone:
    """Build a CLIP, load its weights and freeze it; for what is not said here see `Backbone`."""
    config = read_config(model)
    own_size = config["vision_cfg"].get("image_size", CLIPVisionCfg.image_size)
    image_size, features_list = check_servable(model, config, image_size, features_list)

    weights = find_weights(model, pretrained)
    trained_with_quick, openai = quick_gelu_weights(model, weights.tag)
    quick_gelu = config.get("quick_gelu", False) or trained_with_quick
    twin = f"{model}-quickgelu"
    if weights.tag is None and not quick_gelu and twin in open_clip.list_models():
        remedy = f"if it was with QuickGELU, as OpenAI's were, give --model {twin}"
        logger.warning("%s is taken to be trained with GELU; %s", weights.path, remedy)
    if openai and (fidelity.gelu_always or (fidelity.gelu_when_resized and image_size != own_size)):
        quick_gelu = False

    with torch.device("meta"):  # which takes no memory: the tensors are those of the file
        clip = build_clip(model, config, image_size, quick_gelu=quick_gelu)
    load_into(clip, _fitting_state(clip, weights.path, model), weights.path, model, assign=True)
    clip.attn_mask = torch.full(clip.attn_mask.shape, -torch.inf).triu_(1)  # which no file has
    if DTYPES[precision] is not None:
        convert_linear_layers(clip.visual, DTYPES[precision])
    return Backbone(
        clip=use_fastest_kernels(clip.eval().requires_grad_(False), device, precision),
        name=model,
        weights=weights,
        activation="quick_gelu" if quick_gelu else "gelu",
        image_size=image_size,
        features_list=features_list,
        config_sha256=config_digest(config),
        device=device,
        precision=precision,
        compile=compile,
    )


def _fitting_state(shapes: open_clip.CLIP, path: Path, model: str) -> dict[str, Tensor]:
    """Read the state dict in `path` for a model of these shapes, which it must fit but for its grid of positions.

    Its tensors become float32 one by one, so that those in half precision are not all held twice.
    """
    state = read_state_dict(path)
    position = state.get("visual.positional_embedding")
    if position is not None and position.shape[1:] == shapes.visual.positional_embedding.shape[1:]:
        patches = len(position) - 1
        if patches < 1 or math.isqrt(patches) ** 2 != patches:
            raise UserError(f"{path} was trained on a grid of patches that is not square")
        state["visual.positional_embedding"] = position.float()
        resize_pos_embed(state, shapes)
    check_fit(shapes, state, path, model)
    for key in state:
        state[key] = state[key].float().contiguous()
    return state
