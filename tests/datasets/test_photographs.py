"""Which images a user's inputs stand for, and what their results are called."""

from pathlib import Path

import pytest

from datasets.photographs import find_photographs, output_names
from tests.builder_data import put_text
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


def test_hidden_files_and_folders_stand_for_nothing(folder):
    before = names(find_photographs([str(folder)], ()), folder)
    for name in ("._b.png", ".ipynb_checkpoints/b-checkpoint.png", "__MACOSX/b.png", "sub/.Trash/b.png"):
        put_text(folder / name, "")
    assert names(find_photographs([str(folder)], ()), folder) == before
    assert names(find_photographs([f"{folder}/**/*b*.png"], ()), folder) == ["b.png"]
    assert len(find_photographs([f"{folder}/__MACOSX/*.png"], ())) == 1  # as it is named


@pytest.mark.parametrize("results", ["", "out", "out/deeper"])
@pytest.mark.parametrize("mark", ["predict.log", "test.log"])
def test_pictures_that_a_run_wrote_are_no_photographs(folder, results, mark):
    before = names(find_photographs([str(folder)], ()), folder)
    for name in (mark, "overlays/b.png.png", "masks/sub/c.tif.png", "imgs/b.png.png", "contact_sheet.png"):
        put_text(folder / results / name, "")
    assert names(find_photographs([str(folder)], ()), folder) == before
    everything = [f"{path}\n" for path in sorted(folder.rglob("*.*g")) if path.suffix == ".png"]
    assert names(find_photographs(["-"], everything), folder) == [".hidden.png", "b.png", "it's [1].png"]
    assert names(find_photographs([f"{folder}/**/*.png"], ()), folder) == ["b.png", "it's [1].png"]


def test_folders_called_as_those_of_runs_are_photographs(folder):
    for name in ("masks/1.png", "overlays/1.png.png", "summary.png"):
        put_text(folder / name, "")
    assert len(find_photographs([str(folder)], ())) == 7


def test_a_file_counts_once_whatever_it_is_called(folder, monkeypatch):
    monkeypatch.chdir(folder)
    called = ["b.png", "./b.png", "sub/../b.png", str(folder / "b.png"), "sub//c.tif", "sub/c.tif"]
    assert find_photographs(called, ()) == [Path("b.png"), Path("sub/c.tif")]


def test_names_keep_the_space_at_their_ends(folder):
    put_text(folder / "b.png ", "")
    lines = [f"{folder / 'b.png'}\n", f"{folder / 'b.png '}\n"]
    assert names(find_photographs(["-"], lines), folder) == ["b.png", "b.png "]


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
