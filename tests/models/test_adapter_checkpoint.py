"""SDP+ checkpoints: all three forms load, and what does not fit is refused in one sentence."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.adapter_checkpoint import SDP_PLUS, AdapterCheckpoint, load_adapters, mismatches, read_adapters
from models.backbone import Backbone
from models.sdp import LinearAdapters, adapters_for
from models.weights import Weights
from utils.errors import UserError


def our_form(adapters: LinearAdapters, backbone: Backbone, fidelity: str) -> dict:
    """What a training writes, the least of it."""
    record = {"epoch": 3, "method": SDP_PLUS, "fidelity": fidelity, "backbone": backbone.record}
    return {"linear_layers": adapters.state_dict()} | record


def read(path: Path) -> AdapterCheckpoint:
    return read_adapters(path, SDP_PLUS)


def load(checkpoint: AdapterCheckpoint, backbone: Backbone) -> LinearAdapters:
    return load_adapters(checkpoint, adapters_for(backbone), backbone)


@pytest.fixture
def adapters(backbone) -> LinearAdapters:
    torch.manual_seed(0)
    return adapters_for(backbone)


def assert_same(loaded: LinearAdapters, adapters: LinearAdapters) -> None:
    for key, value in adapters.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_the_authors_form_loads_as_released(backbone, adapters, tmp_path):
    path = tmp_path / "train_on_visa.pth"
    torch.save({"linear_layers": adapters.state_dict()}, path)
    checkpoint = read(path)
    assert checkpoint.fidelity == "released"
    assert checkpoint.origin == {}
    assert_same(load(checkpoint, backbone), adapters)


def test_our_own_form_keeps_its_origin(backbone, adapters, tmp_path):
    path = tmp_path / "epoch_3.pth"
    torch.save(our_form(adapters, backbone, "corrected"), path)
    checkpoint = read(path)
    assert checkpoint.fidelity == "corrected"
    assert checkpoint.origin["epoch"] == 3
    assert mismatches(checkpoint, backbone) == []
    assert_same(load(checkpoint, backbone), adapters)
    other = replace(backbone, weights=Weights(Path("x"), "0" * 64, None), config_sha256="0" * 64, image_size=104)
    assert [text.split(" trained with ")[1].split()[0] for text in mismatches(checkpoint, other)] == [
        "weights_sha256",
        "config_sha256",
        "image_size",
    ]


@pytest.mark.parametrize("prefix", ["", "linear_layers."])
@pytest.mark.parametrize("metadata", [None, {"fidelity": "corrected"}])
def test_safetensors_load(backbone, adapters, tmp_path, prefix, metadata):
    path = tmp_path / "adapters.safetensors"
    save_file({prefix + key: value for key, value in adapters.state_dict().items()}, path, metadata)
    checkpoint = read(path)
    assert checkpoint.fidelity == ("corrected" if metadata else "released")
    assert_same(load(checkpoint, backbone), adapters)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"linear_layers": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {
            "linear_layers": {f"_orig_mod.{key}": value for key, value in state.items()},
            "loss": np.float64(1),
        },
        lambda state: {"state_dict": {f"module.linear_layers.{key}": value for key, value in state.items()}},
        lambda state: {"model_state_dict": state, "epoch": np.int64(7)},
        lambda state: state,
        lambda state: {"linear_layers": {key: value.half() for key, value in state.items()}},
    ],
)
def test_other_forms_load(backbone, adapters, tmp_path, wrap):
    adapters.half().float()  # values that half precision has
    torch.save(wrap(adapters.state_dict()), tmp_path / "adapters.pth")
    checkpoint = read(tmp_path / "adapters.pth")
    assert checkpoint.origin in ({}, {"epoch": 7})
    assert_same(load(checkpoint, backbone), adapters)


def test_safetensors_load_under_any_name(backbone, adapters, tmp_path):
    save_file(adapters.state_dict(), tmp_path / "adapters.pth", {"fidelity": "corrected", "epoch": "7"})
    checkpoint = read(tmp_path / "adapters.pth")
    assert checkpoint.origin == {"fidelity": "corrected", "epoch": 7}
    assert_same(load(checkpoint, backbone), adapters)


@pytest.mark.parametrize("metadata", [3, [1, 2], "text", torch.ones(2)])
def test_metadata_of_another_type_are_refused(adapters, tmp_path, metadata):
    path = tmp_path / "odd.pth"
    torch.save(adapters.state_dict() | {"metadata": metadata}, path)
    with pytest.raises(UserError, match=r"odd\.pth: should be a valid dictionary"):
        read(path)


@pytest.mark.parametrize(
    "taps, width, embed_dim, shapes",
    [
        (4, 96, 64, r"fc\.0\.weight has shape \[64, 96\] there and \[64, 128\] here"),
        (4, 128, 32, r"fc\.0\.weight has shape \[32, 128\] there and \[64, 128\] here"),
        (3, 128, 64, r"fc\.3\.weight \[64, 128\] is missing there"),
        (5, 128, 64, r"fc\.4\.weight \[64, 128\] has no counterpart here"),
    ],
)
def test_other_shapes_are_refused_by_both(backbone, tmp_path, taps, width, embed_dim, shapes):
    path = tmp_path / "other.pth"
    torch.save({"linear_layers": LinearAdapters(taps, width, embed_dim).state_dict()}, path)
    with pytest.raises(UserError, match=shapes) as caught:
        load(read(path), backbone)
    assert "\n" not in str(caught.value)


def test_adapters_of_another_model_name_it_where_its_widths_differ(backbone, tmp_path):
    path, content = tmp_path / "other.pth", our_form(LinearAdapters(4, 48, 64), backbone, "released")
    content["backbone"] |= {"name": "ViT-S-16", "config_sha256": "0" * 64}
    torch.save(content, path)
    with pytest.raises(UserError, match="was trained with ViT-S-16; give --model ViT-S-16, or leave the option out"):
        load(read(path), backbone)


def test_other_blocks_are_refused(backbone, adapters, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(our_form(adapters, backbone, "released"), path)
    with pytest.raises(UserError, match="was trained on blocks 2 4 6 8, and the blocks tapped here are 1 3 5 7"):
        load(read(path), replace(backbone, features_list=(1, 3, 5, 7)))


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 1, "image_adapter": {"layer_adapters.0.fc.weight": torch.zeros(2, 2)}},
        {"linear_layers": [1, 2]},
        {"linear_layers": {}},
        {"visual.proj": torch.zeros(2, 2)},
    ],
)
def test_another_methods_file_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"other\.pth holds no adapters of SDP\+"):
        read(path)


def test_values_that_are_not_finite_are_refused(backbone, adapters, tmp_path):
    path = tmp_path / "broken.pth"
    state = {key: value.clone() for key, value in adapters.state_dict().items()}
    state["fc.1.bias"][0] = torch.nan
    torch.save({"linear_layers": state}, path)
    with pytest.raises(UserError, match=r"fc\.1\.bias has values that are not finite"):
        load(read(path), backbone)


@pytest.mark.parametrize("keep", [0, 1, 100, 1000, -1000, -10])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files_are_one_sentence(adapters, tmp_path, keep, suffix):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save({"linear_layers": adapters.state_dict()}, path)
    else:
        save_file(adapters.state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="damaged") as caught:
        read(path)
    assert "\n" not in str(caught.value)


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_not_run(tmp_path, zipped):
    path, target = tmp_path / "hostile.pth", tmp_path / "it_ran"
    content = {"linear_layers": Hostile(target)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="could run code"):
        read(path)
    assert not target.exists()


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path):
    for path in (tmp_path / "nowhere.pth", tmp_path):
        with pytest.raises(UserError, match=path.name):
            read(path)


def test_metadata_must_name_a_fidelity(adapters, tmp_path):
    path = tmp_path / "odd.safetensors"
    save_file(adapters.state_dict(), path, {"fidelity": json.dumps("other")})
    with pytest.raises(UserError, match="fidelity: should be 'released' or 'corrected', not"):
        read(path)
