"""`last.pth` damaged at every kind of place, of another content, or hostile: one sentence, and nothing is run."""

import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train_dp_clip
import train_sdp_plus
from models.checkpoints import read_checkpoint
from tests import small_data, tiny_clip
from tests.test_weights import Hostile
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


def test_a_flipped_bit_is_refused_or_harmless(resume, state):
    """Most of an archive are tensors, where a flipped bit would change what is trained."""
    content = state.read_bytes()
    rng = random.Random(0)
    sound = _comparable(read_checkpoint(state))
    refusals = 0
    for place in [*range(0, 200, 5), *range(len(content) - 200, len(content), 5), *rng.sample(range(len(content)), 80)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        state.write_bytes(flipped)
        try:
            assert _comparable(read_checkpoint(state)) == sound
        except UserError as error:
            assert "damaged" in str(error)
            refusals += 1
    assert refusals > 80  # beside names and dates in the archive, and what fills it up, all matters


def _comparable(content: object) -> object:
    if isinstance(content, torch.Tensor):
        return content.tolist()
    if isinstance(content, dict):
        return {key: _comparable(value) for key, value in content.items()}
    return [_comparable(value) for value in content] if isinstance(content, list | tuple) else content


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
    content = torch.load(state, weights_only=True)
    torch.save(content | change, state)
    refused(resume[0], state, "no state to resume from|does not fit")


def test_a_state_without_a_part_is_refused(resume, state):
    content = torch.load(state, weights_only=True)
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
