"""Tests that count normal images of the training split, as a user runs them, on a tiny CLIP."""

import json
import shutil
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import torch

import test_dp_clip
import test_sdp
import test_sdp_plus
import train_sdp_plus
from data.build import ensure_meta
from data.few_shot import draw
from datasets.images import load_rgb
from datasets.meta import read_meta
from datasets.registry import get_spec
from datasets.transforms import image_transform, normalised
from engine.shots import Shots
from models.memory import MemoryDetector, NormalMemory, remember
from models.sdp import SDP
from tests import left_behind, small_data, tiny_clip
from tests.compare import MEASURES
from tests.forked import run_shared
from tests.left_behind import results
from utils.errors import UserError

SHOTS = ("--shots", "2", "1", "--seeds", "0", "5", "7")


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """Two classes with five normal images each to train on."""
    root, rng = small_data.make(tmp_path_factory.mktemp("parts")), np.random.default_rng(4)
    for name in ("bolt", "nut"):
        for i in range(5):
            image = rng.integers(60, 120, (70, 90, 3), dtype=np.uint8)
            small_data.write(root / name / "train" / "good" / f"{i:03}.png", image)
    return root


@pytest.fixture(scope="module")
def shot(parts, model, tmp_path_factory) -> Path:
    """The results of SDP."""
    out = tmp_path_factory.mktemp("shot") / "out"
    test_sdp.main(options(parts, model, out, *SHOTS))
    return out


def options(root: Path, model: list[str], out: Path, *more: str) -> list[str]:
    paths = ["--data_path", str(root), "--save_path", str(out), "--cache_dir", str(out.parent / "cache")]
    return ["--dataset", "mvtec", *paths, "--num_workers", "0", *model, *more]


def same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert value == pytest.approx(b[key], abs=MEASURES)


def test_zero_shot_results_stay_and_each_draw_is_of_the_training_split(shot, parts, model, tmp_path):
    test_sdp.main(options(parts, model, tmp_path / "without"))
    found, without = results(shot), results(tmp_path / "without")
    same(found["mean"], without["mean"])
    assert "shots" not in without
    assert not (tmp_path / "without" / "shots.md").exists()
    assert found["arguments"]["shots"] == [2, 1]
    assert found["arguments"]["seeds"] == [0, 5, 7]
    train = read_meta(ensure_meta(get_spec("mvtec"), parts), parts)["train"]
    for name, drawn in found["shots"]["images"].items():
        assert list(drawn) == [f"{count}, seed {seed}" for count in (1, 2) for seed in (0, 5, 7)]
        for seed in (0, 5, 7):
            one, two = (drawn[f"{count}, seed {seed}"] for count in (1, 2))
            assert two == [entry.img_path for entry in draw(train[name], 2, seed)]
            assert set(one) < set(two)
            assert all(path.startswith(f"{name}/train/good/") for path in two)


