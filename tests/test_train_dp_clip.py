"""`train_dp_clip.py` as a user runs it, on a tiny CLIP and small data sets."""

import json
import re
from pathlib import Path

import cv2
import pytest
import torch

import test_dp_clip
import train_dp_clip
import train_sdp_plus
from engine.dp_clip_training import DPClipTraining
from engine.training import Training
from engine.training_options import DPClipTrainingOptions
from engine.training_sets import read_training_sets
from models.checkpoints import read_checkpoint, save_checkpoint
from tests.compare import TRAINED, relative_length
from tests.left_behind import table
from utils.arguments import parse
from utils.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]


def options(bolts: Path, model: list[str], out: Path, *more: str) -> list[str]:
    """Of a training of two epochs on the bolts; a later value of an option replaces an earlier one."""
    texts = ["--cache_dir", str(out.parent / "cache"), "--save_path", str(out), *model]
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), "--num_workers", "0"]
    return [*data, *texts, "--epochs", "2", *more]


def losses(out: Path, name: str = "loss") -> list[float]:
    return [float(row[name]) for row in table(out / "loss.csv")]


def trained(out: Path, name: str = "image_adapter.pth") -> dict:
    return torch.load(out / name, weights_only=True)


def same(a, b) -> bool:
    """Whether two contents of checkpoints are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_training_leaves_everything_it_should(bolts, model, tmp_path):
    out = tmp_path / "run"
    train_dp_clip.main(options(bolts, model, out, "--epochs", "5", "--save_freq", "2", "--shot", "2"))
    assert {path.name for path in out.iterdir() if path.name != ".lock"} == {
        *("image_adapter_2.pth", "image_adapter_4.pth", "image_adapter_5.pth", "image_adapter.pth"),
        *("last.pth", "loss.csv", "loss.png", "train.log"),
    }
    assert len(losses(out)) == 5 * 3  # eight images in batches of three
    assert sum(losses(out)[-3:]) < 0.9 * sum(losses(out)[:3])
    parts = ("loss", "classification", "segmentation", "decoupling")
    for total, *rest in zip(*(losses(out, name) for name in parts), strict=True):
        assert total == pytest.approx(rest[0] + rest[1] + 0.1 * rest[2], rel=1e-5)
    checkpoint = trained(out)
    assert list(checkpoint)[:3] == ["epoch", "image_adapter", "image_optimizer"]
    assert same(checkpoint, trained(out, "image_adapter_5.pth"))
    assert not same(checkpoint["image_adapter"], trained(out, "image_adapter_4.pth")["image_adapter"])
    assert checkpoint["epoch"] == 5
    assert checkpoint["fidelity"] == "released"
    assert checkpoint["settings"]["image_adapt_layers"] == [0, 1]
    assert checkpoint["train_dataset"] == ["mvtec"]
    assert checkpoint["shot"] == 2
    assert {key.split(".")[0] for key in checkpoint["image_adapter"]} == {"layer_adapters", "seg_proj", "det_proj"}
    assert checkpoint["image_optimizer"]["param_groups"][0]["betas"] == (0.5, 0.999)
    assert cv2.imread(str(out / "loss.png")).shape[1] > 500
    log = (out / "train.log").read_text()
    assert "on 8 images for 5 epochs, in released fidelity" in log
    assert "epoch 5 of 5: loss" in log
    assert "calls no pixel anomalous" not in log
    assert str(out / "image_adapter.pth") in log


def test_a_tap_that_has_become_blank_is_named(bolts, model, tmp_path):
    train_dp_clip.main(options(bolts, model, tmp_path / "run", "--learning_rate", "0.1"))
    log = (tmp_path / "run" / "train.log").read_text()
    blank = re.findall(r"WARNING tap (\d), after block (\d), calls no pixel anomalous", log)
    assert blank == [("1", "2"), ("2", "4"), ("4", "8")]


@pytest.mark.parametrize("fidelity", ["released", "corrected"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does_in_corrected_fidelity(bolts, model, tmp_path, fidelity):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ["--fidelity", fidelity, "--milestones", "3", "--momentum_alpha", "0.5", "--epochs", "3"]
    train_dp_clip.main(options(bolts, model, whole, *more))
    train_dp_clip.main(options(bolts, model, parts, *more, "--epochs", "1"))
    train_dp_clip.main(options(bolts, model, parts, *more, "--resume"))
    assert same(trained(whole), trained(parts)) == (fidelity == "corrected")
    assert (losses(whole) == losses(parts)) == (fidelity == "corrected")
    schedules = [trained(run, "last.pth")["scheduler"] for run in (whole, parts)]
    steps, rates = zip(*((state["last_epoch"], *state["_last_lr"]) for state in schedules), strict=True)
    assert steps == ((12, 12) if fidelity == "corrected" else (12, 8))  # of four an epoch
    assert rates == (5e-4 / 2, 5e-4 / (2 if fidelity == "corrected" else 4))
    before = trained(parts)
    train_dp_clip.main(options(bolts, model, parts, *more, "--resume"))
    assert same(before, trained(parts))


def test_workers_and_checkpointing_change_nothing(bolts, model, tmp_path):
    for name, more in {"one": [], "workers": ["--num_workers", "2"], "lean": ["--activation_checkpointing"]}.items():
        train_dp_clip.main(options(bolts, model, tmp_path / name, *more))
    for name in ("workers", "lean"):
        assert same(trained(tmp_path / "one"), trained(tmp_path / name))


def test_accumulated_batches_make_the_step_of_their_mean_gradient(bolts, model, tmp_path):
    """Without the decoupling loss, which is the batch's own, five batches of one image are as one batch of five."""
    more = ["--fidelity", "corrected", "--epochs", "1", "--train_classes", "bolt", "--decoupling_weight", "0"]
    for name, size in {"together": ["5", "--accumulate", "1"], "apart": ["1", "--accumulate", "5"]}.items():
        train_dp_clip.main(options(bolts, model, tmp_path / name, *more, "--batch_size", *size))
    assert losses(tmp_path / "apart") == pytest.approx(losses(tmp_path / "together"), rel=1e-5)
    together, apart = (trained(tmp_path / name)["image_optimizer"]["state"] for name in ("together", "apart"))
    for key, state in together.items():
        assert relative_length(apart[key]["exp_avg"], state["exp_avg"]) < TRAINED


