"""`train_sdp_plus.py` and `test_sdp_plus.py` as a user runs them, on a tiny CLIP and small data sets."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import test_sdp_plus
import train_sdp_plus
from datasets.loader import epoch_order
from engine.sdp_plus_training import SDPPlusTraining
from engine.tokens import encode_patch_tokens
from tests import small_data, tiny_clip
from tests.left_behind import table
from tests.scripts import record, run_calls
from utils.errors import UserError


def options(bolts: Path, model: list[str], out: Path, *more: str) -> list[str]:
    """Of a training of three epochs on the bolts; a later value of an option replaces an earlier one."""
    texts = ["--cache_dir", str(out.parent / "cache"), "--save_path", str(out), *model]
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), "--num_workers", "0"]
    return [*data, *texts, "--epochs", "3", "--batch_size", "4", "--learning_rate", "0.001", *more]


def losses(out: Path) -> list[float]:
    return [float(row["loss"]) for row in table(out / "loss.csv")]


def trained(out: Path, name: str = "last.pth") -> dict:
    return torch.load(out / name, weights_only=True)


def same_adapters(a: dict, b: dict) -> bool:
    return all(torch.equal(value, b["linear_layers"][key]) for key, value in a["linear_layers"].items())


def test_training_leaves_everything_it_should(bolts, cogs, model, tmp_path):
    out = tmp_path / "run"
    test = ["--test_dataset", "mvtec", "--test_dataset_dir", str(cogs), "--save_freq", "2"]
    train_sdp_plus.main(options(bolts, model, out, *test))
    assert losses(out)[-1] < losses(out)[0]
    assert len(losses(out)) == 3 * 3
    assert {path.name for path in out.glob("*.pth")} == {"epoch_2.pth", "epoch_3.pth", "last.pth"}
    assert same_adapters(trained(out), trained(out, "epoch_3.pth"))
    assert not same_adapters(trained(out), trained(out, "epoch_2.pth"))
    assert trained(out, "epoch_2.pth")["fidelity"] == "corrected"
    assert trained(out, "epoch_2.pth")["shot"] is None
    rows = table(out / "validation.csv")
    assert [row["epoch"] for row in rows] == ["2", "3"]
    results = json.loads((out / "validation" / "epoch_3" / "results.json").read_text())
    assert float(rows[1]["ap_px"]) == results["mean"]["ap_px"]
    for name in ("loss.png", "validation.png"):
        assert cv2.imread(str(out / name)).shape[1] > 500
    log = (out / "train.log").read_text()
    assert "epoch 3 of 3: loss" in log
    assert str(out / "epoch_3.pth") in log


def test_masks_that_vanish_at_the_models_size_are_warned_of(model, tmp_path):
    data, line = small_data.make(tmp_path / "data", ("bolt",)), np.zeros((700, 900), np.uint8)
    line[300:302] = 255
    for kind, pixels in (("test", 255 - line), ("ground_truth", line)):
        small_data.write(data / "bolt" / kind / "line" / "000.png", pixels)
    train_sdp_plus.main(options(data, model, tmp_path / "run", "--epochs", "1"))
    said = "so that these defects count as normal (1): bolt/ground_truth/line/000.png"
    assert said in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("fidelity", ["released", "corrected"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(bolts, model, tmp_path, fidelity):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_sdp_plus.main(options(bolts, model, whole, "--fidelity", fidelity))
    train_sdp_plus.main(options(bolts, model, parts, "--fidelity", fidelity, "--epochs", "1"))
    train_sdp_plus.main(options(bolts, model, parts, "--fidelity", fidelity, "--resume"))
    assert same_adapters(trained(whole), trained(parts))
    assert losses(whole) == losses(parts)
    before = trained(parts)
    train_sdp_plus.main(options(bolts, model, parts, "--fidelity", fidelity, "--resume"))
    assert same_adapters(before, trained(parts))


def test_the_checkpoint_that_is_named_at_the_end_is_there(bolts, model, tmp_path):
    """Also where a run stopped between two checkpoints and is resumed with no epoch left."""
    out = tmp_path / "run"
    train_sdp_plus.main(options(bolts, model, out, "--epochs", "1"))
    for path in out.glob("epoch_*.pth"):
        path.unlink()
    train_sdp_plus.main(options(bolts, model, out, "--epochs", "1", "--resume"))
    said = (out / "train.log").read_text().splitlines()[-1]
    assert Path(said.split("test with --checkpoint ")[1]).exists()


def test_cached_tokens_train_as_those_encoded_anew(bolts, model, tmp_path):
    for name, more in {
        "again": ["--no_cache"],
        "exact": ["--cache_precision", "fp32"],
        "half": [],
        "mapped": ["--cache_memory", "0"],
    }.items():
        train_sdp_plus.main(options(bolts, model, tmp_path / name, *more))
    reference = losses(tmp_path / "again")
    assert losses(tmp_path / "exact") == pytest.approx(reference, rel=1e-5)
    assert losses(tmp_path / "half") == pytest.approx(reference, rel=1e-3)
    assert losses(tmp_path / "half") != losses(tmp_path / "exact")
    assert losses(tmp_path / "mapped") == losses(tmp_path / "half")


def test_a_second_run_encodes_nothing(bolts, model, tmp_path, monkeypatch):
    train_sdp_plus.main(options(bolts, model, tmp_path / "first"))

    def never(*_, **__):
        raise AssertionError("an image was encoded")

    monkeypatch.setattr("engine.tokens.encode_patch_tokens", never)
    train_sdp_plus.main(options(bolts, model, tmp_path / "second", "--learning_rate", "0.01", "--obj_name", "part"))
    assert losses(tmp_path / "second") != losses(tmp_path / "first")


def test_images_are_encoded_for_the_cache_as_they_are_tested(bolts, model, tmp_path, monkeypatch):
    """On CUDA, PyTorch would round convolutions to TF32 unless told otherwise."""
    allowed = []

    def recorded(*arguments):
        allowed.append(torch.backends.cudnn.allow_tf32)
        return encode_patch_tokens(*arguments)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr("engine.tokens.encode_patch_tokens", recorded)
    train_sdp_plus.main(options(bolts, model, tmp_path / "run", "--epochs", "1"))
    assert set(allowed) == {False}


def test_several_data_sets_train_together(bolts, cogs, model, tmp_path):
    both = ["--train_dataset", "mvtec", "mvtec", "--train_dataset_dir", str(bolts), str(cogs)]
    train_sdp_plus.main(options(bolts, model, tmp_path / "run", *both))
    assert "on 15 images for 3 epochs" in (tmp_path / "run" / "train.log").read_text()


def test_images_are_shuffled_in_corrected_fidelity_only():
    assert list(epoch_order(5, seed=42, epoch=1, shuffled=False)) == [0, 1, 2, 3, 4]
    orders = [epoch_order(50, seed, epoch, shuffled=True) for seed in (1, 2) for epoch in (1, 2)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert epoch_order(50, 1, 2, shuffled=True) == orders[1]


@pytest.mark.parametrize(
    "more, message",
    [
        (["--train_classes", "screw"], "has no class screw"),
        (["--test_dataset", "mvtec", "--test_dataset_dir", "BOLTS"], "would be trained on and validated on"),
    ],
)
def test_a_users_mistake_is_one_sentence(bolts, model, tmp_path, more, message):
    more = [str(bolts) if value == "BOLTS" else value for value in more]
    with pytest.raises(UserError, match=message) as caught:
        train_sdp_plus.main(options(bolts, model, tmp_path / "run", *more))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("more", [["--test_classes", "nut"], ["--test_dataset_dir", "."]])
def test_what_is_for_a_validation_is_refused_without_one(bolts, model, tmp_path, capsys, more):
    with pytest.raises(SystemExit) as stop:
        train_sdp_plus.main(options(bolts, model, tmp_path / "run", *more))
    assert stop.value.code == 2
    assert f"error: {more[0]} goes with --test_dataset" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_with_step_and_files_before_the_step(bolts, model, tmp_path, monkeypatch):
    out = tmp_path / "run"
    train_sdp_plus.main(options(bolts, model, out, "--epochs", "1"))
    before, batches, trainings = trained(out), SDPPlusTraining.batches, []

    def spoilt(*arguments):
        for batch in batches(*arguments):
            yield batch._replace(tokens=batch.tokens * torch.nan)

    def prepared(options):
        trainings.append(prepare(options))
        return trainings[0]

    prepare = SDPPlusTraining.prepare
    monkeypatch.setattr(SDPPlusTraining, "batches", spoilt)
    monkeypatch.setattr(SDPPlusTraining, "prepare", prepared)
    with pytest.raises(UserError, match=r"the loss of step 4 is not finite, on .*/test/.*\.png") as caught:
        train_sdp_plus.main(options(bolts, model, out, "--resume"))
    assert str(caught.value).count(".png") == 4
    assert same_adapters(before, trained(out))
    assert same_adapters(before, {"linear_layers": trainings[0].trained.state_dict()})


def test_images_without_a_mask_are_left_out_and_counted(bolts, model, tmp_path):
    entry = {"image_path": "bolt/test/square/000.png", "label": 1, "class_name": "bolt"}
    mask = {"mask_path": "bolt/ground_truth/square/000_mask.png"}
    other = {"image_path": "bolt/test/square/001.png"}
    meta = tmp_path / "mine.jsonl"
    meta.write_text("\n".join(map(json.dumps, (entry | mask, entry | other))))
    train_sdp_plus.main(options(bolts, model, tmp_path / "run", "--train_meta", str(meta)))
    log = (tmp_path / "run" / "train.log").read_text()
    assert f"left out of the training for want of a label or a mask: 1 images in {bolts}" in log
    assert "on 1 images for 3 epochs" in log


def test_a_data_set_without_masks_is_refused(model, tmp_path):
    for i, name in enumerate(("yes", "no")):
        image = tiny_clip.images(1)[0, 0].numpy() * 20 + 100
        small_data.write(tmp_path / "brain_tumor_dataset" / name / f"{i}.png", image.astype("uint8"))
    arguments = ["--train_dataset", "brainmri", "--train_dataset_dir", str(tmp_path)]
    with pytest.raises(UserError, match="has no masks to train on"):
        train_sdp_plus.main(options(tmp_path, model, tmp_path / "run", *arguments))


@pytest.fixture(scope="module")
def checkpoint(bolts, model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    train_sdp_plus.main(options(bolts, model, out, "--epochs", "5", "--fidelity", "released"))
    return out / "epoch_5.pth"


def evaluate(cogs: Path, model: list[str], checkpoint: Path, out: Path, *more: str) -> dict:
    arguments = ["--dataset", "mvtec", "--data_path", str(cogs), "--save_path", str(out), "--num_workers", "0"]
    cache = ["--cache_dir", str(out / "cache")]
    test_sdp_plus.main([*arguments, *cache, *model, "--checkpoint", str(checkpoint), *more])
    return json.loads((out / "results.json").read_text())


def test_testing_follows_the_checkpoint(cogs, model, checkpoint, tmp_path):
    results = evaluate(cogs, model, checkpoint, tmp_path, "--visualization", "--save_maps")
    assert results["finished"] is True
    assert results["method"] == "SDP+"
    assert results["fidelity"]["name"] == "released"
    assert results["checkpoint"]["epoch"] == 5
    assert len(results["checkpoint"]["sha256"]) == 64
    assert results["mean"]["auroc_px"] > 0.9  # a bright square is easily learnt
    assert len(list((tmp_path / "maps").rglob("*.npy"))) == 5
    assert (tmp_path / "contact_sheet.png").is_file()


def test_another_fidelity_than_the_checkpoints_is_warned_of(cogs, model, checkpoint, tmp_path, warnings_of):
    results = evaluate(cogs, model, checkpoint, tmp_path, "--fidelity", "corrected")
    assert results["fidelity"]["name"] == "corrected"
    assert "was trained with --fidelity released" in (tmp_path / "test.log").read_text()


def test_testing_on_what_was_trained_on_is_warned_of(bolts, model, checkpoint, tmp_path):
    evaluate(bolts, model, checkpoint, tmp_path)
    assert "mvtec is what the checkpoint was trained on" in (tmp_path / "test.log").read_text()


def test_smoothing_on_visa_is_the_authors(cogs, model, checkpoint, tmp_path):
    (tmp_path / "visa").mkdir()
    meta = tmp_path / "visa" / "mine.jsonl"
    line = {"image_path": "cog/test/good/000.png", "label": 0, "class_name": "cog"}
    meta.write_text(json.dumps(line) + "\n")
    results = evaluate(cogs, model, checkpoint, tmp_path / "out", "--dataset", "visa", "--meta", str(meta))
    assert results["arguments"]["smoothing"] == 2.0


def test_the_shell_scripts_train_on_one_data_set_and_test_the_other(bolts, model, tmp_path):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "mvtec").symlink_to(bolts)
    settings = {"MODEL": model[1], "PRETRAINED": model[3], "EPOCHS": "1", "NUM_WORKERS": "0"}
    settings |= {"DATA_ROOT": str(tmp_path / "sets"), "CACHE_DIR": str(tmp_path / "cache")}
    settings["ON_VISA"] = str(tmp_path / "trained" / "on_mvtec" / "epoch_1.pth")
    done, calls = record(tmp_path, "train_SDP_plus.sh", SAVE_PATH=str(tmp_path / "trained"), **settings)
    assert "skipping visa" in done.stderr
    run_calls(calls)
    tested = settings | {"DATASETS": "mvtec", "SAVE_PATH": str(tmp_path / "tested")}
    run_calls(record(tmp_path, "test_SDP_plus.sh", **tested)[1])
    assert json.loads((tmp_path / "tested" / "mvtec" / "results.json").read_text())["checkpoint"]["epoch"] == 1
    done, calls = record(tmp_path, "train_SDP_plus.sh", **settings | {"TRAIN_ON": "visa"})
    assert (done.returncode, calls) == (2, [])
    assert done.stderr.splitlines()[-1].startswith("error: none of the data sets (visa)")
