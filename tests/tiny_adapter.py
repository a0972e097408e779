"""DP-CLIP's trained parts on the tiny CLIP, with the weights of the golden numbers."""

import zlib

import numpy as np
import torch
from torch import Tensor

from models.backbone import Backbone
from models.dp_clip import AdapterSettings, ImageAdapter, image_adapter_for
from tests import tiny_clip


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """The parameter called `name`; response normalisations are drawn about zero, where they start."""
    if ".grn." not in name:
        return tiny_clip.draw(name, shape)
    values = 0.1 * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32))


def settings(**overrides) -> AdapterSettings:
    """Those of the golden numbers, in released fidelity."""
    return AdapterSettings(
        **{"features_list": tiny_clip.FEATURES_LIST, "image_adapt_layers": (0, 1), "grn_over_batch": True, **overrides}
    )


def load(backbone: Backbone, **overrides) -> ImageAdapter:
    """An image adapter with the golden weights."""
    adapter = image_adapter_for(backbone, settings(**overrides))
    adapter.load_state_dict(
        {key: draw(f"image_adapter.{key}", tuple(value.shape)) for key, value in adapter.state_dict().items()}
    )
    return adapter
