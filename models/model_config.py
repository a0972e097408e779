"""open_clip's model configs: read, told apart, refused where the dual path cannot run on one, and built."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from pydantic import with_config
from typing_extensions import Required, TypedDict

from models.dual_path import STAGES
from models.weights import check_normalisation
from utils.checked_arrays import digest_of
from utils.errors import UserError
from utils.json_files import read_json, validate

MOST_BLOCKS, LARGEST_GRID = 1000, 512  # of a tower, and along a side; a model beyond is a mistake, and never built

# Settings that must be open_clip's defaults, which are CLIP's: the towers as they are run here follow no other.
_OF_BOTH = ("block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
_OF_IMAGES = ("timm_model_name", "attentional_pool", "final_ln_after_pool")
_OF_TEXT = ("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs", "vocab_size", "no_causal_mask", "embed_cls")
_TOWERS = (
    ("image", "vision_cfg", CLIPVisionCfg, (*_OF_BOTH, *_OF_IMAGES, "pool_type")),
    ("text", "text_cfg", CLIPTextCfg, (*_OF_BOTH, *_OF_TEXT, "proj_type", "pool_type")),
)


def _object_of(kind: type) -> Any:
    """Make the type of a JSON object with open_clip's settings of a tower and no others, null where unset."""
    hints = {name: hint | None for name, hint in get_type_hints(kind).items()}
    return with_config({"extra": "forbid"})(TypedDict(kind.__name__, hints, total=False))


@with_config({"extra": "allow"})  # which are for open_clip to look at
class _Config(TypedDict, total=False):
    embed_dim: Required[int]
    vision_cfg: Required[_object_of(CLIPVisionCfg)]
    text_cfg: Required[_object_of(CLIPTextCfg)]
    quick_gelu: bool


def read_config(model: str) -> dict[str, Any]:
    """Read the open_clip config called `model`, or the one in the JSON file of that path."""
    if not model.endswith(".json"):
        if model not in open_clip.list_models():
            raise UserError(f"--model {model}: neither an open_clip model nor the path of a config JSON")
        return open_clip.get_model_config(model)
    content = read_json(Path(model), dict[str, Any], "--model")
    if isinstance(content.get("preprocess_cfg"), dict):
        check_normalisation(content["preprocess_cfg"], f"--model {model}")
    return validate(content.get("model_cfg", content), _Config, f"--model {model}")


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of the settings that weights and numbers depend on beside the activation and the size of the images.

    Settings that are open_clip's defaults count as left out, so that a config says the same in every version of it.
    """
    settings: dict[str, Any] = {"embed_dim": config["embed_dim"]}
    for _, part, plain, _ in _TOWERS:
        own = {name: value for name, value in config[part].items() if value != getattr(plain, name, None)}
        settings[part] = {name: own[name] for name in sorted(own) if name != "image_size"}
    return digest_of(settings)


def check_servable(
    model: str, config: dict[str, Any], image_size: int | None, features_list: Sequence[int] | None
) -> tuple[int, tuple[int, ...]]:
    """Refuse a model that the dual path cannot run on, or a size or taps that do not fit it; return these two.

    See `load_backbone` for the arguments. Sizes are in pixels, taps 1-based numbers of blocks, returned in order.
    """
    vision = vars(CLIPVisionCfg()) | config["vision_cfg"]
    if isinstance(vision["layers"], list | tuple):
        raise UserError(f"--model {model} is a ResNet; the dual path needs a vision transformer")
    for tower, part, plain, names in _TOWERS:
        layers = config[part].get("layers", plain.layers)
        if isinstance(layers, int) and layers > MOST_BLOCKS:
            raise UserError(f"--model {model}: its {tower} tower has {layers} blocks, more than {MOST_BLOCKS}")
        for name in names:
            if config[part].get(name, getattr(plain, name)) != getattr(plain, name):
                raise UserError(
                    f"--model {model}: its {tower} tower has {name}={config[part][name]}, which is not CLIP's plain "
                    "transformer; choose a ViT of open_clip such as ViT-L-14-336"
                )
    patch, depth = vision["patch_size"], vision["layers"]
    size = vision["image_size"] if image_size is None else image_size
    if not isinstance(patch, int) or patch < 1 or not isinstance(size, int):
        raise UserError(f"--model {model}: patches of {patch} on {size} make a grid that is not square")
    if size <= 0 or size % patch:
        nearest = max(1, round(size / patch)) * patch
        raise UserError(f"--image_size {size} is not a multiple of the patch size {patch} of {model}; try {nearest}")
    if size > LARGEST_GRID * patch:
        raise UserError(f"--image_size {size}: {model} takes no more than {LARGEST_GRID} patches of {patch} a side")
    if not isinstance(depth, int) or depth < 1 or depth % STAGES:
        raise UserError(f"--model {model} has {depth} blocks, which do not divide into {STAGES} equal stages")
    if features_list is None:
        features_list = [depth * stage // STAGES for stage in range(1, STAGES + 1)]
    if not features_list or len(set(features_list)) < len(features_list):
        raise UserError(f"--features_list {list(features_list)}: give each block once, and one at least")
    beyond = [number for number in features_list if not 1 <= number <= depth]
    if beyond:
        raise UserError(f"--features_list: {model} has blocks 1 to {depth}, there is no block {beyond[0]}")
    return size, tuple(sorted(features_list))


def build_clip(model: str, config: dict[str, Any], image_size: int, *, quick_gelu: bool) -> open_clip.CLIP:
    """Build a CLIP of a servable config with the parameters that open_clip starts from."""
    settings = {key: value for key, value in config.items() if key != "custom_text"}
    settings["vision_cfg"] = config["vision_cfg"] | {"image_size": image_size}
    try:
        return open_clip.CLIP(**settings | {"quick_gelu": quick_gelu})
    except (TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise UserError(f"--model {model}: open_clip cannot build it ({error})") from error
