"""Rows of runs, and the table that `evaluate.py --collect` makes of them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import evaluate
import test_sdp
from datasets.registry import PROJECT
from engine.rows import FILE, Row, rows_of
from tests import small_data
from tests.engine.test_published import make_run
from utils.results import mean_of


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run on two classes, with draws of one normal image."""
    folder = tmp_path_factory.mktemp("run")
    data, rng = small_data.make(folder / "data"), np.random.default_rng(4)
    for name in ("bolt/train/good/0.png", "bolt/train/good/1.png", "nut/train/good/0.png"):
        small_data.write(data / name, rng.integers(60, 120, (70, 90, 3), dtype=np.uint8))
    paths = ["--data_path", str(data), "--cache_dir", str(folder / "cache"), "--num_workers", "0"]
    options = ["--dataset", "mvtec", "--model", "demo", "--shots", "1", "--seeds", "3", "4", "--no_report"]
    test_sdp.main([*paths, *options, "--save_path", str(folder / "results" / "sdp")])
    return folder / "results" / "sdp"


@pytest.fixture
def results(run, tmp_path) -> Path:
    return Path(shutil.copytree(run.parent, tmp_path / "results"))


def rows_in(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


def table(text: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def collect(capsys, *arguments: Path | str) -> tuple[int, list[dict[str, str]], str]:
    code = evaluate.main(["--collect", *map(str, arguments)])
    text = capsys.readouterr().out
    return code, table(text), text


def test_rows_hold_what_results_json_holds(run):
    results, rows = json.loads((run / "results.json").read_text()), rows_in(run)
    assert all(row.keys() == Row.__annotations__.keys() for row in rows)
    own = {row["class_name"]: row["measures"] for row in rows if not row["shots"]}
    assert own.pop(None) == results["mean"]
    assert own == {name: {key: one[key] for key in results["mean"]} for name, one in results["classes"].items()}
    for seed in (3, 4):
        drawn = {row["class_name"]: row["measures"] for row in rows if row["shots_seed"] == seed and row["shots"] == 1}
        assert drawn.pop(None) == mean_of([*drawn.values()])
        assert drawn == {name: one[f"1, seed {seed}"] for name, one in results["shots"]["classes"].items()}
    mean = rows[len(results["classes"])]
    assert (mean["images"], mean["class_name"], mean["preset"], mean["seed"]) == (10, None, "demo", None)
    assert (mean["finished"], mean["whole_data_set"], mean["command"]) == (True, False, results["command"])
    assert mean["environment"] == results["environment"]
    assert mean["environment"]["processor"]


def test_every_key_is_explained():
    page = (PROJECT / "results" / "README.md").read_text()
    explained = {
        key for line in page.splitlines() if line[:2] == "| " for key in re.findall("`(.*?)`", line.split("|")[1])
    }
    assert explained == set(Row.__annotations__)


def test_runs_are_collected_with_or_without_rows(results, tmp_path, capsys):
    expected = collect(capsys, results)
    (results / "sdp" / FILE).unlink()
    code, rows, text = collect(capsys, results, "--save_path", tmp_path / "table")
    assert (code, rows, text) == expected
    assert code == 0
    assert (tmp_path / "table" / "collect.md").read_text() == text
    content = json.loads((results / "sdp" / "results.json").read_text())
    assert [row["shots"] for row in rows] == ["-", "1, seed 3", "1, seed 4", "-"]
    assert rows[0].items() >= {"data set": "mvtec", "method": "SDP", "model": "demo", "images": "10"}.items()
    assert rows[0]["remarks"].startswith("part of the data set")
    assert rows[3].items() >= {"method": "CLIP-AD, published", "auroc_px": "91.2", "commit": "-"}.items()
    assert "- 1, 2, 3: not comparable with what was published: these are the weights of the DEMONSTRATION MODEL" in text
    assert rows[0]["ap_px"] == f"{100 * content['mean']['ap_px']:.1f}"


def test_intervals_stand_behind_the_measures_that_have_some(tmp_path, capsys):
    limits = {"auroc_px": [0.8, 0.95], "aupro": None}
    make_run(tmp_path, intervals={"mean": limits, "classes": {"class0": limits}})
    _, (row, _), text = collect(capsys, tmp_path)
    assert (row["auroc_px"], row["aupro"], row["ap_sp"]) == ("90.0 [80.0, 95.0]", "90.0", "90.0")
    assert "no finished results.json" not in text
    rows = rows_of(json.loads((tmp_path / "results.json").read_text()))
    assert {row["class_name"]: row["intervals"] for row in rows if row["intervals"]} == {"class0": limits, None: limits}


def test_representative_vectors_have_a_column_where_they_are_known(tmp_path, capsys):
    for name in ("kde", "mean"):
        make_run(tmp_path / name, arguments={"rep_vec": name})
    _, rows, _ = collect(capsys, tmp_path)
    assert {row["rep_vec"] for row in rows if row["folder"] != "-"} == {"kde", "mean"}
    for name in ("kde", "mean"):  # as version 1.1.0 wrote them
        content = json.loads((tmp_path / name / "results.json").read_text())
        lines = [{key: value for key, value in row.items() if key != "rep_vec"} for row in rows_of(content)]
        (tmp_path / name / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, rows, _ = collect(capsys, tmp_path)
    assert code == 0
    assert all("rep_vec" not in row for row in rows)


def test_what_is_to_be_known_of_several_classes_is_said_once(tmp_path, capsys):
    notes = {"bolt": ["no masks"], "nut": ["few images", "no masks"]}
    make_run(tmp_path, classes={name: {"images": 1, "notes": own} for name, own in notes.items()})
    _, _, text = collect(capsys, tmp_path)
    assert "- 1: bolt, nut: no masks" in text
    assert "- 1: nut: few images" in text


def test_what_is_there_twice_or_damaged_is_said_with_its_line(results, capsys, caplog):
    _, expected, _ = collect(capsys, results)
    shutil.copytree(results / "sdp", results / "twin")
    code, rows, text = collect(capsys, results)
    assert (code, rows) == (0, expected)
    same = f"{results / 'twin' / FILE}, line 1 and 8 more: left out, as {results / 'sdp' / FILE} has the same"
    assert f"- {same}" in text
    assert same in caplog.text
    lines = (results / "twin" / FILE).read_text().replace('"command": "', '"command": "nice ').splitlines()
    lines[0] = lines[0].replace('"class_name": "bolt"', '"class_name": 5')
    (results / "twin" / FILE).write_text("\n".join([lines[0], lines[1][:-9], *lines[2:5], "", lines[2], ""]))
    code, rows, text = collect(capsys, results)
    assert (code, len(rows)) == (1, len(expected) + 1)
    file = results / "twin" / FILE
    assert f"- left out: {file}, line 1, class_name: should be a valid string, not 5" in text
    assert f"- left out: {file}, line 2: not valid JSON" in text
    assert f"- {file}, line 7: left out, as {file} has the same" in text
    assert f"- {file}: the mean over the classes is missing of " in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"git_commit": ["x"]}, "not what a run writes (AttributeError: 'list' object has no attribute"),
        ({"notes": 3}, "not what a run writes (TypeError: 'int' object is not iterable)"),
        ({"date": 3}, "date: should be a valid string, not 3"),
    ],
)
def test_results_that_no_run_writes_are_left_out(results, tmp_path, capsys, changes, said):
    _, expected, _ = collect(capsys, results)
    damaged = make_run(tmp_path / "results" / "damaged", **changes) / "results.json"
    code, rows, text = collect(capsys, results)
    assert (code, rows) == (1, expected)
    assert f"- left out: {damaged}" in text
    assert said in text
    content = json.loads((results / "sdp" / "results.json").read_text())
    (results / "sdp" / "results.json").write_text(json.dumps(content | changes))
    assert collect(capsys, results)[:2] == (1, expected)


def test_runs_that_cannot_be_compared_are_marked(tmp_path, capsys):
    small = {"classes": {"bottle": {"images": 3}}, "arguments": {}, "whole_data_set": True}
    for name, changes in {
        "one": {},
        "two": {"git_commit": "1234567+"},
        "other": {"weights": {"sha256": "cd" * 32}, "git_commit": "89abcde"},
        "stopped": {"complete": False, "whole_data_set": False},
        "early": {"arguments": None},
    }.items():
        folder = make_run(tmp_path / name, "visa", "SDP+", **small | changes)
        content = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(
            json.dumps({key: value for key, value in content.items() if value is not None})
        )
    (tmp_path / "other" / "scores.csv").unlink()
    code, rows, text = collect(capsys, tmp_path)
    assert code == 0
    assert {Path(row["folder"]).name: row["remarks"] for row in rows[:-1]} == {
        "one": "-",
        "two": "changed code",
        "other": "OTHER WEIGHTS, other commit",
        "stopped": "UNFINISHED, part of the data set",
    }
    assert (
        f"do not say how they were made (validations of trainings, tests by early versions): {tmp_path / 'early'}"
        in text
    )
    assert "- 2, 4: not known whether" in text
