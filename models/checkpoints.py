"""Files of tensors: written whole or not at all, with a digest, and read without running their code."""

import errno
import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from utils.checked_arrays import digest_of
from utils.distributed import is_main
from utils.errors import UserError
from utils.files import atomic_open

DIGEST = "digest"  # entry of our own files
MS_DOS_FOLDER = 0x10  # attribute of a record


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and their lists and dicts; of several processes, the main one does."""
    if is_main():
        buffer = io.BytesIO()  # since PyTorch, if it meets a full disk itself, does not say so
        torch.save({**content, DIGEST: digest_of(content)}, buffer)
        with atomic_open(path, "wb") as file:
            file.write(buffer.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file, its tensors on the CPU, and compare its values with its digest, which others' files lack.

    A safetensors file gives a flat state dict, and its metadata under "metadata" if it has any.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                content: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
                if file.metadata():
                    content["metadata"] = dict(file.metadata())
        else:
            _check_sums(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged or holds more than tensors and numbers, and is not loaded since that could run "
            "code from it"
        ) from error
    except OSError as error:
        # A damaged directory of an archive may place a record before the file's beginning.
        reason = "it is damaged" if error.errno == errno.EINVAL else error.strerror or error
        raise UserError(f"cannot read {path}: {reason}") from error
    except Exception as error:  # a damaged file makes the readers stumble in every way there is
        kind = type(error).__name__
        raise UserError(f"cannot read {path}, which is damaged or of another kind ({kind})") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no state dict")
    digest = content.pop(DIGEST, None)
    if digest is not None and digest != digest_of(content):
        raise UserError(f"{path} is damaged: its values are not those that were written, by its digest; get it anew")
    return content


def _check_sums(path: Path) -> None:
    """Refuse an archive with a record that differs from its checksum, which PyTorch writes but does not read.

    So is a record that is marked as a folder, for which PyTorch gives memory that nothing was read to.
    """
    if zipfile.is_zipfile(path):  # older files are none
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() or any(record.external_attr & MS_DOS_FOLDER for record in archive.infolist()):
                raise zipfile.BadZipFile


def load_into(module: nn.Module, state: Any, path: Path, what: str) -> None:
    """Load what was read from `path` into the module `what`: all keys and shapes must fit, all values be finite."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} does not fit {what}: it holds no state dict of tensors")
    there = {key: list(value.shape) for key, value in state.items()}
    here = {key: list(value.shape) for key, value in module.state_dict().items()}
    others = {key: shape for key, shape in here.items() if there.get(key, shape) != shape}
    misfits = [
        *(f"{key} has shape {there[key]} there and {shape} here" for key, shape in others.items()),
        *(f"{key} {shape} is missing there" for key, shape in here.items() if key not in there),
        *(f"{key} {shape} has no counterpart here" for key, shape in there.items() if key not in here),
    ]
    if misfits:
        more = f", and {len(misfits) - 1} more differences" if len(misfits) > 1 else ""
        raise UserError(f"{path} does not fit {what}: {misfits[0]}{more}")
    for key, value in state.items():
        parts = value.flatten().split(1 << 20)  # whole, it would take the memory of two more copies
        if not all(part.isfinite().all() for part in parts):
            raise UserError(f"{path}: {key} has values that are not finite")
    module.load_state_dict(state)
