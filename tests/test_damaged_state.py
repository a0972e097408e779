"""`last.pth` damaged at every kind of place, of another content, or hostile: one sentence, and nothing is run."""

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train_dp_clip
import train_sdp_plus
from models.checkpoints import DIGEST
from tests import small_data, tiny_clip
from tests.models.test_weights import Hostile
from utils.errors import UserError

EMPTY_OPTIMIZER = {"state": {}, "param_groups": []}
SCRIPTS = {"train_sdp_plus": train_sdp_plus.main, "train_dp_clip": train_dp_clip.main}


@pytest.fixture(scope="module", params=SCRIPTS)
def resume(request, tmp_path_factory) -> tuple[Callable[[], None], Path]:
    """What goes on with a training, and its state file."""
    folder = tmp_path_factory.mktemp(request.param)
    config, weights = tiny_clip.save(folder / "model")
    data = small_data.make(folder / "data", ("bolt",))
    options = ["--model", config, "--pretrained", weights, "--train_dataset", "mvtec", "--train_dataset_dir", data]
    options += ["--num_workers", 0, "--epochs", 1, "--cache_dir", folder / "cache", "--save_path", folder / "run"]
    main = SCRIPTS[request.param]
    main([str(option) for option in options])
    logging.basicConfig(force=True)
    return lambda: main([*map(str, options), "--resume"]), folder / "run" / "last.pth"


@pytest.fixture
def state(resume) -> Path:
    """The state file, put back afterwards."""
    path = resume[1]
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


def refused(resume: Callable[[], None], path: Path, message: str) -> None:
    others = {other: other.read_bytes() for other in path.parent.glob("*[!g]")}  # all but the log
    with pytest.raises(UserError, match=message) as caught:
        resume()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {other: other.read_bytes() for other in path.parent.glob("*[!g]")} == others


@pytest.mark.parametrize("place", [0, 1, 4, 30, 0.01, 0.5, 0.99, "directory", "inside the directory", -22, -1])
def test_a_state_cut_short_is_refused(resume, state, place):
    content = state.read_bytes()
    directory = content.index(b"PK\x01\x02")
    at = {"directory": directory, "inside the directory": directory + 60}.get(place, place)
    state.write_bytes(content[: int(at * len(content)) if isinstance(at, float) else at])
    refused(resume[0], state, "damaged")


@pytest.mark.parametrize("record", ["data.pkl", "data/0", "data/3"])
def test_a_flipped_bit_is_refused(resume, state, record):
    content = bytearray(state.read_bytes())
    with zipfile.ZipFile(state) as archive:
        info = archive.getinfo(f"{archive.namelist()[0].partition('/')[0]}/{record}")
        begin = archive.open(info)._fileobj._pos
    content[begin + info.file_size // 2] ^= 1
    state.write_bytes(content)
    refused(resume[0], state, "damaged")


def test_other_values_in_a_sound_archive_are_refused(resume, state):
    content = torch.load(state, weights_only=True)
    content["log"] = {"steps": []}
    torch.save(content, state)
    refused(resume[0], state, "is damaged: its values are not those that were written")


def undigested(path: Path) -> dict[str, object]:
    """A checkpoint's content without its digest, as in others' files."""
    content = torch.load(path, weights_only=True)
    del content[DIGEST]
    return content


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": None, "image_optimizer": None},  # what the one method calls it, and the other
        {"optimizer": {}, "image_optimizer": {}},
        {"optimizer": EMPTY_OPTIMIZER, "image_optimizer": EMPTY_OPTIMIZER},
        {"random_states": {}},
        {"random_states": {"python": 3, "numpy": (), "torch": torch.zeros(3), "cuda": []}},
        {"log": {}},
        {"log": 3},
        {"epoch": "last"},
        {"linear_layers": {}, "image_adapter": {}},
        {"linear_layers": 7, "image_adapter": 7},
    ],
    ids=str,
)
def test_a_state_of_another_content_is_refused(resume, state, change):
    content = undigested(state)
    torch.save(content | change, state)
    refused(resume[0], state, "no state to resume from|does not fit")


def test_a_state_without_a_part_is_refused(resume, state):
    content = undigested(state)
    for key in ("random_states", "log", "epoch", "arguments"):
        torch.save({name: value for name, value in content.items() if name != key}, state)
        refused(resume[0], state, f"no state to resume from.*{key}")


def test_a_hostile_state_is_not_run(resume, state, tmp_path):
    trace = tmp_path / "trace"
    content = torch.load(state, weights_only=True)
    for hostile in (content | {"log": Hostile(trace)}, Hostile(trace)):
        torch.save(hostile, state)
        refused(resume[0], state, "could run code")
    assert not trace.exists()
