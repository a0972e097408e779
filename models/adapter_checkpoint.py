"""What every checkpoint of trained adapters records: the fidelity and the backbone they were trained with."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from models.backbone import Backbone
from models.fidelity import FidelityName
from utils.errors import UserError
from utils.files import sha256_of


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


def adapter_checkpoint(path: Path, state: Mapping[str, Tensor], origin: Mapping[str, Any]) -> AdapterCheckpoint:
    """What was read from `path`.

    Raises:
        UserError: the fidelity it names is none.
    """
    fidelity = origin.get("fidelity", "released")
    if fidelity not in ("released", "corrected"):
        raise UserError(f"{path}: 'fidelity' is {fidelity!r}, neither 'released' nor 'corrected'")
    return AdapterCheckpoint(path, sha256_of(path), state, fidelity, origin)


def backbone_record(backbone: Backbone) -> dict[str, Any]:
    """What a checkpoint says of the backbone its adapters were trained on."""
    return {
        "name": backbone.name,
        "weights_sha256": backbone.weights.sha256,
        "image_size": backbone.image_size,
        "features_list": list(backbone.features_list),
    }


def check_blocks(checkpoint: AdapterCheckpoint, backbone: Backbone) -> None:
    """Refuse adapters of other taps than the backbone's.

    Raises:
        UserError: they were trained on the outputs of other blocks.
    """
    trained = checkpoint.origin.get("backbone")
    blocks = trained.get("features_list") if isinstance(trained, Mapping) else None
    if blocks is not None and tuple(blocks) != backbone.features_list:
        raise UserError(
            f"{checkpoint.path} was trained on blocks {' '.join(map(str, blocks))}, and the blocks tapped here are "
            f"{' '.join(map(str, backbone.features_list))}; give --features_list {' '.join(map(str, blocks))}"
        )


def seen_in_training(checkpoint: AdapterCheckpoint, data_set: str, classes: Collection[str]) -> list[str]:
    """A sentence if some of a data set's classes are among those that the file says were trained on."""
    if data_set not in (checkpoint.origin.get("train_dataset") or ()):
        return []
    trained = checkpoint.origin.get("train_classes")
    seen = [name for name in classes if trained is None or name in trained]
    if not seen:
        return []
    what = data_set if len(seen) == len(classes) else f"{data_set} ({', '.join(seen)})"
    return [f"{what} is what the checkpoint was trained on: its figures say nothing of unseen data"]


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
