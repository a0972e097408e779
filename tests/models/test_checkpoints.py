"""Checkpoints: what is read is what was saved, whichever bit of the file was flipped, or is refused."""

import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints import DIGEST, load_into, read_checkpoint, save_checkpoint
from utils.checked_arrays import digest_of
from utils.errors import UserError

CONTENT = {
    "linear_layers": {"fc.0.weight": torch.arange(35.0).reshape(7, 5), "fc.0.bias": torch.randn(300).half()},
    "epoch": 3,
    "log": {"steps": [{"loss": 0.1, "nan": float("nan")}], "text": "é", "nothing": None, "pair": (True, 2)},
}


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "last.pth", CONTENT)
    return tmp_path / "last.pth"


def test_the_digest_is_checked_and_taken_off(path):
    assert DIGEST in torch.load(path, weights_only=True)
    assert digest_of(read_checkpoint(path)) == digest_of(CONTENT)


@pytest.mark.parametrize("digested", [True, False])
def test_a_flipped_bit_is_refused_or_changes_nothing(path, digested):
    """A bit of every fourth byte, and of every byte of the archive's directory."""
    if not digested:
        torch.save(CONTENT, path)  # as others write them
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = [*range(0, archive.start_dir, 4), *range(archive.start_dir, len(content))]
    rng = random.Random(0)
    refusals = 0
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            assert digest_of(read_checkpoint(path)) == digest_of(CONTENT), place
        except UserError as error:
            assert "damaged" in str(error)
            refusals += 1
    assert refusals > len(places) / 2  # dates, paddings and the like change nothing


def test_a_record_marked_as_a_folder_is_refused(path):
    """PyTorch would give memory that nothing was read to in its place."""
    torch.save(CONTENT, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/1"))  # its entry in the directory
    content[entry + 38] ^= 0x10  # the attribute
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path)


def circle() -> list:
    values: list = []
    values.append(values)
    return values


def billion_laughs() -> list:
    values: list = ["ha"]
    for _ in range(12):
        values = [values] * 10
    return values


def nested() -> list:
    values: list = []
    for _ in range(20000):
        values = [values]
    return values


@pytest.mark.parametrize("digested", [False, True])
@pytest.mark.parametrize("make", [circle, billion_laughs, nested])
def test_lists_without_end_are_refused_at_once(tmp_path, make: Callable[[], Any], digested):
    path = tmp_path / "laughs.pth"
    digest = {DIGEST: "0" * 64} if digested else {}
    if make is nested:  # too deep for Python's own writer
        pickled = b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 20000 + b"a" * 19999 + b"s."
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (("data.pkl", pickled), ("byteorder", b"little"), ("version", b"3\n")):
                archive.writestr(f"laughs/{name}", content)
    else:
        torch.save(CONTENT | {"metadata": make()} | digest, path)
    with pytest.raises(UserError, match=r"laughs\.pth, which is damaged or of another kind \(RecursionError\)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "make, kind",
    [
        (lambda: torch.eye(3).to_sparse(), "float32, sparse_coo, cpu"),
        (lambda: torch.eye(3).to_sparse_csr(), "float32, sparse_csr, cpu"),
        (lambda: torch.ones(3, device="meta"), "float32, strided, meta"),
        (lambda: torch.ones(3).to(torch.float8_e4m3fn), "float8_e4m3fn, strided, cpu"),
        (lambda: torch.ones(3, dtype=torch.complex64), "complex64, strided, cpu"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "qint8, strided, cpu"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "float32, strided, cpu"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of what PyTorch says of such tensors itself
def test_tensors_that_are_not_plain_are_refused_by_name(tmp_path, make: Callable[[], torch.Tensor], kind):
    torch.save({"visual": {"proj": make()}}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=rf"odd\.pth: the tensor 'proj' is no plain one \({kind}\)"):
        read_checkpoint(tmp_path / "odd.pth")


def test_a_tensor_that_is_not_plain_is_refused_in_safetensors(tmp_path):
    save_file({"proj": torch.ones(3).to(torch.float8_e4m3fn)}, tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match=r"the tensor 'proj' is no plain one \(float8_e4m3fn"):
        read_checkpoint(tmp_path / "odd.safetensors")


def test_tensors_larger_than_their_file_are_refused(tmp_path):
    path = tmp_path / "announced.pth"
    torch.save({"visual.positional_embedding": torch.zeros(1, 1).expand(1 + 20000**2, 128)}, path)
    with pytest.raises(UserError, match=r"is damaged: it announces tensors of 204800000512 bytes"):
        read_checkpoint(path)
    row = torch.arange(12.0)
    torch.save({"a": row, "b": row[2:5], "c": row.reshape(3, 4).T}, path)  # which share their memory
    assert read_checkpoint(path)["c"].tolist() == row.reshape(3, 4).T.tolist()


def test_a_compressed_archive_is_refused(tmp_path, path):
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(packed)


def test_a_folder_is_called_one(tmp_path: Path):
    with pytest.raises(UserError, match="is a folder: name a checkpoint in it"):
        read_checkpoint(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(UserError, match=r"there is no checkpoint .*pipe\.pth"):
        read_checkpoint(tmp_path / "pipe.pth")


@pytest.mark.parametrize(
    "one, other",
    [
        (torch.zeros(2), torch.zeros(2).half()),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2), torch.zeros(2).numpy()),
        (torch.tensor(0.0), torch.tensor(-0.0)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, [2]], [[1], 2]),
        ([1], (1,)),
        (1, True),
        (1, 1.0),
        ("1", 1),
        (None, "None"),
    ],
)
def test_values_that_differ_have_other_digests(one, other):
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(one)


def test_an_empty_tensor_has_no_value_that_is_not_finite(tmp_path):
    module = torch.nn.Module()
    module.register_buffer("none", torch.empty(0, 3))
    load_into(module, {"none": torch.empty(0, 3)}, tmp_path, "a module")
    with pytest.raises(UserError, match="does not fit a module"):
        load_into(module, {"none": torch.empty(0, 4)}, tmp_path, "a module")
