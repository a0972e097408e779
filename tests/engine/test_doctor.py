"""`doctor.py` as a user runs it: what it says, and its exit code."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import packaging
import pytest
import torch

import doctor
import engine.doctor as examination
from engine.doctor import GIB
from tests import small_data
from utils.errors import ERROR, WARNING, Problem, exit_code, summary
from utils.files import sha256_of

PROJECT = Path(__file__).resolve().parents[2]
DEMO = PROJECT / "pretrained_models" / "demo"
ROOM = examination.Room("memory", free=2 * GIB, total=4 * GIB)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return small_data.make(tmp_path_factory.mktemp("data"))


@pytest.fixture
def examined(capsys):
    """Runs doctor.py on the demonstration model; gives the exit code, and the lines from the problems on."""

    def run(*options: str) -> tuple[int, list[str]]:
        code = doctor.main(["--model", "demo", "--num_workers", "0", *map(str, options)])
        lines = capsys.readouterr().out.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith(("no problems", "problems")))
        return code, lines[start:]

    return run


def test_a_sound_installation_has_no_problems(examined):
    assert examined() == (0, ["no problems found"])


def test_a_sound_data_set_has_no_problems_and_nothing_is_written(examined, data, tmp_path):
    before = sorted(data.rglob("*"))
    cache = tmp_path / "cache"
    options = ("--dataset", "folder", "--data_path", data, "--cache_dir", cache)
    assert examined(*options) == (0, ["no problems found"])
    assert sorted(data.rglob("*")) == before
    assert not cache.exists()


def test_the_needs_and_the_counts_are_shown(data, capsys):
    doctor.main(["--model", "demo", "--dataset", "folder", "--data_path", str(data)])
    out = capsys.readouterr().out
    for part in (
        f"PyTorch {torch.__version__}",
        "device: ",
        "maps and masks of the 10 images of bolt and nut",
        "patch tokens of these 10 images",
        "to predict with --normal_memory: 100 normal images",
        f"the weights fit, SHA-256 {sha256_of(DEMO / 'demo.safetensors')}",
    ):
        assert part in out
    assert ["total", "of", "2", "0", "4", "6", "0"] in [line.split() for line in out.splitlines()]


def test_a_warning_leaves_the_exit_code_zero(examined, data):
    code, (count, warning) = examined("--dataset", "mvtec", "--data_path", data)
    assert (code, count) == (0, "problems found: errors 0, warnings 1")
    assert warning.startswith(f"warning: {data} has a partial or different test split: 2 of 15 classes")


def test_masks_that_vanish_at_the_models_size_are_a_warning(examined, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    hairline = np.zeros((700, 900), np.uint8)
    hairline[300:302] = 255
    for kind, pixels in (("test", 255 - hairline), ("ground_truth", hairline)):
        small_data.write(tmp_path / "data" / "bolt" / kind / "hairline" / "000.png", pixels)
    options = ("--dataset", "folder", "--data_path", tmp_path / "data")
    code, (count, warning) = examined(*options)
    assert (code, count) == (0, "problems found: errors 0, warnings 1")
    said = "masks of which nothing is left at 128 x 128 px, so that these defects count as normal (1): "
    assert warning.startswith(
        f"warning: {said}bolt/ground_truth/hairline/000.png; take --tile or a larger --image_size"
    )
    assert examined(*options, "--tile", "128") == (0, ["no problems found"])  # masks are measured at their own size


def test_a_data_set_that_is_not_there_is_an_error(examined, tmp_path):
    code, (count, error) = examined("--dataset", "mvtec", "--data_path", tmp_path / "none")
    assert (code, count) == (1, "problems found: errors 1, warnings 0")
    assert error.startswith(f"error: there is no folder {tmp_path / 'none'}; put the data set there")


def test_weights_that_may_not_be_read_are_an_error(examined, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", "demo.safetensors")

    monkeypatch.setattr(examination, "backbone_from_options", refuse)
    code, (_, error) = examined()
    assert code == 1
    assert error.startswith("error: cannot read demo.safetensors: Permission denied; see to its permissions")


def test_truncated_weights_are_an_error(examined, tmp_path):
    weights = tmp_path / "cut.safetensors"
    weights.write_bytes((DEMO / "demo.safetensors").read_bytes()[:-1000])
    code, (_, error) = examined("--pretrained", weights)
    assert code == 1
    assert error.startswith(f"error: cannot read {weights}, which is damaged")


def test_weights_of_another_model_are_an_error(examined, tmp_path):
    config = json.loads((DEMO / "demo.json").read_text())
    config["vision_cfg"]["layers"] = 8
    (tmp_path / "deeper.json").write_text(json.dumps(config))
    weights = DEMO / "demo.safetensors"
    code, (_, error) = examined("--model", tmp_path / "deeper.json", "--pretrained", weights)
    assert code == 1
    assert error.startswith(f"error: {weights} does not fit {tmp_path / 'deeper.json'}: ")


@pytest.mark.parametrize(
    "options, what",
    [
        (("--model", "RN50", "--pretrained", "openai"), "--model RN50 is a ResNet"),
        (("--model", "none"), "--model none: neither an open_clip model nor"),
        (("--model", "ViT-B-16"), "--model ViT-B-16: say with --pretrained which weights"),
        (("--image_size", "100"), "--image_size 100 is not a multiple of"),
        (("--features_list", "9"), "--features_list: "),
        (("--device", "nothing"), "--device nothing: not a device"),
        (("--device", "cuda:99"), "--device cuda:99: this machine has"),
        (("--prompts", "none.json"), "--prompts none.json"),
        (("--pretrained", "none.pt"), "--pretrained none.pt: no such file"),
    ],
)
def test_options_that_a_run_would_refuse_are_errors(examined, options, what):
    code, (count, *errors) = examined(*options)
    assert (code, count) == (1, "problems found: errors 1, warnings 0")
    assert errors[0].startswith(f"error: {what}")


def test_too_little_memory_is_told_and_the_model_not_loaded(monkeypatch, capsys):
    small = examination.Room("memory", free=1 << 20, total=1 << 30)
    monkeypatch.setattr(examination, "host_memory", lambda: small)
    monkeypatch.setattr(examination, "backbone_from_options", None)
    assert doctor.main(["--model", "demo"]) == 0
    out = capsys.readouterr().out
    assert "they were not loaded" in out
    assert "warning: the run takes about 0.1 GiB (memory: 0.0 of 1.0 GiB free); take a smaller" in out


def test_a_disk_too_small_for_the_tokens_is_told(examined, data, monkeypatch):
    monkeypatch.setattr(examination, "disk", lambda folder: examination.Room("disk", 1 << 10, 1 << 11))
    code, (_, warning) = examined("--dataset", "folder", "--data_path", data)
    assert code == 0
    assert warning.startswith("warning: the cache of patch tokens takes about")
    assert warning.endswith("or train with --no_cache")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error: no kernel image\nmore")])
def test_a_device_that_fails_is_an_error(examined, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(examination, "backbone_from_options", fail)
    code, (_, said) = examined()
    assert code == 1
    assert said.startswith("error: the model cannot be loaded on ")
    assert "more" not in said


def python(*arguments, **environment) -> subprocess.CompletedProcess:
    """Another Python, without the installed packages."""
    command = [sys.executable, "-S", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_nothing_that_takes_long_is_imported_before_the_arguments_are_read():
    result = subprocess.run(
        [sys.executable, "-c", "import doctor, sys; print(*sys.modules)"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"torch", "numpy", "open_clip"}.isdisjoint(result.stdout.split())


def test_without_any_package_that_is_told():
    result = python(PROJECT / "doctor.py")
    assert result.returncode == 1
    assert result.stderr == ""
    assert "error: the package packaging is missing" in result.stdout


def test_without_most_packages_each_is_told(tmp_path):
    (tmp_path / "packaging").symlink_to(Path(packaging.__file__).parent)
    result = python(PROJECT / "doctor.py", "--model", "demo", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == ""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    assert f"problems found: errors {len(lines)}, warnings 0" in result.stdout
    assert "error: the package torch is missing; pip install -r requirements.txt" in result.stdout


@pytest.mark.parametrize("error", [ImportError, RuntimeError, OSError])
def test_packages_that_cannot_be_imported_are_an_error(examined, monkeypatch, error):
    class Broken:
        def __getattr__(self, name: str):
            raise error("libGL.so.1: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "engine.doctor", Broken())
    code, (_, said) = examined()
    assert code == 1
    assert said.startswith("error: the packages are installed but cannot be imported (")


def test_a_wrong_command_line_is_refused():
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--batch_size", "0"])
    assert stop.value.code == 2


def test_the_exit_code_and_the_summary_tell_errors_and_warnings_apart():
    warning = Problem(WARNING, "this looks odd", "look at it")
    error = Problem(ERROR, "that is broken", "mend it")
    assert [exit_code(problems) for problems in ([], [warning], [warning, error])] == [0, 0, 1]
    assert summary([]) == "no problems found"
    assert summary([warning, error]).splitlines() == [
        "problems found: errors 1, warnings 1",
        "error: that is broken; mend it",
        "warning: this looks odd; look at it",
    ]


def test_an_archive_is_told_by_its_sha256(examined, tmp_path, monkeypatch, capsys):
    archive, known = tmp_path / "mine.zip", tmp_path / "archives.json"
    archive.write_bytes(bytes(3 << 20))
    known.write_text(json.dumps({sha256_of(archive): ["VAD", "vad.zip"], "0" * 64: ["BTAD", "btad.zip"]}))
    monkeypatch.setattr(examination, "ARCHIVES", known)
    assert doctor.main(["--archive", str(archive)]) == 0
    assert f"{archive} is the archive of VAD, as it should be" in capsys.readouterr().out
    with archive.open("ab") as file:
        file.write(b"\0")
    code, lines = examined("--archive", archive)
    assert (code, "is none of the archives that are known: VAD, BTAD" in " ".join(lines)) == (1, True)
    code, lines = examined("--archive", archive.rename(tmp_path / "BTAD.zip"))
    assert (code, "is called as the archive of BTAD, but its SHA-256 is" in " ".join(lines)) == (1, True)
    for nothing in (tmp_path, tmp_path / "nowhere.zip"):
        code, lines = examined("--archive", nothing)
        assert code == 1
        assert str(nothing) in lines[1] and "name the file that was downloaded" in lines[1]


def test_the_known_archives_have_digests_of_sha256():
    for digest, (name, file) in json.loads(examination.ARCHIVES.read_text()).items():
        assert len(bytes.fromhex(digest)) == 32
        assert name
        assert Path(file).suffix


@pytest.mark.parametrize(
    "needed, optional, level",
    [(2, False, None), (3, False, "warning"), (5, False, "error"), (3, True, "warning"), (5, True, "warning")],
)
def test_what_never_fits_is_an_error_and_what_does_not_fit_now_a_warning(needed, optional, level):
    problems = examination.check_room("the run", needed * GIB, ROOM, "take less", optional=optional)
    said = [f"{level}: the run takes about {needed:.1f} GiB (memory: 2.0 of 4.0 GiB free); take less"]
    assert [str(problem) for problem in problems] == said * bool(level)


def test_the_hosts_memory_is_the_systems():
    memory = examination.host_memory()
    assert 0 < memory.free <= memory.total <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("limit, expected", [("max", None), (str(GIB // 4), GIB // 4), (str(1 << 62), None)])
def test_a_containers_limit_is_heeded(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "limit").write_text(f"{limit}\n")
    monkeypatch.setattr(examination, "CONTAINER_LIMITS", (str(tmp_path / "limit"), str(tmp_path / "none")))
    memory = examination.host_memory()
    assert memory.total == (expected or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    assert memory.free <= memory.total


def test_the_disk_of_a_folder_yet_to_be_made_is_that_of_its_parent(tmp_path):
    room = examination.disk(tmp_path / "a" / "b")
    assert room.total == examination.disk(tmp_path).total > 0
    assert room.name == f"disk of {tmp_path / 'a' / 'b'}"
