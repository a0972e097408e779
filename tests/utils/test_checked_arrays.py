"""Arrays in files: what is read is what was written, or nothing."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from utils.checked_arrays import DIGEST, NAME, digest_of, has_array, read_array, write_array

VALUES = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    write_array(tmp_path / "a.safetensors", VALUES)
    return tmp_path / "a.safetensors"


def read(path) -> np.ndarray | None:
    return read_array(path, VALUES.shape, VALUES.dtype)


def test_what_is_written_is_read(path):
    assert has_array(path, VALUES.shape, VALUES.dtype)
    np.testing.assert_array_equal(read(path), VALUES)


def test_every_flipped_bit_is_seen_or_harmless(path):
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            values = read(path)
            refused += values is None
            assert values is None or np.array_equal(values, VALUES)
    assert refused >= 8 * VALUES.nbytes


@pytest.mark.parametrize("change", [np.zeros_like, np.flip, lambda values: values.view(np.int32)])
def test_other_values_under_the_same_digest_are_none(path, change):
    save_file({NAME: np.ascontiguousarray(change(VALUES))}, path, {DIGEST: digest_of(VALUES)})
    assert read(path) is None


def test_another_shape_or_type_and_no_file_are_none(path):
    for shape, dtype in (((5, 3), np.float32), ((3, 5), np.float16)):
        assert not has_array(path, shape, np.dtype(dtype))
        assert read_array(path, shape, np.dtype(dtype)) is None
    assert not has_array(path.with_name("b"), VALUES.shape, VALUES.dtype)
    assert read(path.with_name("b")) is None
