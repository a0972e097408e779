"""Which images a user's inputs stand for, and what their results are called."""

from pathlib import Path

import pytest

from datasets.photographs import find_photographs, output_names
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b.png", "a.JPG", "sub/c.tif", "notes.txt", ".hidden.png", "it's [1].png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_stands_for_its_images(folder):
    assert names(find_photographs([str(folder)], ()), folder) == ["a.JPG", "b.png", "it's [1].png", "sub/c.tif"]


def test_files_are_taken_as_they_are_and_once(folder):
    inputs = [str(folder / "notes.txt"), str(folder), str(folder / "b.png"), str(folder / "it's [1].png")]
    found = names(find_photographs(inputs, ()), folder)
    assert found == ["notes.txt", "a.JPG", "b.png", "it's [1].png", "sub/c.tif"]


def test_patterns_and_lists_are_expanded(folder):
    assert names(find_photographs([str(folder / "**" / "*.tif")], ()), folder) == ["sub/c.tif"]
    lines = [f"{folder / 'b.png'}\n", "\n", f"{folder / 'gone.png'}\r\n"]
    assert names(find_photographs(["-"], lines), folder) == ["b.png", "gone.png"]


@pytest.mark.parametrize("text", ["*.bmp", "-"])
def test_inputs_that_stand_for_nothing_are_refused(folder, text, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="there are no images in"):
        find_photographs([text], [])


def test_a_path_that_leads_nowhere_is_refused_if_there_is_no_other(folder):
    gone = folder / "gone"
    assert find_photographs([str(gone), str(folder / "b.png")], ()) == [gone, folder / "b.png"]
    with pytest.raises(UserError, match=r"there is no file or folder .*gone"):
        find_photographs([str(gone), "-"], ["gone, too"])


def test_results_are_called_after_the_path_below_the_common_folder(folder):
    assert output_names([folder / "b.png", folder / "sub" / "c.tif"]) == ["b.png", "sub/c.tif"]
    assert output_names([folder / "sub" / "c.tif"]) == ["c.tif"]
    assert output_names([folder / "sub" / ".." / "b.png"]) == ["b.png"]
