"""SDP+ checkpoints: the authors' published files, this project's own, and safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from models.backbone import Backbone
from models.checkpoints import load_into, read_checkpoint
from models.fidelity import FidelityName
from models.sdp_plus import LinearAdapters, adapters_for
from utils.errors import UserError
from utils.files import sha256_of

KEY = "linear_layers"


@dataclass(frozen=True)
class AdapterCheckpoint:
    """What a file of trained adapters holds.

    Attributes:
        path: the file.
        sha256: of its content.
        state: the adapters' state dict.
        fidelity: what they were trained in; "released" where the file does not say, as the authors' do not.
        origin: what else the file says of the training; empty for the authors'.
    """

    path: Path
    sha256: str
    state: Mapping[str, Tensor]
    fidelity: FidelityName
    origin: Mapping[str, Any]


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
        "method": "SDP+",
        "fidelity": fidelity,
        "backbone": {
            "name": backbone.name,
            "weights_sha256": backbone.weights.sha256,
            "image_size": backbone.image_size,
            "features_list": list(backbone.features_list),
        },
        **origin,
    }


def read_adapters(path: Path) -> AdapterCheckpoint:
    """Read a file of trained adapters.

    Raises:
        UserError: it cannot be read, or is another method's.
    """
    content = read_checkpoint(path)
    if path.suffix == ".safetensors":
        origin = content.pop("metadata", {})
        state = {key.removeprefix(f"{KEY}."): value for key, value in content.items()}
    else:
        origin = {key: value for key, value in content.items() if key != KEY}
        state = content.get(KEY)
    if not isinstance(state, Mapping) or not any(str(key).startswith("fc.") for key in state):
        raise UserError(
            f"{path} holds no adapters of SDP+ ('{KEY}' with fc.0.weight and so on), but "
            f"{', '.join(map(str, content))[:200]}; give a file that train_sdp_plus.py wrote or the authors published"
        )
    fidelity = origin.get("fidelity", "released")
    if fidelity not in ("released", "corrected"):
        raise UserError(f"{path}: 'fidelity' is {fidelity!r}, neither 'released' nor 'corrected'")
    return AdapterCheckpoint(path, sha256_of(path), state, fidelity, origin)


def load_adapters(checkpoint: AdapterCheckpoint, backbone: Backbone) -> LinearAdapters:
    """Adapters for a backbone with the checkpoint's parameters, in evaluation mode.

    Raises:
        UserError: they were trained for another width, embedding, or number of taps, or for other blocks.
    """
    trained = checkpoint.origin.get("backbone")
    blocks = trained.get("features_list") if isinstance(trained, Mapping) else None
    if blocks is not None and tuple(blocks) != backbone.features_list:
        raise UserError(
            f"{checkpoint.path} was trained on blocks {' '.join(map(str, blocks))}, and the blocks tapped here are "
            f"{' '.join(map(str, backbone.features_list))}; give --features_list {' '.join(map(str, blocks))}"
        )
    adapters = adapters_for(backbone)
    what = f"the adapters of {backbone.name} tapped after {' '.join(map(str, backbone.features_list))}"
    load_into(adapters, checkpoint.state, checkpoint.path, what)
    return adapters.eval().requires_grad_(False)


def differences(checkpoint: AdapterCheckpoint, backbone: Backbone) -> list[str]:
    """In what the backbone differs from the one that the adapters were trained on, a sentence each."""
    trained = checkpoint.origin.get("backbone")
    if not isinstance(trained, Mapping):
        return []
    here = {"weights_sha256": backbone.weights.sha256, "image_size": backbone.image_size}
    return [
        f"{checkpoint.path} was trained with {key} {trained[key]}, and is used with {value}"
        for key, value in here.items()
        if trained.get(key, value) != value
    ]
