"""A digest of values, whatever file they are kept in: a flipped bit that changes one of them changes it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


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
