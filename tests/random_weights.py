"""Seeded random weights of a real architecture or of adapters, in files: for tests of loading and for benchmarks.

python -m tests.random_weights ViT-B-16-plus-240 pretrained_models/random.safetensors
"""

import argparse
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from models.adapter_checkpoint import DP_CLIP, KEYS, SDP_PLUS
from models.backbone import Backbone, load_backbone
from models.checkpoints import save_checkpoint
from models.dp_clip import AdapterSettings, image_adapter_for
from models.fidelity import Fidelity, FidelityName
from models.sdp import adapters_for


def random_clip(model: str, image_size: int | None = None, seed: int = 0) -> open_clip.CLIP:
    """Build `model`, for its own size of image or another, with the weights that open_clip starts from under `seed`."""
    torch.manual_seed(seed)
    config = open_clip.get_model_config(model)
    if image_size is not None:
        config["vision_cfg"]["image_size"] = image_size
    return open_clip.CLIP(**config)


def save_random_weights(model: str, path: Path, seed: int = 0) -> Path:
    """Write the weights of `random_clip`; returns `path`."""
    state = random_clip(model, seed=seed).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def random_backbone(model: str, folder: Path, image_size: int | None = None) -> Backbone:
    """Load `model` in corrected fidelity, on the CPU, with random weights that are written into `folder`."""
    return load_backbone(
        model=model,
        pretrained=str(save_random_weights(model, folder / "random.safetensors")),
        image_size=image_size,
        features_list=None,
        fidelity=Fidelity.named("corrected"),
        device=torch.device("cpu"),
    )


def save_random_adapters(method: str, backbone: Backbone, path: Path, fidelity: FidelityName = "corrected") -> Path:
    """Write a checkpoint of a method's adapters for a backbone, as they begin but for a response normalisation."""
    settings = AdapterSettings(features_list=backbone.features_list, image_adapt_layers=(0,))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if method == "sdp_plus":
            key, adapters = KEYS[SDP_PLUS], adapters_for(backbone)
        else:
            key, adapters = KEYS[DP_CLIP], image_adapter_for(backbone, settings)
            torch.nn.init.normal_(adapters.layer_adapters[0].grn.weight)  # or what is normalised would not matter
    record = {"epoch": 1, "backbone": backbone.record, "fidelity": fidelity, "settings": settings.record}
    save_checkpoint(path, {key: adapters.state_dict(), **record})
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Save seeded random weights of an open_clip architecture.")
    parser.add_argument("model", help="open_clip model name")
    parser.add_argument("path", type=Path, help="the .safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args()
    print(save_random_weights(options.model, options.path, options.seed))
