"""Seeded random weights of a real architecture, as a state dict on disk: for tests of loading and for benchmarks.

python -m tests.random_weights ViT-B-16-plus-240 pretrained_models/random.safetensors
"""

import argparse
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from models.backbone import Backbone, load_backbone
from models.fidelity import Fidelity


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Save seeded random weights of an open_clip architecture.")
    parser.add_argument("model", help="open_clip model name")
    parser.add_argument("path", type=Path, help="the .safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args()
    print(save_random_weights(options.model, options.path, options.seed))
