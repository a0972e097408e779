"""Reading weights: every form that is read, and what is refused without running code from it."""

import pickle
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints import read_checkpoint
from models.weights import read_state_dict
from tests import tiny_clip
from utils.errors import UserError
from utils.files import sha256_of

STATE = {"ln.weight": torch.tensor([1.0, 2.0]), "proj": torch.arange(6.0).reshape(2, 3)}


def save(path: Path, content: object) -> Path:
    """Write a file the way its suffix says."""
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "weights.bin"])
def test_a_plain_state_dict_is_read_from_both_formats(tmp_path, name):
    assert_same(read_state_dict(save(tmp_path / name, STATE)), STATE)


def test_a_state_dict_in_the_old_format_is_read(tmp_path):
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_same(read_state_dict(tmp_path / "old.pt"), STATE)


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in STATE.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 31, "state_dict": prefixed("module.")},
        prefixed("_orig_mod."),
        prefixed("module._orig_mod."),
        {"ln._orig_mod.weight": STATE["ln.weight"], "proj": STATE["proj"]},  # of a part that was compiled
        {"model_state_dict": STATE, "optimizer_state_dict": {"param_groups": [{"betas": (0.9, 0.99)}]}},
        {"model": STATE, "args": Namespace(lr=0.1, classes=["bottle"])},
        {"state_dict": STATE, "loss": np.float64(0.3), "epoch": np.int64(3), "best": np.bool_(True)},
        {"state_dict": OrderedDict(STATE), "rng": np.uint8(255), "half": np.float16(0.5)},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_trainings_put_round_a_state_dict_is_taken_off(tmp_path, content, zipped):
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_same(read_state_dict(path), STATE)


def test_numbers_of_numpy_are_read_as_numbers(tmp_path):
    numbers = {"loss": np.float64(0.3), "epoch": np.int64(-3), "best": np.bool_(True), "half": np.float16(0.5)}
    content = read_checkpoint(save(tmp_path / "numbers.pt", numbers))
    assert content == {"loss": 0.3, "epoch": -3, "best": True, "half": 0.5}
    assert [type(value) for value in content.values()] == [float, int, bool, float]


def test_numbers_of_numpy_that_hold_objects_are_refused(tmp_path):
    number = np.zeros((), [("a", "O")])[()]
    with pytest.raises(UserError, match="damaged or"):
        read_state_dict(save(tmp_path / "objects.pt", {"state_dict": STATE, "x": number}))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "weights"])
def test_safetensors_are_known_by_their_content(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert_same(read_state_dict(tmp_path / name), STATE)


def test_a_parameter_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="two state dicts in one"):
        read_state_dict(save(tmp_path / "both.pt", STATE | prefixed("module.")))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_the_form_of_transformers_is_named(tmp_path, name):
    content = {
        "text_model.embeddings.weight": torch.ones(2),
        "vision_model.proj": torch.ones(2),
        "logit_scale": torch.ones(1),
    }
    with pytest.raises(UserError, match=f"{name} is in the form of transformers"):
        read_state_dict(save(tmp_path / name, content))


def test_numbers_beside_openais_parameters_are_left_out(tmp_path):
    extra = {"input_resolution": torch.tensor(336), "context_length": torch.tensor(77), "vocab_size": 49408}
    assert_same(read_state_dict(save(tmp_path / "openai.pt", STATE | extra)), STATE)


def test_half_precision_weights_load_into_float32(tmp_path):
    _, weights_path = tiny_clip.save(tmp_path)
    half = {key: value.half() for key, value in read_state_dict(weights_path).items()}
    save(tmp_path / "half.pt", half)
    backbone = tiny_clip.load(tmp_path, pretrained=str(tmp_path / "half.pt"), image_size=64)
    for key, value in backbone.clip.state_dict().items():
        assert value.dtype == torch.float32, key
        if key != "visual.positional_embedding":  # resized
            assert torch.equal(value, half[key].float()), key


def test_a_token_embedding_stored_by_its_rows_is_filled_up(tmp_path):
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    parts = {"rows": rows, "ids": torch.tensor([4, 1]), "size": torch.tensor(6)}
    stored = STATE | {f"token_embedding.{name}": value for name, value in parts.items()}
    whole = torch.tensor([[0.0, 0], [3, 4], [0, 0], [0, 0], [1, 2], [0, 0]])
    state = read_state_dict(save(tmp_path / "sparse.safetensors", stored))
    assert_same(state, STATE | {"token_embedding.weight": whole})


