"""Checkpoints: what is read is what was saved, whichever bit of the file was flipped, or is refused."""

import random
import zipfile

import pytest
import torch

from models.checkpoints import DIGEST, read_checkpoint, save_checkpoint
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
