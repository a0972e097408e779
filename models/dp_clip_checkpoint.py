"""DP-CLIP checkpoints in the authors' form, with a record of what the image adapter was trained with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.adapter import AdapterSettings, ImageAdapter
from models.adapter_checkpoint import AdapterCheckpoint, adapter_checkpoint, backbone_record, check_blocks
from models.backbone import Backbone
from models.checkpoints import load_into, read_checkpoint
from models.dp_clip import image_adapter_for
from models.fidelity import FidelityName
from utils.errors import UserError

METHOD = "DP-CLIP"
KEY = "image_adapter"
OPTIMIZER = "image_optimizer"
ORIGIN = ("epoch", "method", "fidelity", "settings", "backbone", "train_dataset", "train_classes", "shot")


def checkpoint_of(
    adapter: ImageAdapter,
    optimizer_state: Mapping[str, Any],
    backbone: Backbone,
    fidelity: FidelityName,
    epoch: int,
    **origin: Any,
) -> dict[str, Any]:
    """What to save of an image adapter: the authors' three entries, and what it takes to use it rightly.

    Args:
        adapter: the image adapter.
        optimizer_state: of what trains it.
        backbone: whose tower it was trained in.
        fidelity: in which.
        epoch: after which, counted from 1.
        origin: what else to record.
    """
    return {
        "epoch": epoch,
        KEY: adapter.state_dict(),
        OPTIMIZER: optimizer_state,
        "method": METHOD,
        "fidelity": fidelity,
        "settings": settings_record(adapter.settings),
        "backbone": backbone_record(backbone),
        **origin,
    }


def settings_record(settings: AdapterSettings) -> dict[str, Any]:
    """What is recorded of an image adapter's form, beside blocks and fidelity: the options that say it, by name."""
    return {
        "image_adapt_layers": list(settings.adapt_layers),
        "image_adapt_weight": settings.adapt_weight,
        "relu": settings.relu,
        "grn": settings.grn,
    }


def read_image_adapter(path: Path) -> AdapterCheckpoint:
    """Read a file of a trained image adapter.

    Of the file's further entries those that `checkpoint_of` writes are taken over; an absent epoch counts as 0, and
    absent settings, as in the authors' files, are left to the caller.

    Raises:
        UserError: it cannot be read, is another method's, or has entries of another form.
    """
    content = read_checkpoint(path)
    state = content.get(KEY)
    if not isinstance(state, Mapping):
        raise UserError(
            f"{path} holds no image adapter of DP-CLIP ('{KEY}'), but {', '.join(map(str, content))[:200]}; give a "
            "file that train_dp_clip.py wrote or the authors published"
        )
    origin = {key: content[key] for key in ORIGIN if key in content}
    if not isinstance(origin.setdefault("epoch", 0), int):
        raise UserError(f"{path}: 'epoch' is {origin['epoch']!r}, not a whole number")
    if not _are_settings(origin.setdefault("settings", {})):
        raise UserError(f"{path}: 'settings' are {origin['settings']!r}, not those of an image adapter")
    return adapter_checkpoint(path, state, origin)


def _are_settings(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    layers = value.get("image_adapt_layers", [])
    return (
        isinstance(layers, list)
        and all(isinstance(layer, int) for layer in layers)
        and isinstance(value.get("image_adapt_weight", 0.0), float)
        and isinstance(value.get("relu", False), bool)
        and isinstance(value.get("grn", True), bool)
    )


def load_image_adapter(checkpoint: AdapterCheckpoint, backbone: Backbone, settings: AdapterSettings) -> ImageAdapter:
    """An image adapter for a backbone with the checkpoint's parameters, in evaluation mode.

    Raises:
        UserError: it was trained for another width, embedding, number of adapters or taps, or for other blocks.
    """
    check_blocks(checkpoint, backbone)
    adapter = image_adapter_for(backbone, settings)
    what = (
        f"the image adapter of {backbone.name} tapped after {' '.join(map(str, settings.features_list))} and adapted "
        f"after {' '.join(str(number + 1) for number in settings.adapt_layers)}"
    )
    load_into(adapter, {key: _vector(key, value) for key, value in checkpoint.state.items()}, checkpoint.path, what)
    return adapter.eval().requires_grad_(False)


def _vector(key: str, value: Tensor) -> Tensor:
    """A response normalisation's parameters without axes of one, [1, 1, C] being as good as [C]."""
    return value.flatten() if ".grn." in str(key) and isinstance(value, Tensor) else value
