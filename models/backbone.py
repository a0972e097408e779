"""The frozen OpenCLIP: stock open_clip, checked, with its position embedding resized to the grid in use."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import open_clip
import torch
from open_clip.model import CLIPVisionCfg, resize_pos_embed

from models.architecture import build_clip, default_taps, read_config, servable_image_size
from models.checkpoints import load_into
from models.fidelity import Fidelity
from models.linear import use_fastest_kernels
from models.weights import Weights, find_weights, quick_gelu_weights, read_state_dict
from utils.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen CLIP in evaluation mode, and what it was made from.

    Attributes:
        clip: the model; its parameters take no gradients.
        tokenize: sentences to token ids [n, context length].
        name: open_clip name or config path.
        weights: the file its parameters came from.
        activation: "gelu" or "quick_gelu".
        image_size: side of the input in pixels.
        features_list: 1-based numbers of the tapped blocks, ascending.
        text_config: open_clip's settings of the text tower.
        device: where it computes.
        precision: "fp32", or the type of autocast, "bf16" or "fp16".
        compile: whether the image tower is compiled by PyTorch before it is run.
    """

    clip: open_clip.CLIP
    tokenize: open_clip.SimpleTokenizer
    name: str
    weights: Weights
    activation: str
    image_size: int
    features_list: tuple[int, ...]
    text_config: dict[str, Any]
    device: torch.device
    precision: str
    compile: bool = False

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return self.clip.visual.grid_size[0]

    def autocast(self) -> torch.autocast:
        """Context in which the towers are to be run."""
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "fp32")

    def run_image_tower(self, encode: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """What a function of the image tower, which is its first argument, gives in this precision."""
        if self.compile:
            encode = torch.compile(encode)
        with self.autocast():
            return encode(self.clip.visual, *arguments, **options)


def load_backbone(
    *,
    model: str,
    pretrained: str,
    image_size: int | None,
    features_list: Sequence[int] | None,
    fidelity: Fidelity,
    device: torch.device,
    precision: str = "fp32",
    compile: bool = False,
) -> Backbone:
    """Build a CLIP, load its weights and freeze it.

    Args:
        model: an open_clip model name, or the path of a model config JSON.
        pretrained: an open_clip tag of it, or the path of a state dict.
        image_size: side of the input in pixels; None for the model's own.
        features_list: 1-based numbers of the blocks to tap; None for the last of each stage.
        fidelity: decides the activation of OpenAI's weights.
        device: where to put it.
        precision: "fp32", "bf16" or "fp16".
        compile: see `Backbone`.

    Raises:
        UserError: the model cannot serve here, or its weights cannot be had, read or fitted.
    """
    config = read_config(model)
    own_size = config["vision_cfg"].get("image_size", CLIPVisionCfg.image_size)
    image_size = servable_image_size(model, config, image_size, features_list)
    features_list = features_list or default_taps(config)

    weights = find_weights(model, pretrained)
    trained_with_quick, openai = quick_gelu_weights(model, weights.tag)
    quick_gelu = config.get("quick_gelu", False) or trained_with_quick
    twin = f"{model}-quickgelu"
    if weights.tag is None and not quick_gelu and twin in open_clip.list_models():
        logger.warning(
            "%s is taken to be trained with GELU; if it was with QuickGELU, as OpenAI's were, give --model %s",
            weights.path,
            twin,
        )
    if openai and (fidelity.gelu_always or (fidelity.gelu_when_resized and image_size != own_size)):
        quick_gelu = False

    clip = build_clip(model, config, image_size, quick_gelu=quick_gelu)
    _load(clip, weights.path, model)
    use_fastest_kernels(clip, device, precision)
    return Backbone(
        clip=clip.eval().requires_grad_(False).to(device),
        tokenize=open_clip.SimpleTokenizer(context_length=clip.context_length),
        name=model,
        weights=weights,
        activation="quick_gelu" if quick_gelu else "gelu",
        image_size=image_size,
        features_list=tuple(sorted(features_list)),
        text_config=config["text_cfg"],
        device=device,
        precision=precision,
        compile=compile,
    )


def _load(clip: open_clip.CLIP, path: Path, model: str) -> None:
    """Load the state dict in `path`, which must fit but for its grid of positions."""
    state = read_state_dict(path)
    position = state.get("visual.positional_embedding")
    if position is not None and position.ndim == 2 and position.shape[1] == clip.visual.positional_embedding.shape[1]:
        if round((len(position) - 1) ** 0.5) ** 2 != len(position) - 1:
            raise UserError(f"{path} was trained on a grid of patches that is not square")
        state["visual.positional_embedding"] = position.float()
        resize_pos_embed(state, clip)
    load_into(clip, state, path, model)
