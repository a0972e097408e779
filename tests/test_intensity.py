"""Images that use 12 of 16 bits: every run warns of them, and `--intensity auto` reads them as those of 8 bits."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import doctor
import evaluate
import predict
import test_sdp
import train_dp_clip
import train_sdp_plus
from tests.left_behind import table
from utils.errors import UserError

WARNING = "images of 16 bits have values from"
REMEDY = "and 0 to 65535 are shown as black to white: give --intensity auto, or --intensity=0,4095"


@pytest.fixture(scope="module")
def deep(bolts, tmp_path_factory) -> Path:
    """The same data set, whose images are what a camera of 12 bits saves."""
    folder = tmp_path_factory.mktemp("deep") / "bolts"
    shutil.copytree(bolts, folder)
    for path in folder.glob("*/test/*/*.png"):
        assert cv2.imwrite(str(path), np.rint(cv2.imread(str(path)) * (4095 / 255)).astype(np.uint16))
    return folder


def warned(log: Path) -> bool:
    lines = [line for line in log.read_text().splitlines() if WARNING in line and " WARNING " in line]
    assert all(REMEDY in line for line in lines)
    return len(lines) == 1


def test_a_test(bolts, deep, model, tmp_path):
    def scores(name: str, data: Path, *options: str) -> list[dict[str, str]]:
        places = ["--save_path", str(tmp_path / name), "--cache_dir", str(tmp_path / "cache")]
        arguments = ["--dataset", "folder", "--data_path", str(data), "--num_workers", "0", "--no_report"]
        test_sdp.main([*arguments, *places, *model, *options])
        return table(tmp_path / name / "scores.csv")

    right = scores("right", bolts)
    assert scores("auto", deep, "--intensity", "auto") == scores("given", deep, "--intensity=0,4095") == right
    assert scores("full", deep) != right
    assert [warned(tmp_path / name / "test.log") for name in ("right", "auto", "given", "full")] == [*[False] * 3, True]
    assert WARNING in (tmp_path / "full" / "results.md").read_text()
    arguments = json.loads((tmp_path / "auto" / "results.json").read_text())["arguments"]
    assert arguments["intensity"] == "0.0,4095.0"  # which says it without the data set


def test_a_prediction_and_its_calibration(bolts, deep, model, tmp_path):
    def scores(name: str, data: Path, *options: str) -> list[str]:
        places = ["--save_path", str(tmp_path / name), "--cache_dir", str(tmp_path / "cache")]
        arguments = [str(data / "bolt" / "test" / "square"), "--num_workers", "0", "--no_overlays"]
        assert predict.main([*arguments, *places, *model, *options]) == 0
        return [row["score"] for row in table(tmp_path / name / "scores.csv")]

    normal = ("--normal_dir", str(deep / "nut" / "test"))
    right = scores("right", bolts, "--normal_dir", str(bolts / "nut" / "test"))
    assert scores("auto", deep, *normal, "--intensity", "auto") == right
    assert scores("full", deep, *normal) != right
    assert warned(tmp_path / "full" / "predict.log")
    assert not warned(tmp_path / "auto" / "predict.log")
    calibration = ("--calibration", str(tmp_path / "auto" / "calibration.json"))
    assert scores("kept", deep, *calibration, "--intensity=0,4095") == right
    with pytest.raises(UserError, match=r"was made with intensity 0\.0 4095\.0, and this run has not given"):
        scores("other", deep, *calibration)


@pytest.mark.parametrize("train", [train_sdp_plus, train_dp_clip])
def test_a_training_also_from_a_cache_of_other_tokens(bolts, deep, model, tmp_path, train):
    def losses(name: str, data: Path, *options: str) -> list[dict[str, str]]:
        places = ["--save_path", str(tmp_path / name), "--cache_dir", str(tmp_path / "cache")]
        arguments = ["--train_dataset", "folder", "--train_dataset_dir", str(data), "--epochs", "1"]
        train.main([*arguments, "--num_workers", "0", *places, *model, *options])
        return table(tmp_path / name / "loss.csv")

    right = losses("right", bolts)
    assert losses("full", deep) != right
    assert losses("auto", deep, "--intensity", "auto") == right
    assert warned(tmp_path / "full" / "train.log")
    assert not warned(tmp_path / "auto" / "train.log")


def test_the_doctor(deep, capsys):
    arguments = ["--model", "demo", "--dataset", "folder", "--data_path", str(deep)]
    assert doctor.main(arguments) == 0
    assert f"warning: in {deep}, {WARNING}" in capsys.readouterr().out
    doctor.main([*arguments, "--intensity", "auto"])
    assert WARNING not in capsys.readouterr().out


def test_a_page_of_saved_maps(deep, tmp_path):
    for path in deep.glob("*/test/*/*.png"):
        name = tmp_path / "maps" / path.relative_to(deep).with_suffix(".npy")
        name.parent.mkdir(parents=True, exist_ok=True)
        np.save(name, np.random.default_rng(len(path.name)).random((8, 8), np.float32))
    arguments = ["--maps", str(tmp_path / "maps"), "--data_path", str(deep), "--num_workers", "0", "--save_path"]
    evaluate.main([*arguments, str(tmp_path / "page"), "--report"])
    evaluate.main([*arguments, str(tmp_path / "none")])
    assert warned(tmp_path / "page" / "evaluate.log")
    assert not warned(tmp_path / "none" / "evaluate.log")  # as no image is read
