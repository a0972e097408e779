"""SDP+ checkpoints: the authors' published files, this project's own, and safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.adapter_checkpoint import AdapterCheckpoint, adapter_checkpoint, backbone_record, check_blocks
from models.backbone import Backbone
from models.checkpoints import load_into, read_checkpoint
from models.fidelity import FidelityName
from models.sdp_plus import LinearAdapters, adapters_for
from utils.errors import UserError

METHOD = "SDP+"
KEY = "linear_layers"
ORIGIN = ("epoch", "method", "fidelity", "backbone", "train_dataset", "train_classes")


def checkpoint_of(
    adapters: LinearAdapters, backbone: Backbone, fidelity: FidelityName, **origin: Any
) -> dict[str, Any]:
    """What to save of trained adapters.

    Args:
        adapters: the adapters.
        backbone: whose tokens they were trained on.
        fidelity: how these were taken.
        origin: what else to record: epoch, data sets.
    """
    return {
        KEY: adapters.state_dict(),
        "method": METHOD,
        "fidelity": fidelity,
        "backbone": backbone_record(backbone),
        **origin,
    }


def read_adapters(path: Path) -> AdapterCheckpoint:
    """Read a file of trained adapters.

    Of its further entries those that a training writes of itself are taken over, and not what is for going on with it.

    Raises:
        UserError: it cannot be read, or is another method's.
    """
    content = read_checkpoint(path)
    if path.suffix == ".safetensors":
        entries = content.pop("metadata", {})
        state = {key.removeprefix(f"{KEY}."): value for key, value in content.items()}
    else:
        entries = content
        state = content.get(KEY)
    if not isinstance(state, Mapping) or not any(str(key).startswith("fc.") for key in state):
        raise UserError(
            f"{path} holds no adapters of SDP+ ('{KEY}' with fc.0.weight and so on), but "
            f"{', '.join(map(str, content))[:200]}; give a file that train_sdp_plus.py wrote or the authors published"
        )
    return adapter_checkpoint(path, state, {key: entries[key] for key in ORIGIN if key in entries})


def load_adapters(checkpoint: AdapterCheckpoint, backbone: Backbone) -> LinearAdapters:
    """Adapters for a backbone with the checkpoint's parameters, in evaluation mode.

    Raises:
        UserError: they were trained for another width, embedding, or number of taps, or for other blocks.
    """
    check_blocks(checkpoint, backbone)
    adapters = adapters_for(backbone)
    what = f"the adapters of {backbone.name} tapped after {' '.join(map(str, backbone.features_list))}"
    load_into(adapters, checkpoint.state, checkpoint.path, what)
    return adapters.eval().requires_grad_(False)