@pytest.mark.parametrize(
    "change", [{"ids": None}, {"size": None}, {"size": 4}, {"size": 49409}, {"size": 1 << 40}, {"ids": [4, 1, 2]}]
)
def test_a_token_embedding_whose_parts_do_not_fit_is_refused(tmp_path, change):
    parts = {"rows": torch.ones(2, 2), "ids": torch.tensor([4, 1]), "size": torch.tensor(6)}
    parts |= {name: value if value is None else torch.tensor(value) for name, value in change.items()}
    stored = {f"token_embedding.{name}": value for name, value in parts.items() if value is not None}
    with pytest.raises(UserError, match=r"sparse\.safetensors: token_embedding\.rows, .* do not fit together"):
        read_state_dict(save(tmp_path / "sparse.safetensors", stored))


def truncated(path: Path) -> None:
    content = save(path, STATE).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def old_format_truncated(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:100])


def broken_zip_directory(path: Path) -> None:
    content = save(path, STATE).read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02", b"PK\x07\x07"))


def text(path: Path) -> None:
    path.write_text("not weights\n")


def empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize(
    "damage, suffixes",
    [
        (truncated, (".pt", ".safetensors")),
        (text, (".pt", ".safetensors", ".txt")),
        (empty, (".pt", ".safetensors")),
        (old_format_truncated, (".pt",)),
        (broken_zip_directory, (".pt",)),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, damage: Callable[[Path], None], suffixes):
    for suffix in suffixes:
        path = tmp_path / f"damaged{suffix}"
        damage(path)
        with pytest.raises(UserError, match="damaged") as caught:
            read_state_dict(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 200 + len(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {}, torch.ones(2), {"state_dict": {}}])
def test_tensors_that_are_no_state_dict_are_refused(tmp_path, content):
    with pytest.raises(UserError, match="holds no state dict"):
        read_state_dict(save(tmp_path / "weights.pt", content))


def test_an_entry_that_is_no_tensor_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a state dict: 'step' is not a tensor"):
        read_state_dict(save(tmp_path / "weights.pt", STATE | {"step": 3}))


class Hostile:
    """Makes a file of that name when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, zipped):
    trace, path = tmp_path / "trace", tmp_path / "hostile.pt"
    torch.save(STATE | {"x": Hostile(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        UserError, match=r"hostile\.pt is damaged or holds more than tensors and numbers, and is not loaded"
    ):
        read_state_dict(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Hostile(trace))).close()
    assert trace.exists()  # it would have been made


class Archived(torch.nn.Module):
    """What OpenAI's archives are: parameters, numbers as buffers, and code."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = torch.nn.Parameter(STATE["proj"])
        self.register_buffer("input_resolution", torch.tensor(336))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.proj


@pytest.fixture
def archive(tmp_path) -> Path:
    path = tmp_path / "ViT-tiny.pt"
    with pytest.warns(FutureWarning, match="torch.jit"):
        torch.jit.script(Archived()).save(path)
    return path


def test_a_torchscript_archive_of_anyone_else_is_refused(archive):
    with pytest.raises(UserError, match="TorchScript archive but not one that OpenAI published"):
        read_state_dict(archive)


@pytest.mark.filterwarnings("ignore:.*torch.jit.load:FutureWarning")
def test_a_torchscript_archive_of_openais_loads(archive, monkeypatch):
    url = f"https://openaipublic.azureedge.net/clip/models/{sha256_of(archive)}/ViT-tiny.pt"
    monkeypatch.setattr(open_clip, "list_openai_models", lambda: ["ViT-tiny"])
    monkeypatch.setattr(open_clip, "get_pretrained_url", lambda model, tag: url)
    assert_same(read_state_dict(archive), {"proj": STATE["proj"]})


def test_openais_published_digests_are_known():
    urls = [open_clip.get_pretrained_url(model, "openai") for model in open_clip.list_openai_models()]
    digests = {Path(url).parent.name for url in urls}
    assert "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02" in digests  # ViT-L-14-336
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
