"""`predict.py` on a file that it can read, and not write anything beside."""

import csv
import shutil
from pathlib import Path

import pytest

import predict


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
