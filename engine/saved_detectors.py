"""Detectors in files: safetensors with all that a detector needs but the weights of its backbone, which it names."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor

from engine.calibration import Calibration
from models.adapter_checkpoint import AdapterCheckpoint, Record
from models.checkpoints import read_checkpoint
from models.memory import NormalMemory
from models.prompts import PromptEnsemble
from utils.checked_arrays import digest_of
from utils.errors import UserError
from utils.files import atomic_open
from utils.json_files import parse_json

TEXT, ADAPTERS, MEMORY = "text_features", "adapters.", "memory."  # names of tensors, or how they begin
DETECTOR, DIGEST = "detector", "digest"  # entries of the metadata


@dataclass(frozen=True, kw_only=True)
class DetectorRecord:
    """What a detector was made with."""

    options: dict[str, Any]  # but those of the machine
    origin: dict[str, Any]  # what its scores depend on, with the SHA-256 of the backbone's weights
    prompts: PromptEnsemble | None  # None where others are to be taken
    calibration: Calibration | None
    training: Record | None  # see `AdapterCheckpoint.origin`
    remembered: Sequence[str] = ()  # digests of the images of its memory


class SavedDetector(NamedTuple):
    """What a file of a detector holds."""

    path: Path
    record: DetectorRecord
    text: Tensor  # unit columns normal and anomalous [D, 2]
    checkpoint: AdapterCheckpoint | None
    memory: NormalMemory | None  # on the CPU


def write_detector(
    path: Path, record: DetectorRecord, text: Tensor, adapters: Mapping[str, Tensor], memory: Sequence[Tensor] = ()
) -> None:
    """Write a detector, its text features [D, 2], its adapters' state dict and its memory's tokens, atomically."""
    tensors = {TEXT: text} | {f"{ADAPTERS}{name}": value for name, value in adapters.items()}
    tensors |= {f"{MEMORY}{tap}": tokens for tap, tokens in enumerate(memory)}
    # As copies, since safetensors takes no tensors that share their memory.
    tensors = {name: value.detach().cpu().clone() for name, value in tensors.items()}
    content = json.dumps(asdict(record), allow_nan=False)
    with atomic_open(path, "wb") as file:
        file.write(save(tensors, {DETECTOR: content, DIGEST: _digest(content, tensors)}))


def read_detector(path: Path) -> SavedDetector:
    """Read what `write_detector` wrote; nothing in the file is executed."""
    tensors = read_checkpoint(path)
    metadata = tensors.pop("metadata", None)
    if not isinstance(metadata, dict) or not {DETECTOR, DIGEST} <= metadata.keys() or TEXT not in tensors:
        raise UserError(f"{path} holds no saved detector: give a file that detector.save wrote")
    if metadata[DIGEST] != _digest(metadata[DETECTOR], tensors):
        raise UserError(f"{path} is damaged: its content is not what was written, by its digest; save it again")
    record, text, checkpoint = parse_json(metadata[DETECTOR], DetectorRecord, str(path)), tensors.pop(TEXT), None
    tokens = [tensors.pop(f"{MEMORY}{tap}") for tap in range(sum(name.startswith(MEMORY) for name in tensors))]
    if record.training is not None:
        state = {name.removeprefix(ADAPTERS): value for name, value in tensors.items()}
        checkpoint = AdapterCheckpoint(path, record.origin["checkpoint_sha256"], state, record.training)
    return SavedDetector(path, record, text, checkpoint, NormalMemory(tokens, record.remembered) if tokens else None)


def _digest(content: str, tensors: Mapping[str, Tensor]) -> str:
    return digest_of([content, dict(sorted(tensors.items()))])
