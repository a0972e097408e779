"""The tiny CLIP of the golden numbers; its weights come from NumPy, the same under every torch version."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.backbone import Backbone, load_backbone
from models.fidelity import Fidelity
from models.sdp import LinearAdapters, adapters_for

FEATURES_LIST = (2, 4, 6, 8)
SIZE = 96


def config() -> dict[str, Any]:
    """The model's open_clip config."""
    return {
        "embed_dim": 64,
        "vision_cfg": {"image_size": SIZE, "layers": 8, "width": 128, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 4},
    }


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """The parameter called `name`: a normal draw seeded by the name's CRC-32, scaled by the name's kind."""
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    is_norm = any(part.startswith("ln_") for part in name.split("."))
    if name.endswith("logit_scale"):
        value = np.full(shape, math.log(1 / 0.07))
    elif is_norm and name.endswith("weight"):
        value = 1 + 0.1 * normal
    elif name.endswith("bias"):
        value = 0.05 * normal
    elif name.endswith(("class_embedding", "positional_embedding", "token_embedding.weight")):
        value = 0.3 * normal
    elif name.endswith(("proj", "text_projection")):  # stored as input x output
        value = 1.5 * normal / math.sqrt(shape[0])
    else:
        value = 1.5 * normal / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def linear_adapters(backbone: Backbone) -> LinearAdapters:
    """SDP+'s adapters with the golden weights."""
    module = adapters_for(backbone)
    state = {key: draw(f"linear_layers.{key}", value.shape) for key, value in module.state_dict().items()}
    module.load_state_dict(state)
    return module


def save(folder: Path) -> tuple[Path, Path]:
    """Write the model's config JSON and its weights to `folder`, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    config_path, weights_path = folder / "tiny.json", folder / "tiny.safetensors"
    config_path.write_text(json.dumps(config()))
    model = open_clip.CLIP(**config())
    save_file({name: draw(name, tuple(value.shape)) for name, value in model.state_dict().items()}, weights_path)
    return config_path, weights_path


def load(folder: Path, fidelity: Fidelity | None = None, **overrides: Any) -> Backbone:
    """Save the model to `folder` and load it the way an entry point does."""
    config_path, weights_path = save(folder)
    settings = {
        "model": str(config_path),
        "pretrained": str(weights_path),
        "image_size": SIZE,
        "features_list": FEATURES_LIST,
        "fidelity": fidelity or Fidelity.named("released"),
        "device": torch.device("cpu"),
    }
    return load_backbone(**(settings | overrides))


def images(count: int = 2, size: int = SIZE) -> Tensor:
    """Normalised images [count, 3, size, size]; the first two are those of the golden numbers."""
    values = np.random.default_rng(7).standard_normal((count, 3, size, size))
    return torch.from_numpy(values.astype(np.float32))


def masks(count: int = 2, size: int = SIZE) -> Tensor:
    """Ground truth of the golden training steps, bool [count, size, size]: a rectangle on the first image."""
    out = torch.zeros(count, size, size, dtype=torch.bool)
    out[0, 16:48, 24:64] = True
    return out
