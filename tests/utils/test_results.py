"""Tables and files of results."""

import csv
import json

import numpy as np
import pytest

from utils.evaluation_types import ClassResult, ImageScore
from utils.measures.bootstrap import Bootstrap
from utils.results import Run, mean_result, percent, results_table, write_results

RESULTS = [
    ClassResult(
        "bolt",
        [ImageScore("bolt/1.png", "bolt", 1, 1.5, 0.5, 1.0), ImageScore("bolt/2.png", "bolt", None, 0.1, 0.1, 0.0)],
        {"auroc_px": 0.123456789, "auroc_sp": None},
        ["no image measures: no image is labelled normal"],
    ),
    ClassResult('n"ut', [], {"auroc_px": 0.5, "auroc_sp": None}, []),
]


def run_in(folder, title, description, bootstrap=None) -> Run:
    return Run(folder=folder, title=title, images=2, classes=2, description=description, bootstrap=bootstrap)


def test_mean_leaves_out_what_is_undefined():
    other = ClassResult("nut", [], {"auroc_px": None, "auroc_sp": 0.75}, [])
    assert mean_result([RESULTS[0], other]).measures == {"auroc_px": 0.123456789, "auroc_sp": 0.75}


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_table_is_in_percent_and_shows_undefined_as_a_dash():
    rows = cells_of(results_table(RESULTS))
    assert rows[0] == ["objects", "auroc_px", "auroc_sp"]
    assert rows[2:] == [["bolt", "12.3", "-"], ['n"ut', "50.0", "-"], ["mean", "31.2", "-"]]


NUT_DRAWS = {"auroc_px": np.full(101, 0.9), "auroc_sp": np.linspace(0.6, 0.8, 101)}
DRAWS = [
    ClassResult("bolt", [], {"auroc_px": 0.5, "auroc_sp": None}, [], {"auroc_px": np.arange(101) / 100}),
    ClassResult("nut", [], {"auroc_px": 0.9, "auroc_sp": 0.7}, [], NUT_DRAWS),
]


def test_intervals_stand_behind_the_measures_and_in_the_json(tmp_path):
    bootstrap = Bootstrap(101, confidence=90, seed=7)
    assert cells_of(results_table(DRAWS, bootstrap))[2:] == [
        ["bolt", "50.0 [5.0, 95.0]", "-"],
        ["nut", "90.0 [90.0, 90.0]", "70.0 [61.0, 79.0]"],
        ["mean", "70.0 [47.5, 92.5]", "70.0 [61.0, 79.0]"],
    ]
    write_results(run_in(tmp_path, "SDP", {}, bootstrap), DRAWS)
    content = json.loads((tmp_path / "results.json").read_text())["intervals"]
    assert (content["resamples"], content["confidence"], content["seed"]) == (101, 90, 7)
    assert content["mean"]["auroc_px"] == pytest.approx([0.475, 0.925])
    assert content["classes"]["bolt"].keys() == {"auroc_px"}
    assert "70.0 [47.5, 92.5]" in (tmp_path / "results.md").read_text()


def test_percent():
    assert percent(None) == "-"
    assert percent(0.12345) == "12.3"
    assert percent(-0.012, (-0.02, 0.001), sign="+") == "-1.2 [-2.0, +0.1]"


def test_files_hold_everything(tmp_path):
    write_results(run_in(tmp_path, "SDP on bolts", {"method": "SDP"}), RESULTS, arguments={"seed": 1})
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["classes"]["bolt"]["auroc_px"] == 0.123456789
    assert content["classes"]["bolt"]["auroc_sp"] is None
    assert content["classes"]["bolt"]["images"] == 2
    assert content["mean"]["auroc_px"] == (0.123456789 + 0.5) / 2
    assert (content["method"], content["arguments"]) == ("SDP", {"seed": 1})
    text = (tmp_path / "results.md").read_text()
    assert text.startswith("# SDP on bolts\n")
    assert "- bolt: no image measures: no image is labelled normal" in text
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_path", "class_name", "label", "score", "text_prob", "map_max"]
    assert rows[0]["score"] == "1.5"
    assert rows[1]["label"] == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "results.md", "scores.csv"]