def test_means_and_spread_are_those_over_the_seeds(shot):
    found = results(shot)["shots"]
    lines = (shot / "shots.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [row[0] for row in table[:1] + table[2:]] == ["shots", "0", "1", "2"]
    for count, row in (("1", table[3]), ("2", table[4])):
        for place, key in enumerate(table[0][1:], 1):
            by_seed = [
                mean(found["classes"][name][f"{count}, seed {seed}"][key] for name in ("bolt", "nut"))
                for seed in (0, 5, 7)
            ]
            one = found["mean"][count][key]
            assert (one["mean"], one["std"]) == pytest.approx((mean(by_seed), stdev(by_seed)))
            assert row[place] == f"{100 * one['mean']:.1f} ± {100 * one['std']:.1f}"
    zero_shot = results(shot)["mean"]
    assert table[2][1:] == [f"{100 * zero_shot[key]:.1f}" for key in table[0][1:]]
    assert "means over 2 of 2 classes, and over the draws by seeds 0, 5, 7" in "\n".join(lines)


@pytest.fixture(scope="module")
def checkpoints(parts, model, tmp_path_factory) -> dict[str, list[str]]:
    own = ("--prompts", "industrial", "--fidelity", "corrected")
    return left_behind.checkpoints(tmp_path_factory.mktemp("training"), parts, *model, dp_clip=own)


@pytest.mark.parametrize("method", ["sdp", "sdp_plus", "dp_clip"])
def test_measures_are_those_of_a_test_with_the_drawn_images_remembered(
    method, parts, checkpoints, model, tmp_path, monkeypatch
):
    """The detector of predictions with a memory of the images that were drawn, in the place of the zero-shot one."""
    program = {"sdp": test_sdp, "sdp_plus": test_sdp_plus, "dp_clip": test_dp_clip}[method]
    common = ["--classes", "bolt", *checkpoints[method]]
    program.main(options(parts, model, tmp_path / "shots", *common, *SHOTS))
    shots, key = results(tmp_path / "shots")["shots"], "2, seed 5"
    drawn = [
        normalised(image_transform(load_rgb(parts / path), tiny_clip.SIZE)) for path in shots["images"]["bolt"][key]
    ]
    assert len(drawn) == 2

    def with_these_remembered(self, images, class_names):
        tokens = [remember(self.detector, image[None], ["bolt"], of=2)[0] for image in drawn]
        memory = NormalMemory([*map(torch.stack, zip(*tokens, strict=True))], ["first", "second"])
        found = MemoryDetector(self.detector, memory).predict(images, class_names)
        return found._replace(distances=torch.zeros(len(images), len(self.draws), 12, 12))

    monkeypatch.setattr(Shots, "predict", with_these_remembered)
    program.main(options(parts, model, tmp_path / "remembered", *common, *SHOTS))
    found = shots["classes"]["bolt"][key]
    same(found, {measure: results(tmp_path / "remembered")["mean"][measure] for measure in found})
    assert found != {measure: results(tmp_path / "shots")["mean"][measure] for measure in found}


def test_a_test_image_goes_through_the_backbone_once(parts, model, tmp_path, monkeypatch):
    seen = []
    predict = SDP.predict

    def counting(self, images, class_names, **options):
        seen.append(len(images))
        return predict(self, images, class_names, **options)

    monkeypatch.setattr(SDP, "predict", counting)
    test_sdp.main(options(parts, model, tmp_path / "out", *SHOTS, "--batch_size", "2"))
    drawn = results(tmp_path / "out")["shots"]["images"]
    references = sum(len({path for own in of_class.values() for path in own}) for of_class in drawn.values())
    assert sum(seen) == 10 + references


def test_stopped_and_shared_runs_end_alike(shot, parts, model, tmp_path):
    out = shutil.copytree(shot, tmp_path / "out")
    (out / ".classes" / "nut.json").unlink()
    test_sdp.main(options(parts, model, out, *SHOTS, "--resume"))
    assert results(out)["shots"] == results(shot)["shots"]
    assert (out / "shots.md").read_text() == (shot / "shots.md").read_text()
    with pytest.raises(UserError, match=r"holds results of other settings, shots \(2 1 there, not given here\)"):
        test_sdp.main(options(parts, model, out))
    codes, output = run_shared(2, lambda: test_sdp.main(options(parts, model, tmp_path / "shared", *SHOTS)))
    assert codes == [0, 0], output
    for key, own in results(tmp_path / "shared")["shots"]["classes"]["nut"].items():
        same(own, results(shot)["shots"]["classes"]["nut"][key])


def test_images_that_cannot_be_read_change_no_other(shot, parts, model, tmp_path):
    root = shutil.copytree(parts, tmp_path / "parts")
    meta = json.loads((root / "meta.json").read_text())
    (root / "bolt" / "test" / "good" / "bad.png").write_bytes(b"no image")
    meta["test"]["bolt"].insert(1, meta["test"]["bolt"][0] | {"img_path": "bolt/test/good/bad.png"})
    (root / "meta.json").write_text(json.dumps(meta))
    test_sdp.main(options(root, model, tmp_path / "out", *SHOTS, "--skip_broken"))
    for name, own in results(tmp_path / "out")["shots"]["classes"].items():
        for key, measures in own.items():
            same(measures, results(shot)["shots"]["classes"][name][key])


def test_a_run_goes_on_with_the_same_normal_images_alone(parts, model, tmp_path):
    root, out = shutil.copytree(parts, tmp_path / "parts"), tmp_path / "out"
    test_sdp.main(options(root, model, out, *SHOTS))
    small_data.write(root / "nut" / "train" / "good" / "000.png", np.full((70, 90, 3), 200, np.uint8))
    test_sdp.main(options(root, model, out, *SHOTS, "--resume"))
    assert "class nut is computed again, since its images have changed" in (out / "test.log").read_text()


def test_too_few_normal_images_are_one_sentence(parts, bolts, model, tmp_path):
    with pytest.raises(UserError, match=r"--shots 6: .* has 5 normal images of bolt in its training split; give fewer"):
        test_sdp.main(options(parts, model, tmp_path / "six", "--shots", "1", "6"))
    with pytest.raises(UserError, match=r"--shots 1: .* has 0 normal images of bolt in its training split"):
        test_sdp.main(options(bolts, model, tmp_path / "none", "--shots", "1"))


def test_normal_images_are_looked_at_before_any_work(parts, model, tmp_path, monkeypatch):
    root, copy = shutil.copytree(parts, tmp_path / "parts"), "nut/test/good/000.png"
    for i in range(5):
        shutil.copy(root / copy, root / "nut" / "train" / "good" / f"{i:03}.png")
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(parts), "--num_workers", "0", "--no_cache"]
    more = ["--epochs", "1", "--seeds", "0", "1", "--save_path", str(tmp_path / "trained")]
    train_sdp_plus.main([*data, *model, *more])
    test_sdp_plus.main(options(root, model, tmp_path / "copies", *SHOTS, "--checkpoint", str(tmp_path / "trained")))
    note = f"test images that are among the normal images of --shots (1): {copy}"
    assert [results(tmp_path / "copies" / f"seed_{seed}")["notes"].count(note) for seed in (0, 1)] == [1, 1]
    shutil.rmtree(root / "nut" / "train" / "good")
    monkeypatch.setattr(SDP, "predict", None)
    with pytest.raises(UserError, match=r"--shots draws images that are not in .* \([2-5]\): nut/train/good/00"):
        test_sdp.main(options(root, model, tmp_path / "gone", *SHOTS))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--seeds", "0"), "--seeds goes with --shots"),
        (("--shots", "1", "--tile", "96"), "--shots compares patches of whole images: leave out --tile"),
    ],
)
def test_options_that_do_not_go_together_are_refused(more, said, capsys):
    with pytest.raises(SystemExit):
        test_sdp.main(["--dataset", "demo", *more])
    assert said in capsys.readouterr().err
