"""Files that can be read, and whose names are too long for what is to be written beside them."""

import csv
import shutil
from pathlib import Path

import pytest

import predict
import test_sdp


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_name_too_long_for_its_overlay_costs_the_others_nothing(model, bolts, tmp_path, calibrated):
    folder, long = tmp_path / "in", f"{'n' * 250}.png"
    normal = bolts / "bolt" / "test" / "good"
    folder.mkdir()
    for name in ("a.png", long, "z.png"):
        shutil.copy(next(normal.iterdir()), folder / name)
    options = ["--num_workers", "0", *model]
    calibration = ["--normal_dir", str(normal), "--false_alarm_rate", "0.5"] if calibrated else []
    assert predict.main([str(folder), *options, *calibration, "--save_path", str(tmp_path / "out")]) == 1
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == ["a.png.png", "z.png.png"]
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        errors = {Path(row["image_path"]).name: row["error"] for row in csv.DictReader(file)}
    assert errors == {
        "a.png": "",
        long: f"the name of {folder / long} is too long for what is written beside it: shorten it",
        "z.png": "",
    }
    assert "2 images predicted" in (tmp_path / "out" / "predict.log").read_text()
    options += ["--no_overlays", "--save_path", str(tmp_path / "scores")]
    assert predict.main([str(folder), *options]) == 0


def test_in_a_test_such_a_name_costs_a_map_and_a_picture(model, bolts, tmp_path):
    data, long = tmp_path / "data", f"{'n' * 250}.png"
    shutil.copytree(bolts / "bolt", data / "bolt")
    (data / "bolt" / "test" / "good" / "000.png").rename(data / "bolt" / "test" / "good" / long)
    options = ["--dataset", "mvtec", "--data_path", str(data), "--num_workers", "0", *model]
    out = tmp_path / "out"
    assert test_sdp.main([*options, "--save_maps", "--visualization", "--save_path", str(out)]) == 1
    with (out / "scores.csv").open(newline="") as file:
        images = {row["image_path"] for row in csv.DictReader(file)}
    assert f"bolt/test/good/{long}" in images
    for folder, suffix in (("maps", ".npy"), ("imgs", ".png")):
        written = {path.relative_to(out / folder).as_posix() for path in (out / folder).rglob(f"*{suffix}")}
        assert written == {f"{image}{suffix}" for image in images if long not in image}
    log = (out / "test.log").read_text()
    assert log.count("not written, as the name is too long: ") == 2
    assert test_sdp.main([*options, "--save_maps", "--visualization", "--resume", "--save_path", str(out)]) == 1
    assert "0 images in " in (out / "test.log").read_text()
    assert test_sdp.main([*options, "--save_path", str(tmp_path / "scores")]) == 0
