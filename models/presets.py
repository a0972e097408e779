"""Backbones that the method was published with, and the demonstration model: name, weights, size and taps."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from models.fidelity import FidelityName

PRETRAINED_MODELS = Path(__file__).resolve().parents[1] / "pretrained_models"


@dataclass(frozen=True)
class Preset:
    """Defaults of one backbone; each can be overridden on the command line."""

    model: str  # an open_clip model name, or the path of a model config JSON
    pretrained: str  # an open_clip tag, or the path of a state dict
    image_size: int  # side of the square input image in pixels
    features_list: tuple[int, ...]  # 1-based numbers of the blocks after which features are tapped
    clip_ad_fidelity: FidelityName = "corrected"  # how CLIP-AD's published numbers on this backbone were made


DEMO = PRETRAINED_MODELS / "demo"
PRESETS = MappingProxyType(
    {
        "vit-l-14-336": Preset("ViT-L-14-336", "openai", 518, (6, 12, 18, 24)),
        "vit-b-16-plus-240": Preset("ViT-B-16-plus-240", "laion400m_e31", 240, (3, 6, 9, 12), "released"),
        "demo": Preset(str(DEMO / "demo.json"), str(DEMO / "demo.safetensors"), 128, (1, 2, 3, 4)),
    }
)


def preset_name(model: str) -> str:
    """Name the preset of an open_clip name or a config's path, which all machines know; else the name or whole path."""
    model = str(Path(model).resolve()) if Path(model).is_file() else model
    return next((name for name, preset in PRESETS.items() if model in (name, preset.model)), model)


def find_preset(model: str) -> Preset | None:
    """Find the preset called `model`, or the one whose open_clip name it is; None if there is none."""
    return PRESETS.get(preset_name(model))
