"""Backbones that the method was published with, and the demonstration model: name, weights, size and taps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from models.fidelity import FidelityName

PRETRAINED_MODELS = Path(__file__).resolve().parents[1] / "pretrained_models"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults of one backbone; each can be overridden on the command line."""

    model: str  # an open_clip model name, or the path of a model config JSON
    pretrained: str  # an open_clip tag, or the path of a state dict
    image_size: int  # side of the square input image in pixels
    features_list: tuple[int, ...]  # 1-based numbers of the blocks after which features are tapped
    clip_ad_fidelity: FidelityName = "corrected"  # how CLIP-AD's published numbers on this backbone were made


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "vit-l-14-336": Preset(
            model="ViT-L-14-336", pretrained="openai", image_size=518, features_list=(6, 12, 18, 24)
        ),
        "vit-b-16-plus-240": Preset(
            model="ViT-B-16-plus-240",
            pretrained="laion400m_e31",
            image_size=240,
            features_list=(3, 6, 9, 12),
            clip_ad_fidelity="released",
        ),
        "demo": Preset(
            model=str(PRETRAINED_MODELS / "demo" / "demo.json"),
            pretrained=str(PRETRAINED_MODELS / "demo" / "demo.safetensors"),
            image_size=128,
            features_list=(1, 2, 3, 4),
        ),
    }
)


def find_preset(model: str) -> Preset | None:
    """The preset called `model`, or the one whose open_clip name `model` is; None if there is none."""
    if model in PRESETS:
        return PRESETS[model]
    return next((preset for preset in PRESETS.values() if preset.model == model), None)