def test_the_last_step_of_an_epoch_may_have_fewer_batches(bolts, model, tmp_path):
    out = tmp_path / "run"
    train_dp_clip.main(options(bolts, model, out, "--epochs", "1", "--accumulate", "3"))
    assert len(losses(out)) == 2  # ten images in four batches, three and one


def test_gradients_are_clipped_only_on_demand(bolts, model, tmp_path):
    for name, more in {"long": [], "short": ["--clip_gradient", "0.001"]}.items():
        train_dp_clip.main(options(bolts, model, tmp_path / name, "--epochs", "1", *more))
    moments = [
        max(state["exp_avg"].norm() for state in trained(tmp_path / name)["image_optimizer"]["state"].values())
        for name in ("long", "short")
    ]
    assert moments[0] > 0.1
    assert moments[1] <= 0.001


def test_mixed_precision_trains_alike(bolts, model, tmp_path):
    for name, more in {"exact": [], "mixed": ["--amp"]}.items():
        train_dp_clip.main(options(bolts, model, tmp_path / name, "--epochs", "1", *more))
    exact, mixed = losses(tmp_path / "exact"), losses(tmp_path / "mixed")
    assert exact != mixed
    assert exact == pytest.approx(mixed, rel=0.02)
    assert all(value.dtype == torch.float32 for value in trained(tmp_path / "mixed")["image_adapter"].values())


def test_in_fp16_gradients_that_overflow_are_dropped_and_the_loss_is_scaled_less(bolts, model, tmp_path):
    out = tmp_path / "run"
    train_dp_clip.main(options(bolts, model, out, "--precision", "fp16", "--train_classes", "bolt"))
    state = trained(out, "last.pth")
    dropped = round(torch.tensor(2.0**16 / state["scaler"]["scale"]).log2().item())
    assert 0 < dropped < 4
    assert state["scheduler"]["last_epoch"] == 4 - dropped
    assert {int(one["step"]) for one in state["image_optimizer"]["state"].values()} == {4 - dropped}
    assert all(value.isfinite().all() for value in state["image_adapter"].values())


