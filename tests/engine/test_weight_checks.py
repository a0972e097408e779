"""Weights that are there, damaged, or must be downloaded."""

from pathlib import Path

import pytest

import models.weights
from engine.doctor import SUMS_FOLDERS, check_sums, examine
from engine.options import ExaminationOptions
from models.presets import PRESETS
from utils.errors import Problem
from utils.files import sha256_of


@pytest.fixture
def listed(tmp_path) -> Path:
    """A file beside a list of its sum and that of another, which is not there."""
    file = tmp_path / "a.pt"
    file.write_bytes(b"weights")
    (tmp_path / "SHA256SUMS").write_text(f"{sha256_of(file)}  a.pt\n{'0' * 64}  b.pt\n")
    return file


def test_files_that_agree_with_their_sums_are_right(listed):
    assert check_sums(listed.parent) == []


def test_a_file_that_does_not_is_an_error(listed):
    listed.write_bytes(b"weight")
    (problem,) = check_sums(listed.parent)
    assert problem.level == "error"
    assert problem.what.startswith(f"{listed} is damaged or another version")


def test_a_file_that_cannot_be_read_is_an_error(listed, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("engine.doctor.sha256_of", refuse)
    (problem,) = check_sums(listed.parent)
    assert problem.what == f"cannot read {listed}: Permission denied"


def test_lines_that_are_no_sums_are_passed_over(listed):
    (listed.parent / "SHA256SUMS").write_text("\nno sum\n  \n")
    assert check_sums(listed.parent) == []


def test_without_a_list_that_is_a_warning(tmp_path):
    (problem,) = check_sums(tmp_path)
    assert problem.level == "warning"
    assert "SHA256SUMS (No such file or directory)" in problem.what


@pytest.mark.parametrize("folder", SUMS_FOLDERS, ids=lambda folder: folder.name)
def test_the_projects_own_files_agree(folder):
    assert check_sums(folder) == []


def examined(model: str, pretrained: str) -> list[Problem]:
    return examine(ExaminationOptions(model=model, pretrained=pretrained, num_workers=0))


def test_the_demo_weights_are_found(capsys):
    preset = PRESETS["demo"]
    assert examined(preset.model, preset.pretrained) == []
    assert f"weights: {preset.pretrained}" in capsys.readouterr().out


def test_weights_to_be_downloaded_are_a_warning_and_nothing_is_asked_for(monkeypatch, capsys):
    def refuse(*arguments):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(models.weights, "get_session", refuse)
    monkeypatch.setattr(models.weights, "download_pretrained", refuse)
    monkeypatch.setattr(models.weights, "try_to_load_from_cache", lambda repository, name: None)
    problem = examined("ViT-B-16", "laion400m_e31")[0]
    assert "weights: " not in capsys.readouterr().out
    assert problem.level == "warning"
    assert problem.what.startswith("the weights 'laion400m_e31' of ViT-B-16 are not on this machine")
    assert "pretrained_models/ViT-B-16-laion400m_e31.safetensors" in problem.remedy


def test_weights_that_there_are_none_of_are_an_error(capsys):
    problem = examined("ViT-B-16", "none.pt")[0]
    assert "weights: " not in capsys.readouterr().out
    assert problem.level == "error"
    assert problem.what.startswith("--pretrained none.pt: no such file, nor a tag of ViT-B-16")
