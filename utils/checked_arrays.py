"""One array a file, with a digest of its values; a file whose values are others counts as none."""

import contextlib
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from utils.digest import digest_of
from utils.files import atomic_open

NAME, DIGEST = "values", "sha256"


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an array as safetensors, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_open(path, "wb") as file:
        file.write(save({NAME: values}, {DIGEST: digest_of(values)}))


def has_array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether a file is there, as long as it should be, and announces such an array; its values are not read."""
    # A damaged file makes the reader stumble in every way there is.
    with contextlib.suppress(Exception), safe_open(path, "numpy") as file:
        announced = file.get_slice(NAME)
        return tuple(announced.get_shape()) == shape and announced.get_dtype() == _NAMES[dtype.str]
    return False


def read_array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """Read an array; None where there is none, or another than was written."""
    with contextlib.suppress(Exception):
        with safe_open(path, "numpy") as file:
            values, digest = file.get_tensor(NAME), (file.metadata() or {}).get(DIGEST)
        if values.shape == shape and values.dtype == dtype and digest == digest_of(values):
            return values
    return None


_NAMES = {np.dtype(np.float16).str: "F16", np.dtype(np.float32).str: "F32"}