def test_several_data_sets_and_lists_train_together(bolts, cogs, model, tmp_path):
    lists = tmp_path / "bolts.jsonl", tmp_path / "cogs.jsonl"
    for path, name in zip(lists, ("bolt", "cog"), strict=True):
        lines = [
            f'{{"image_path": "{name}/test/good/000.png", "label": 0, "class_name": "{name}"}}',
            f'{{"image_path": "{name}/test/square/000.png", "label": 1, "class_name": "{name}", '
            f'"mask_path": "{name}/ground_truth/square/000_mask.png"}}',
        ]
        path.write_text("\n".join(lines))
    both = ["--train_dataset", "mvtec", "mvtec", "--train_dataset_dir", str(bolts), str(cogs)]
    more = [*both, "--train_meta", *map(str, lists), "--epochs", "1"]
    train_dp_clip.main(options(bolts, model, tmp_path / "run", *more))
    log = (tmp_path / "run" / "train.log").read_text()
    assert "on 4 images" in log
    assert "class cog is called 'cog'" in log


def test_few_shots_are_those_that_are_drawn_for_a_file(bolts, tmp_path):
    read = parse(DPClipTrainingOptions, None, options(bolts, [], tmp_path, "--shot", "1"))
    drawn = [(entry.cls_name, entry.anomaly) for entry in read_training_sets(read)[0].entries]
    assert drawn == [("bolt", 0), ("bolt", 1), ("nut", 0), ("nut", 1)]


def test_the_paper_settings_are_the_defaults(bolts, tmp_path):
    args = parse(DPClipTrainingOptions, None, ["--train_dataset", "visa", "--save_path", str(tmp_path)])
    assert (args.batch_size, args.epochs, args.learning_rate, args.seed) == (3, 20, 5e-4, 111)
    assert (args.milestones, args.decoupling_weight, args.momentum_alpha) == ((16000, 32000), 0.1, 0.999)
    assert (args.clip_gradient, args.accumulate, args.shot, args.precision) == (None, 1, None, "fp32")


