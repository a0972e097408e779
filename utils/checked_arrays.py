"""Digests of values, and arrays in files with their digest: one whose values are others counts as none."""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from utils.files import atomic_open

NAME, DIGEST = "values", "sha256"


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an array as safetensors, atomically; a `UserError` if it cannot be written."""
    with atomic_open(path, "wb") as file:
        file.write(save({NAME: values}, {DIGEST: digest_of(values)}))


def has_array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Tell whether a file is there, as long as it should be, with such floats announced; no value is read."""
    # A damaged file makes the reader stumble in every way there is.
    with contextlib.suppress(Exception), safe_open(path, "numpy") as file:
        announced = file.get_slice(NAME)
        return tuple(announced.get_shape()) == shape and announced.get_dtype() == f"F{8 * dtype.itemsize}"
    return False


def read_array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """Read an array; None where there is none, or another than was written."""
    with contextlib.suppress(Exception), safe_open(path, "numpy") as file:
        values, digest = file.get_tensor(NAME), (file.metadata() or {}).get(DIGEST)
        if values.shape == shape and values.dtype == dtype and digest == digest_of(values):
            return values
    return None


def digest_of(value: Any) -> str:
    """Compute the SHA-256 of tensors, arrays, numbers, texts and their lists and mappings, as a hexadecimal string.

    Types, shapes and the order of keys count. Whether two tensors share their memory does not.
    """
    digest = hashlib.sha256()
    _update(digest, value)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", value: Any) -> None:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        _update(digest, ["tensor", str(value.dtype), *value.shape])
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray):
        _update(digest, ["array", value.dtype.str, *value.shape])
        digest.update(np.ascontiguousarray(value))
    elif isinstance(value, Mapping):
        _update(digest, ["mapping", len(value)])
        for key, item in value.items():
            _update(digest, key)
            _update(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"{type(value).__name__} {len(value)};".encode())
        for item in value:
            _update(digest, item)
    else:
        text = repr(value).encode("utf-8", "surrogatepass")
        digest.update(f"{type(value).__name__} {len(text)};".encode() + text)
