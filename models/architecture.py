"""open_clip's model configs: read, checked for what the towers here can run, and built."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from models.dual_path import STAGES
from models.weights import check_normalisation
from utils.errors import UserError

# What the towers as they are run here cannot follow, and the value that leaves it off.
_PLAIN_BLOCK = {
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}
_PLAIN_VISION = _PLAIN_BLOCK | {
    "timm_model_name": None,
    "attentional_pool": False,
    "final_ln_after_pool": False,
    "pool_type": "tok",
}
_PLAIN_TEXT = _PLAIN_BLOCK | {
    "hf_model_name": None,
    "hf_tokenizer_name": None,
    "tokenizer_kwargs": None,
    "vocab_size": CLIPTextCfg.vocab_size,
    "no_causal_mask": False,
    "embed_cls": False,
    "proj_type": "linear",
}


def servable_image_size(
    model: str, config: dict[str, Any], image_size: int | None, features_list: Sequence[int] | None
) -> int:
    """Side of the input in pixels, the model's own where None is given; for the rest see `check_servable`."""
    image_size = image_size or config["vision_cfg"].get("image_size", CLIPVisionCfg.image_size)
    check_servable(model, config, image_size, features_list)
    return image_size


def default_taps(config: dict[str, Any]) -> list[int]:
    """The last block of each stage, 1-based."""
    depth = config["vision_cfg"].get("layers", CLIPVisionCfg.layers)
    return [depth * stage // STAGES for stage in range(1, STAGES + 1)]


def build_clip(model: str, config: dict[str, Any], image_size: int, *, quick_gelu: bool) -> open_clip.CLIP:
    """A CLIP with the parameters that open_clip starts from.

    Args:
        model: what the message calls it.
        config: open_clip's, found servable.
        image_size: side of the input in pixels.
        quick_gelu: the activation.

    Raises:
        UserError: open_clip cannot build it.
    """
    settings = {key: value for key, value in config.items() if key != "custom_text"}
    settings["vision_cfg"] = config["vision_cfg"] | {"image_size": image_size}
    try:
        return open_clip.CLIP(**settings | {"quick_gelu": quick_gelu})
    except (TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise UserError(f"--model {model}: open_clip cannot build it ({error})") from error


def read_config(model: str) -> dict[str, Any]:
    """The open_clip config called `model`, or the one in the JSON file of that path.

    Raises:
        UserError: there is none, or the file is not a model config.
    """
    if not model.endswith(".json"):
        config = open_clip.get_model_config(model) if model in open_clip.list_models() else None
        if config is None:
            raise UserError(f"--model {model}: neither an open_clip model nor the path of a config JSON")
        return config
    try:
        config = json.loads(Path(model).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--model {model}: not a readable JSON file ({error})") from error
    if isinstance(config, dict):
        if isinstance(config.get("preprocess_cfg"), dict):
            check_normalisation(config["preprocess_cfg"], f"--model {model}")
        config = config.get("model_cfg", config)
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise UserError(f"--model {model}: an open_clip config needs embed_dim, vision_cfg and text_cfg")
    for part, known in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        if not isinstance(config[part], dict):
            raise UserError(f"--model {model}: {part} must be a JSON object")
        unknown = sorted(set(config[part]) - set(known.__dataclass_fields__))
        if unknown:
            raise UserError(f"--model {model}: open_clip knows no '{unknown[0]}' in {part}")
    return config


def check_servable(
    model: str, config: dict[str, Any], image_size: int | None, features_list: Sequence[int] | None
) -> None:
    """Refuse a model that the dual path cannot run on, or a size or taps that do not fit it.

    Args:
        model: what the messages call it.
        config: open_clip's.
        image_size: side of the input in pixels; None for the model's own.
        features_list: 1-based numbers of the blocks to tap; None for the last of each stage.

    Raises:
        UserError: says which, in one sentence.
    """
    vision = vars(CLIPVisionCfg()) | config["vision_cfg"]
    text = vars(CLIPTextCfg()) | config["text_cfg"]
    if isinstance(vision["layers"], list | tuple):
        raise UserError(f"--model {model} is a ResNet; the dual path needs a vision transformer")
    for part, settings, plain in (("image", vision, _PLAIN_VISION), ("text", text, _PLAIN_TEXT)):
        for key, value in plain.items():
            if settings[key] != value:
                raise UserError(
                    f"--model {model}: its {part} tower has {key}={settings[key]}, which is not CLIP's plain "
                    "transformer; choose a ViT of open_clip such as ViT-L-14-336"
                )
    if text["pool_type"] != "argmax" or "multimodal_cfg" in config:
        raise UserError(f"--model {model}: its text tower does not end in CLIP's end-of-text token")
    if not isinstance(config.get("quick_gelu", False), bool):
        raise UserError(f"--model {model}: 'quick_gelu' must be true or false")
    patch = vision["patch_size"]
    if image_size is None:
        image_size = vision["image_size"]
    if not isinstance(patch, int) or patch < 1 or not isinstance(image_size, int):
        raise UserError(f"--model {model}: patches of {patch} on {image_size} make a grid that is not square")
    if image_size <= 0 or image_size % patch:
        nearest = max(1, round(image_size / patch)) * patch
        raise UserError(
            f"--image_size {image_size} is not a multiple of the patch size {patch} of {model}; try {nearest}"
        )
    depth = vision["layers"]
    if not isinstance(depth, int) or depth < 1 or depth % STAGES:
        raise UserError(f"--model {model} has {depth} blocks, which do not divide into {STAGES} equal stages")
    if features_list is not None:
        if not features_list or len(set(features_list)) < len(features_list):
            raise UserError(f"--features_list {list(features_list)}: give each block once, and one at least")
        beyond = [number for number in features_list if not 1 <= number <= depth]
        if beyond:
            raise UserError(f"--features_list: {model} has blocks 1 to {depth}, there is no block {beyond[0]}")