def test_a_loss_that_is_not_finite_stops_with_step_and_files_and_keeps_the_last_checkpoint(
    bolts, model, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    train_dp_clip.main(options(bolts, model, out, "--epochs", "1"))
    before = trained(out)
    forward_backward, calls = DPClipTraining.forward_backward, []

    def explode(training, batch, *shares):
        calls.append(batch)
        batch = batch._replace(images=batch.images * torch.nan) if len(calls) == 2 else batch
        return forward_backward(training, batch, *shares)

    monkeypatch.setattr(DPClipTraining, "forward_backward", explode)
    with pytest.raises(UserError, match=r"the loss of step 6 is not finite, on .*/test/.*\.png") as caught:
        train_dp_clip.main(options(bolts, model, out, "--resume"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(".png") == 3
    assert str(caught.value).endswith(f"epoch 1 is the last good one, in {out / 'last.pth'}")
    assert same(before, trained(out))
    monkeypatch.undo()
    train_dp_clip.main(options(bolts, model, out, "--resume"))
    assert trained(out)["epoch"] == 2


@pytest.mark.parametrize("program", [train_dp_clip, train_sdp_plus])
def test_a_training_that_diverges_in_its_last_step_leaves_no_such_checkpoint(bolts, model, tmp_path, program):
    """One step an epoch: the loss before it is finite, and the parameters after it are not."""
    out, one_step = tmp_path / "run", ["--batch_size", "10", "--epochs", "1"]
    with pytest.raises(
        UserError, match=r"after epoch 1 the trained parameters are not finite: choose a smaller"
    ) as caught:
        program.main(options(bolts, model, out, *one_step, "--learning_rate", "1e308"))
    assert str(caught.value).endswith("; no epoch was finished")
    assert not list(out.glob("*.pth"))


@pytest.mark.parametrize("program", [train_dp_clip, train_sdp_plus])
def test_the_last_good_epoch_is_named_and_can_be_tested(bolts, model, tmp_path, monkeypatch, program):
    out, steps = tmp_path / "run", Training.steps

    def diverging(training, epoch):
        yield from steps(training, epoch)
        if epoch == 3:
            next(training.trained.parameters()).data.fill_(torch.inf)

    monkeypatch.setattr(Training, "steps", diverging)
    with pytest.raises(UserError, match=r"after epoch 3 the trained parameters are not finite") as caught:
        program.main(options(bolts, model, out, "--epochs", "4", "--save_freq", "4"))
    said, _, path = str(caught.value).partition(" is the last good one, in ")
    assert said.endswith("; epoch 2")
    assert read_checkpoint(Path(path))["epoch"] == 2


@pytest.mark.parametrize(
    "more, message",
    [
        (["--image_adapt_layers", "0", "8"], "8 is not one of the blocks 0 to 7"),
        (["--image_adapt_layers", "1", "1"], "give each block once"),
        (["--train_meta", "a.jsonl", "b.jsonl"], "names 1 data sets, --train_meta 2 lists"),
        (["--train_classes", "screw"], "has no class screw"),
    ],
)
def test_a_users_mistake_is_one_sentence(bolts, model, tmp_path, more, message):
    with pytest.raises(UserError, match=message) as caught:
        train_dp_clip.main(options(bolts, model, tmp_path / "run", *more))
    assert "\n" not in str(caught.value)


def test_a_finished_training_is_not_overwritten_nor_resumed_otherwise(bolts, model, tmp_path):
    out = tmp_path / "run"
    train_dp_clip.main(options(bolts, model, out, "--epochs", "1"))
    with pytest.raises(UserError, match="holds a training already"):
        train_dp_clip.main(options(bolts, model, out))
    with pytest.raises(UserError, match=r"--relu is True, but was not given in the training of .*last\.pth"):
        train_dp_clip.main(options(bolts, model, out, "--resume", "--relu"))
    save_checkpoint(out / "last.pth", read_checkpoint(out / "last.pth") | {"method": "SDP+"})
    with pytest.raises(UserError, match=r"last\.pth is of a training of SDP\+, not of DP-CLIP"):
        train_dp_clip.main(options(bolts, model, out, "--resume"))


def test_a_backbone_of_another_depth_and_width_is_trained_and_tested(bolts, cogs, tmp_path):
    """The demonstration model, whose only adapter follows the first of four blocks."""
    demo = ["--model", "demo", "--epochs", "1", "--fidelity", "corrected"]
    train_dp_clip.main(options(bolts, [], tmp_path / "run", *demo))
    adapter = trained(tmp_path / "run")["image_adapter"]
    assert adapter["layer_adapters.0.fc.weight"].shape == (128, 128)
    assert "layer_adapters.1.fc.weight" not in adapter
    assert adapter["det_proj.fc.weight"].shape == (64, 128)
    out = tmp_path / "tested"
    data = ["--dataset", "mvtec", "--data_path", str(cogs), "--num_workers", "0", "--save_path", str(out)]
    cache = ["--cache_dir", str(tmp_path / "cache")]
    checkpoint = ["--checkpoint", str(tmp_path / "run" / "image_adapter.pth")]
    test_dp_clip.main([*checkpoint, *data, *cache, "--model", "demo"])
    results = json.loads((out / "results.json").read_text())
    assert results["images"] == 5
    assert results["fidelity"]["name"] == "corrected"


def test_response_normalisation_and_aligned_corners_can_be_left_out(bolts, model, tmp_path):
    out = tmp_path / "run"
    train_dp_clip.main(options(bolts, model, out, "--epochs", "1", "--no-grn", "--no-align_corners"))
    checkpoint = trained(out)
    assert checkpoint["settings"]["grn"] is False
    assert checkpoint["settings"]["align_corners"] is False
    assert not any(".grn." in key for key in checkpoint["image_adapter"])
    data = ["--dataset", "mvtec", "--data_path", str(bolts), "--num_workers", "0"]
    paths = ["--checkpoint", str(out / "image_adapter.pth"), "--save_path", str(tmp_path / "test")]
    test_dp_clip.main([*data, *model, *paths, "--cache_dir", str(tmp_path / "cache")])
    assert (tmp_path / "test" / "summary.md").exists()
