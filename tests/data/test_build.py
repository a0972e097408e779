"""The builders' entry points: as a function, as a command and as scripts."""

import importlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import datasets.meta
from data.build import build_meta, ensure_meta, main
from data.layouts import LAYOUTS
from datasets.meta import read_meta
from datasets.registry import REGISTRY, get_spec
from tests.builder_data import PROJECT, mvtec_class
from utils.errors import UserError


def test_ensure_meta_builds_once_and_says_so(bottle, caplog):
    caplog.set_level(logging.INFO)
    path = ensure_meta(get_spec("mvtec"), bottle.parent)
    assert path == bottle.parent / "meta.json"
    assert "building it" in caplog.text
    path.write_text("kept")
    assert ensure_meta(get_spec("mvtec"), bottle.parent) == path
    assert path.read_text() == "kept"


def test_ensure_meta_says_what_is_expected_where(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*nowhere: .*labels\.csv"):
        ensure_meta(get_spec("headct"), tmp_path / "nowhere")


def test_a_read_only_folder_is_left_alone(bottle, tmp_path_factory, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(datasets.meta, "PROJECT", tmp_path_factory.mktemp("project"))
    root = bottle.parent
    root.chmod(0o555)
    try:
        path = ensure_meta(get_spec("mvtec"), root)
        assert ensure_meta(get_spec("mvtec"), root) == path
    finally:
        root.chmod(0o755)
    assert path.is_relative_to(datasets.meta.PROJECT / ".cache" / "meta")
    assert not (root / "meta.json").exists()
    assert "is read-only" in caplog.text
    assert len(read_meta(path, root)["test"]["bottle"]) == 3


def test_main_prints_counts_beside_the_published_ones(bottle, tmp_path, capsys):
    out = tmp_path / "elsewhere" / "meta.json"
    main(["mvtec", "--root", str(bottle.parent), "--out", str(out)])
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["bottle", "2", "1", "2", "0"] in table
    assert ["total", "of", "1", "2", "1", "2", "0"] in table
    assert ["as", "published,", "of", "15", "467", "1258"] in table
    said = "a partial or different test split: 1 of 15 classes, 1 of 467 normal images, 2 of 1258 anomalous images"
    assert said.split() in table
    assert out.is_file()
    assert not (bottle.parent / "meta.json").exists()


def test_a_list_may_be_written_as_json_lines(bottle, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "full-shot.jsonl"
    main(["mvtec", "--root", str(bottle.parent), "--out", str(out)])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["class_name"], line["label"]) for line in lines] == [
        ("bottle", 1.0),
        ("bottle", 1.0),
        ("bottle", 0.0),
    ]
    assert "its 2 images are left out" in caplog.text
    assert ["bottle", "0", "1", "2", "0"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def project_copy(tmp_path):
    """The project's code in another place, with a data set's folder of the same name beside its builder."""
    for package in ("data", "datasets", "utils"):
        (tmp_path / package).mkdir()
        for file in (PROJECT / package).glob("*.*"):
            if file.is_file():  # folders are the user's data
                shutil.copy(file, tmp_path / package)
    mvtec_class(tmp_path / "data" / "mvtec" / "bottle")
    return tmp_path


@pytest.mark.parametrize("script, name", [("mvtec.py", []), ("build.py", ["mvtec"])])
def test_builders_run_as_scripts_from_anywhere(project_copy, script, name):
    command = [sys.executable, project_copy / "data" / script, *name]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "1 of 15 classes" in result.stdout
    meta = json.loads((project_copy / "data" / "mvtec" / "meta.json").read_text())
    assert list(meta["test"]) == ["bottle"]


def test_a_data_sets_folder_does_not_hide_its_builder(project_copy):
    code = "import data.mvtec; print(data.mvtec.__file__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=project_copy, capture_output=True, text=True, check=True)
    assert Path(result.stdout.strip()) == project_copy / "data" / "mvtec.py"


@pytest.mark.parametrize("name", ["mvtec", "visa"])
def test_the_papers_scripts_are_builders(tmp_path, name):
    run = [sys.executable, PROJECT / "data" / f"{name}.py"]
    shown = subprocess.run([*run, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert f"usage: {name}.py [-h] [--root ROOT]" in shown
    assert ("--split_csv" in shown) == (name == "visa")
    result = subprocess.run([*run, "--root", "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: there is no folder nowhere")
    assert "Traceback" not in result.stderr


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", REGISTRY)
def test_every_data_set_has_help_of_its_own(capsys, name):
    shown = help_of(capsys, name)
    assert f"Write meta.json for {name}. Expected in its folder: {LAYOUTS[name].expected}." in shown
    assert "--root" in shown
    assert ("--split_csv" in shown) == (name == "visa")


def test_the_help_names_every_data_set_and_its_layout(capsys):
    shown = help_of(capsys)
    for spec in REGISTRY.values():
        assert f"{spec.name} {LAYOUTS[spec.name].expected}" in shown


def test_a_data_set_may_be_called_as_the_papers_do(capsys):
    assert "meta.json for visa." in help_of(capsys, "VisA")
    assert "meta.json for cvc_clinicdb." in help_of(capsys, "ClinicDB")


@pytest.mark.parametrize("arguments", [[], ["none"], ["btad", "--split_csv", "mine.csv"]])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize("name", [name for name in REGISTRY if LAYOUTS[name].drawn_by is None])
def test_a_wrong_folder_is_refused_with_the_expected_layout(tmp_path, name):
    with pytest.raises(UserError) as refused:
        main([name, "--root", str(tmp_path / "nowhere")])
    assert str(refused.value).startswith(f"there is no folder {tmp_path / 'nowhere'}: put the data set there")
    assert str(refused.value).endswith(LAYOUTS[name].expected)


@pytest.mark.parametrize("make", [ensure_meta, build_meta])
def test_the_demo_set_is_drawn_where_it_is_not_there(tmp_path, monkeypatch, make):
    drawer = importlib.import_module(LAYOUTS["demo"].drawn_by)
    monkeypatch.setattr(drawer, "generate", lambda root: mvtec_class(root / "gear"))
    path = make(get_spec("demo"), tmp_path / "demo")
    assert list(read_meta(path, tmp_path / "demo")["test"]) == ["gear"]


@pytest.mark.parametrize("script", ["build.py", "few_shot.py"])
def test_help_imports_neither_pytorch_nor_opencv(script):
    command = [sys.executable, "-X", "importtime", PROJECT / "data" / script, "--help"]
    imported = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    names = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert "datasets.meta" in names
    assert names.isdisjoint({"torch", "cv2"})
