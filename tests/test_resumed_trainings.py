"""`--resume` of a training refuses whatever its parameters depend on and that is no longer as it was."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import load_file, save_file

import train_dp_clip
import train_sdp_plus
from tests import small_data, tiny_clip
from utils.errors import UserError

PROMPTS = {"normal": ["{}"], "anomalous": ["broken {}"], "templates": ["a photo of a {}."]}
IMAGE, MASK = "bolt/test/square/001.png", "bolt/ground_truth/square/001_mask.png"


MAINS = {"train_sdp_plus": train_sdp_plus.main, "train_dp_clip": train_dp_clip.main}


def train(program: str, folder: Path, *more: str) -> None:
    config, weights = folder / "tiny.json", folder / "tiny.safetensors"
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(folder / "data"), "--num_workers", "0"]
    paths = ["--save_path", str(folder / "run"), "--cache_dir", str(folder / "cache")]
    model = ["--model", str(config), "--pretrained", str(weights), "--prompts", str(folder / "prompts.json")]
    MAINS[program]([*data, *model, *paths, *more])
    logging.basicConfig(force=True)


@pytest.fixture(scope="module", params=MAINS)
def stopped(request, tmp_path_factory) -> tuple[str, Path]:
    """A program, and the folder of a training of one epoch by it, with its model, data and prompts."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny_clip.save(folder)
    small_data.make(folder / "data", ("bolt",))
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    train(request.param, folder, "--epochs", "1")
    return request.param, folder


@pytest.fixture
def training(stopped, tmp_path) -> Iterator[tuple[str, Path]]:
    """The same, put back afterwards."""
    program, folder = stopped
    shutil.copytree(folder, tmp_path / "before")
    yield program, folder
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "before", folder)


def repaint(path: Path) -> None:
    small_data.write(path, 255 - cv2.imread(str(path)))


def edit_meta(folder: Path, **values: dict) -> None:
    path = folder / "data" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_list(folder: Path, change: Callable[[list[dict]], None]) -> None:
    path = folder / "data" / "meta.json"
    meta = json.loads(path.read_text())
    change(meta["test"]["bolt"])
    path.write_text(json.dumps(meta))


def other_weights(folder: Path) -> None:
    state = load_file(folder / "tiny.safetensors")
    save_file({name: value * 1.01 for name, value in state.items()}, folder / "tiny.safetensors")


CHANGES = {
    "weights": (other_weights, "weights_sha256 is [0-9a-f]{64}, but was [0-9a-f]{64} in the training of .*last.pth"),
    "sentences": (
        lambda folder: (folder / "prompts.json").write_text(json.dumps(PROMPTS | {"normal": ["a {}"]})),
        r"the SHA-256 of prompts .*prompts\.json is ",
    ),
    "image": (lambda folder: repaint(folder / "data" / IMAGE), f"image . is {IMAGE} of .*, but was {IMAGE} of "),
    "mask": (lambda folder: repaint(folder / "data" / MASK), f"image . is {IMAGE} of .*, but was {IMAGE} of "),
    "label": (
        lambda folder: edit_list(folder, lambda entries: entries[-1].update(anomaly=0, mask_path="")),
        r"image 5 is .*label 0.*, but was .*label 1",
    ),
    "order": (lambda folder: edit_list(folder, list.reverse), r"image 1 is .*, but was "),
    "another image": (
        lambda folder: edit_list(folder, lambda entries: entries[0].update(img_path=MASK)),
        f"image 1 is {MASK} of .*, but was ",
    ),
    "phrases": (
        lambda folder: edit_meta(folder, phrases={"bolt": "hex bolt"}),
        r"what the classes are called is \{'bolt': 'hex bolt'\}, but was \{'bolt': 'bolt'\} in the training of ",
    ),
    "threshold": (
        lambda folder: edit_meta(folder, options={"mask_threshold": 100}),
        "what masks are anomalous above is 100, but was 0 in the training of ",
    ),
    "fewer": (lambda folder: edit_list(folder, list.pop), "the number of images is 4, but was 5 in the training of "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_is_refused_before_anything_is_encoded(training, change, monkeypatch):
    program, folder = training
    make, message = CHANGES[change]
    state = (folder / "run" / "last.pth").read_bytes()
    make(folder)
    monkeypatch.setattr("engine.tokens.encode_patch_tokens", None)
    with pytest.raises(UserError, match=message) as caught:
        train(program, folder, "--epochs", "2", "--resume")
    assert str(caught.value).endswith("give the same, or start over in another --save_path")
    assert (folder / "run" / "last.pth").read_bytes() == state


def test_a_folder_that_was_moved_goes_on(training):
    program, folder = training
    shutil.move(folder / "data", folder / "moved")
    for path in (folder / "moved").rglob("*.png"):
        path.touch()
    train(program, folder, "--epochs", "2", "--resume", "--train_dataset_dir", str(folder / "moved"))
    assert torch.load(folder / "run" / "last.pth", weights_only=True)["epoch"] == 2
    assert "does not record" not in (folder / "run" / "train.log").read_text()


def test_a_state_of_an_earlier_version_goes_on_and_what_is_not_known_is_said(training):
    program, folder = training
    path = folder / "run" / "last.pth"
    content = torch.load(path, weights_only=True)
    del content["arguments"]["intensity"]
    unknown = ("images", "prompts", "phrases", "mask_thresholds", "digest")
    torch.save({key: value for key, value in content.items() if key not in unknown}, path)
    with pytest.raises(UserError, match="--intensity is auto, but was full in the training of"):
        train(program, folder, "--epochs", "2", "--resume", "--intensity", "auto")
    train(program, folder, "--epochs", "2", "--resume")
    assert torch.load(path, weights_only=True)["epoch"] == 2
    prompts = f"the SHA-256 of prompts {folder / 'prompts.json'}"
    others = "the number of images, what the classes are called, what masks are anomalous above"
    said = f"{path} does not record {prompts}, {others}: it is not known whether that changed"
    assert said in (folder / "run" / "train.log").read_text()
