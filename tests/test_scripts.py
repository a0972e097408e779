"""The shell scripts of the top level: what they call, with a recorder in the place of Python."""

import importlib
import re
from pathlib import Path

import pytest

from datasets.registry import REGISTRY
from tests.scripts import PROJECT, record

PROGRAMS = {
    "test_SDP.sh": "test_sdp",
    "test_SDP_plus.sh": "test_sdp_plus",
    "test_DP_CLIP.sh": "test_dp_clip",
    "train_SDP_plus.sh": "train_sdp_plus",
    "train_DP_CLIP.sh": "train_dp_clip",
    "predict.sh": "predict",
    "reproduce.sh": "reproduce",
}


def calls(folder: Path, script: str, *arguments: str, **settings: str) -> list[list[str]]:
    """The arguments of every call of Python that a script makes."""
    done, called = record(folder, script, *arguments, **settings)
    assert done.returncode == 0, done.stderr
    return called


@pytest.mark.parametrize("script", PROGRAMS)
def test_every_setting_reaches_the_program_and_every_option_is_one_of_it(script, tmp_path, capsys):
    names = re.findall(r"^([A-Z_]+)=\$\{\1:-", (PROJECT / script).read_text(), re.MULTILINE)
    chosen = dict.fromkeys(("DATASETS", "TRAIN_ON"), "visa mvtec") | dict.fromkeys(("NPROC", "PLAN", "WATCH"), "1")
    chosen["DATA_ROOT"] = str(tmp_path)
    values = {name: f"the-{name.lower()}" for name in names if name not in chosen}
    assert len(values) >= 10
    for name in ("visa", "mvtec"):
        (tmp_path / name).mkdir()
    called = calls(tmp_path, script, "--further", "argument", **chosen, **values)
    words = [word for call in called for word in call]
    text = " ".join(words)
    assert [value for value in values.values() if value not in text] == []
    assert all(call[-2:] == ["--further", "argument"] for call in called)
    with pytest.raises(SystemExit):
        importlib.import_module(PROGRAMS[script]).main(["--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out))
    assert {word for word in words if word.startswith("--")} - {"--further"} <= options


@pytest.mark.parametrize("script", ["test_SDP.sh", "test_SDP_plus.sh", "test_DP_CLIP.sh"])
def test_the_demo_set_need_not_be_there(script, tmp_path):
    (call,) = calls(tmp_path, script, DATASETS="isic demo", DATA_ROOT=str(tmp_path / "none"))
    assert call[1:5] == ["--dataset", "demo", "--data_path", str(tmp_path / "none" / "demo")]


@pytest.mark.parametrize("script", ["test_SDP.sh", "test_SDP_plus.sh", "test_DP_CLIP.sh"])
def test_data_sets_are_tested_in_one_run_by_any_of_their_names(script, tmp_path):
    names = {**{name: name for name in REGISTRY}, "MVTec": "mvtec", "VisA": "visa"}
    names |= {spec.alias.upper(): spec.name for spec in REGISTRY.values() if spec.alias}
    for name in set(names.values()):
        (tmp_path / name).mkdir()
    settings = {"DATASETS": " ".join(names), "DATA_ROOT": str(tmp_path), "ON_MVTEC": "on_mvtec", "ON_VISA": "on_visa"}
    (call,) = calls(tmp_path, script, **settings)
    found = call[call.index("--dataset") + 1 : call.index("--data_path")]
    assert found == list(names.values())
    assert "--save_path" not in call  # the program's own, which names the model
    if script == "test_SDP_plus.sh":
        files = call[call.index("--checkpoint") + 1 :][: len(found)]
        assert files == ["on_mvtec" if name == "visa" else "on_visa" for name in found]
    (call,) = calls(tmp_path, "train_DP_CLIP.sh", TRAIN_ON="MVTec ClinicDB", DATA_ROOT=str(tmp_path))
    assert call[1:4] == ["--train_dataset", "mvtec", "cvc_clinicdb"]
    assert call[5:7] == [str(tmp_path / name) for name in ("mvtec", "cvc_clinicdb")]


def test_sdp_plus_is_trained_on_any_data_sets_in_the_order_given(tmp_path):
    for name in ("visa", "btad"):
        (tmp_path / name).mkdir()
    settings = {"DATA_ROOT": str(tmp_path), "SAVE_PATH": "out", "TRAIN_ON": "btad mvtec demo visa"}
    called = calls(tmp_path, "train_SDP_plus.sh", **settings)
    trained_on = [call[call.index("--train_dataset") + 1] for call in called]
    assert trained_on == ["btad", "demo", "visa"]
    assert ["--test_dataset" in call for call in called] == [True, True, False]
    assert [call[call.index("--save_path") + 1] for call in called] == [f"out/on_{on}" for on in trained_on]


@pytest.mark.parametrize("name", ["visa", "VisA"])
def test_sdp_plus_is_validated_on_a_folder_of_either_spelling(name, tmp_path):
    for folder in (name, "btad"):
        (tmp_path / folder).mkdir()
    (call,) = calls(tmp_path, "train_SDP_plus.sh", DATA_ROOT=str(tmp_path), TRAIN_ON="btad")
    place = call.index("--test_dataset")
    assert call[place : place + 4] == ["--test_dataset", "visa", "--test_dataset_dir", str(tmp_path / name)]


def test_a_training_without_a_validation_says_so(tmp_path):
    (tmp_path / "btad").mkdir()
    done, (call,) = record(tmp_path, "train_SDP_plus.sh", DATA_ROOT=str(tmp_path), TRAIN_ON="btad")
    assert "--test_dataset" not in call
    assert done.stderr == f"training on btad without a validation: there is no folder {tmp_path / 'visa'}\n"


def test_the_demo_replaces_results_of_an_earlier_run_and_deletes_nothing_else(tmp_path):
    out = tmp_path / "out"
    tests, trainings = (
        ("sdp", "held_out/sdp", "held_out/sdp_plus", "held_out/dp_clip"),
        ("sdp_plus_training", "dp_clip_training"),
    )
    for folder in (*tests, *trainings):
        (out / folder).mkdir(parents=True)
        (out / folder / "results.json").touch()
    _, called = record(tmp_path, "demo.sh", SAVE_PATH=str(out))
    written = {call[call.index("--save_path") + 1]: "--overwrite" in call for call in called if "--save_path" in call}
    assert written == {str(out / name): name in tests for name in (*tests, *trainings)}
    assert {name for name in (*tests, *trainings) if (out / name / "results.json").exists()} == {*tests}


def test_the_demo_goes_on_with_tests_and_trainings(tmp_path):
    kept = tmp_path / "out" / "dp_clip_training" / "image_adapter.pth"
    kept.parent.mkdir(parents=True)
    kept.touch()
    _, called = record(tmp_path, "demo.sh", "--resume", SAVE_PATH=str(tmp_path / "out"))
    runs = [call for call in called if call[0].startswith(("test_", "train_"))]
    assert len(runs) == 6
    assert all("--resume" in call and "--overwrite" not in call for call in runs)
    assert kept.exists()


@pytest.mark.parametrize("path", sorted(PROJECT.glob("*.sh")), ids=lambda path: path.name)
def test_no_line_is_wider_than_those_of_the_code(path):
    wide = [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > 120]
    assert wide == []
