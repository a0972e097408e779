"""Predictions that compare with normal images, as a user runs them, on a tiny CLIP."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import predict
from engine.detector import Detector
from tests import small_data
from tests.forked import run_shared
from tests.test_predict import table
from utils.errors import UserError


@pytest.fixture(scope="module")
def normal(tmp_path_factory) -> Path:
    return small_data.draw_grey(tmp_path_factory.mktemp("normal"), 5)


@pytest.fixture(scope="module")
def remembered(bolts, normal, model, tmp_path_factory) -> Path:
    """A prediction that compared with the normal images."""
    out = tmp_path_factory.mktemp("remembered")
    run(model, out, bolts / "bolt" / "test", "--normal_dir", normal, "--normal_memory", "--false_alarm_rate", "0.4")
    return out


def run(model: list[str], out: Path, *arguments: object) -> int:
    more = ["--num_workers", "0", "--cache_dir", str(out.parent / "cache"), *model]
    return predict.main([*map(str, arguments), "--save_path", str(out), *more])


def content(path: Path) -> dict:
    return json.loads(path.read_text())


def test_each_normal_image_is_calibrated_by_the_others_alone(remembered, normal, model, tmp_path):
    saved = content(remembered / "calibration.json")
    for i, path in enumerate(sorted(normal.iterdir())):
        others = shutil.copytree(normal, tmp_path / f"without {i}")
        (others / path.name).unlink()
        run(model, tmp_path / str(i), path, "--normal_dir", others, "--normal_memory")
        (row,) = table(tmp_path / str(i))
        assert saved["map_max"][i] == pytest.approx(float(row["map_max"]), rel=1e-5)
        assert saved["text_prob"][i] == pytest.approx(float(row["text_prob"]), rel=1e-5)


def test_a_memory_is_recorded_and_adds_to_the_maps(remembered, bolts, normal, model, tmp_path):
    settings = content(remembered / "predict.json")
    recorded = settings["normal_memory"]
    assert {key: recorded[key] for key in ("images", "tokens", "weight")} == {"images": 5, "tokens": 144, "weight": 2}
    assert content(remembered / "calibration.json")["origin"]["normal_memory"] == recorded
    said = "maps have 2 times the distance to 5 normal images, 144 patches of each, in them"
    assert said in (remembered / "report.html").read_text()
    run(model, tmp_path / "without", bolts / "bolt" / "test", "--normal_dir", normal)
    assert content(tmp_path / "without" / "predict.json")["normal_memory"] is None
    assert not (tmp_path / "without" / "memory.pth").exists()
    for with_memory, without in zip(table(remembered), table(tmp_path / "without"), strict=True):
        assert float(with_memory["map_max"]) > float(without["map_max"]) + 0.01
        assert float(with_memory["text_prob"]) == pytest.approx(float(without["text_prob"]), rel=1e-5)


def test_a_calibration_brings_its_memory(remembered, bolts, model, tmp_path):
    test = bolts / "bolt" / "test"
    calibrated = ("--calibration", remembered / "calibration.json")
    run(model, tmp_path / "again", test, *calibrated, "--normal_memory")
    assert table(tmp_path / "again") == table(remembered)
    further = ("--calibration", tmp_path / "again" / "calibration.json")
    run(model, tmp_path / "further", test, *further, "--normal_memory")
    assert table(tmp_path / "further") == table(remembered)
    with pytest.raises(UserError, match=r"was made with normal_memory .*, and this run has not given"):
        run(model, tmp_path / "without", test, *calibrated)
    with pytest.raises(UserError, match=r"was made with normal_memory .*, and this run has not given"):
        Detector("sdp", backbone=model[1], pretrained=model[3], calibration=calibrated[1], cache_dir=tmp_path)


def test_a_memory_of_another_kind_is_one_sentence(remembered, bolts, normal, model, tmp_path):
    test = bolts / "bolt" / "test"

    def refused(match: str, *more: str) -> None:
        calibrated = ("--calibration", tmp_path / "calibration.json", "--normal_memory")
        with pytest.raises(UserError, match=match):
            run(model, tmp_path / "out", test, *calibrated, *more)

    shutil.copy(remembered / "calibration.json", tmp_path)
    refused(r"--normal_memory: there is no .*memory\.pth, which lies beside a calibration that was made with it")
    (tmp_path / "memory.pth").write_bytes(b"no memory")
    refused(r"memory\.pth is damaged or holds more than tensors")
    torch.save({"tokens": [torch.ones(5, 3, 8)] * 4}, tmp_path / "memory.pth")
    refused(r"memory\.pth holds no memory of normal images: make it again with --normal_dir")
    shutil.copy(remembered / "memory.pth", tmp_path)
    refused(r"memory\.pth was made with features_list 2 4 6 8, and this run has 1 2 3 4", "--features_list", *"1234")
    own = shutil.copytree(normal, tmp_path / "fewer")
    (own / "0.png").unlink()
    run(model, tmp_path / "other", test, "--normal_dir", own, "--normal_memory")
    shutil.copy(tmp_path / "other" / "memory.pth", tmp_path)
    refused(r"calibration\.json was made with normal_memory .*'images': 5.*, and this run has .*'images': 4")


def test_copies_and_files_that_cannot_be_read_are_not_remembered(remembered, bolts, normal, model, tmp_path):
    own = shutil.copytree(normal, tmp_path / "normal")
    shutil.copy(own / "1.png", own / "copy.png")
    (own / "bad.png").write_bytes(b"no image")
    test = (bolts / "bolt" / "test", "--normal_dir", own, "--normal_memory", "--false_alarm_rate", "0.4")
    run(model, tmp_path / "out", *test)
    assert table(tmp_path / "out") == table(remembered)
    for path in sorted(own.iterdir())[1:]:
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"--normal_dir .*: 1 image, which is too few: give at least 2"):
        run(model, tmp_path / "few", *test)


def test_a_prediction_goes_on_with_the_same_memory_alone(remembered, bolts, normal, model, tmp_path):
    out = shutil.copytree(remembered, tmp_path / "out")
    options = (bolts / "bolt" / "test", "--normal_dir", normal, "--false_alarm_rate", "0.4", "--resume")
    lines = (out / "scores.jsonl").read_text().splitlines(keepends=True)
    (out / "scores.jsonl").write_text("".join(lines[:2]))
    run(model, out, *options, "--normal_memory")
    assert table(out) == table(remembered)
    with pytest.raises(UserError, match=r"predict\.json has normal_memory .*, and this run has not given"):
        run(model, out, *options)


def test_several_processes_remember_alike(remembered, bolts, normal, model, tmp_path):
    options = (bolts / "bolt" / "test", "--normal_dir", normal, "--normal_memory", "--false_alarm_rate", "0.4")
    codes, output = run_shared(2, lambda: run(model, tmp_path / "shared", *options))
    assert codes == [0, 0], output
    for mine, other in zip(table(tmp_path / "shared"), table(remembered), strict=True):
        assert float(mine["map_max"]) == pytest.approx(float(other["map_max"]), rel=1e-5)
        assert mine["p_value"] == other["p_value"]
