"""Files of tensors: written whole or not at all, with a digest, and read without running their code."""

import errno
import io
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from utils.checked_arrays import digest_of
from utils.distributed import is_main
from utils.errors import UserError
from utils.files import atomic_open

DIGEST = "digest"  # entry of our own files
MS_DOS_FOLDER = 0x10  # attribute of a record
DEEPEST = 50  # lists and mappings within each other
PLAIN = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
PLAIN |= {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
WRAPPERS = ("state_dict", "model_state_dict", "model")  # where trainings keep a state dict
PREFIX = re.compile(r"(?<![^.])(?:module|_orig_mod)\.")  # of `DataParallel` and `torch.compile`, before or in a key


class _Beside:
    """Stands for what trainings save beside tensors, whose own reader could be led to run code."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        pass


def _number(kind: _Beside, content: bytes) -> Any:
    """Read a NumPy number of this machine's byte order."""
    return np.frombuffer(content, str(kind.arguments[0]))[0].item()


BESIDE = [(_number, "numpy.core.multiarray.scalar"), (_number, "numpy._core.multiarray.scalar")]
BESIDE += [(_Beside, "numpy.dtype"), (_Beside, "argparse.Namespace")]


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and their lists and dicts; of several processes, the main one does."""
    if is_main():
        buffer = io.BytesIO()  # since PyTorch, if it meets a full disk itself, does not say so
        torch.save({**content, DIGEST: digest_of(content)}, buffer)
        with atomic_open(path, "wb") as file:
            file.write(buffer.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file, its tensors on the CPU, and compare its values with its digest, which others' files lack.

    A safetensors file, whatever it is called, gives a flat state dict, and its metadata under "metadata" if it has any.
    """
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            what = f"{path} is a folder: name a checkpoint in it" if path.is_dir() else f"there is no checkpoint {path}"
            raise UserError(what)
        if _is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                content: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
                if file.metadata():
                    content["metadata"] = dict(file.metadata())
        else:
            _check_sums(path)
            with torch.serialization.safe_globals(BESIDE):
                content = torch.load(path, map_location="cpu", weights_only=True)
        _check_values(content, path)
    except UserError:
        raise
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
        raise UserError(f"{path} is damaged: its values are not those that were written, by its digest; get it again")
    return content


def _is_safetensors(path: Path) -> bool:
    """Tell whether a file is called, or begins, as safetensors: an object's length, and a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" or path.suffix == ".safetensors"


def _check_sums(path: Path) -> None:
    """Refuse an archive with a record that differs from its checksum, which PyTorch writes but does not read.

    So is a record that is marked as a folder, for which PyTorch gives memory that nothing was read to, and a compressed
    one, which PyTorch does not write, and which may be a thousand times its size in the file.
    """
    if zipfile.is_zipfile(path):  # older files are none
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(one.external_attr & MS_DOS_FOLDER or one.compress_type for one in records) or archive.testzip():
                raise zipfile.BadZipFile


def _check_values(content: Any, path: Path) -> None:
    """Refuse tensors that are not plain, and values that cannot all be in a file of this size.

    A small file can name one list many times in another, a list in itself, and one number for all of a tensor.
    """
    size, storages = path.stat().st_size, {}
    for count, (name, value) in enumerate(_walk("state dict", content)):
        if count > size:
            raise RecursionError
        if isinstance(value, Tensor):
            if value.dtype not in PLAIN or value.layout != torch.strided or value.is_meta or value.is_nested:
                kind = f"{value.dtype}, {value.layout}, {value.device}".replace("torch.", "")
                raise UserError(f"{path}: the tensor '{name}' is no plain one ({kind}); save it dense, as float32")
            storage = value.untyped_storage()
            place, announced = storage.data_ptr(), max(storage.nbytes(), value.nbytes)
            storages[place] = max(storages.get(place, 0), announced)
    if sum(storages.values()) > size:
        raise UserError(f"{path} is damaged: it announces tensors of {sum(storages.values())} bytes, and has {size}")


def _walk(name: Any, value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield a value, called `name`, and all that is in it."""
    if depth > DEEPEST:
        raise RecursionError
    yield name, value
    if isinstance(value, Mapping | list | tuple | set):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _walk(key, item, depth + 1)


def state_dict_in(content: Mapping[str, Any], path: Path, *own: str) -> dict[str, Any]:
    """Find the state dict in a checkpoint, below a key of its `own` or a usual one, its keys without prefixes."""
    kept = next((content[key] for key in (*own, *WRAPPERS) if isinstance(content.get(key), Mapping)), content)
    state = {PREFIX.sub("", str(key)): value for key, value in kept.items()}
    if len(state) < len(kept):
        raise UserError(f"{path} holds two state dicts in one: of some keys it has a second with 'module.' before it")
    return state


def check_fit(module: nn.Module, state: Any, path: Path, what: str) -> None:
    """Refuse a state dict, read from `path`, whose keys and shapes are not all those of the module `what`."""
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


def load_into(module: nn.Module, state: Any, path: Path, what: str, *, assign: bool = False) -> None:
    """Load what was read from `path` into the module `what`: all keys and shapes must fit, all values be finite.

    With `assign` the module takes the tensors themselves instead of their values.
    """
    check_fit(module, state, path, what)
    for key, value in state.items():
        # This takes no memory, and is NaN if one value is.
        if value.numel() and not all(end.isfinite() for end in value.aminmax()):
            raise UserError(f"{path}: {key} has values that are not finite")
    module.load_state_dict(state, assign=assign)
