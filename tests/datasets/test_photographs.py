"""Which images a user's inputs stand for, and what their results are called."""

import os
from pathlib import Path

import pytest
from PIL import Image

from datasets.photographs import PhotographDataset, common_folder, find_photographs, output_name
from tests.builder_data import put_text
from utils.errors import UserError
from utils.runtime import LOCK


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


def test_images_of_other_formats_are_passed_over_with_their_number(folder, caplog):
    for name in ("a.gif", "b.GIF", "sub/c.avif"):
        put_text(folder / name, "")
    assert len(find_photographs([str(folder)], ())) == 4
    assert f"in {folder}, images of formats that are not read are passed over: 1 .avif, 2 .gif" in caplog.text


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


@pytest.mark.parametrize(
    "pattern, expected",
    [
        (".cam*/a.png", [".cam1/a.png", ".cam2/a.png"]),
        (".cam[1]/*.png", [".cam1/a.png"]),
        (".cam?/.*.png", [".cam1/.b.png"]),
        ("sub/**/.cam*/*", ["sub/.cam3/a.png"]),
        (".cam*/*/a.png", [".cam1/sub/a.png"]),
    ],
)
def test_a_pattern_that_names_what_is_hidden_matches_it(folder, pattern, expected):
    for name in ("1/a.png", "1/.b.png", "1/sub/a.png", "1/__MACOSX/a.png", "2/a.png"):
        put_text(folder / f".cam{name}", "")
    put_text(folder / "sub" / ".cam3" / "a.png", "")
    assert names(find_photographs([f"{folder}/{pattern}"], ()), folder) == expected


PICTURES = ("overlays/b.png.png", "masks/sub/c.tif.png", "epoch_1/bolt/imgs/b.png.png", "contact_sheet.png")


@pytest.mark.parametrize("results", ["", "out", "out/deeper"])
@pytest.mark.parametrize("log", ["predict.log", "test.log"])
def test_pictures_that_a_run_wrote_are_no_photographs(folder, results, log, monkeypatch):
    before = names(find_photographs([str(folder)], ()), folder)
    for name in (LOCK, log, *PICTURES):
        put_text(folder / results / name, "")
    assert names(find_photographs([str(folder)], ()), folder) == before
    everything = [f"{path}\n" for path in sorted(folder.rglob("*.*g")) if path.suffix == ".png"]
    assert names(find_photographs(["-"], everything), folder) == [".hidden.png", "b.png", "it's [1].png"]
    assert names(find_photographs([f"{folder}/**/*.png"], ()), folder) == ["b.png", "it's [1].png"]
    monkeypatch.chdir(folder / results / "overlays")
    with pytest.raises(UserError, match="what runs wrote is passed over"):
        find_photographs(["."], ())
    assert find_photographs(["b.png.png"], ()) == [Path("b.png.png")]  # as it is named


@pytest.mark.parametrize(
    "beside", [[], ["train.log"], [LOCK], ["train.log", f"sub/{LOCK}"], ["imgs/test.log", f"imgs/{LOCK}"]]
)
def test_folders_called_as_those_of_runs_are_photographs(folder, beside):
    before = len(find_photographs([str(folder)], ()))
    for name in (*beside, "masks/1.png", *PICTURES, "imgs/sub/2.png.png"):
        put_text(folder / name, "")
    assert len(find_photographs([str(folder)], ())) == before + 2 + len(PICTURES)


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


def test_results_are_called_after_the_path_below_a_folder(folder):
    names = [output_name(folder / name, folder) for name in ("b.png", "sub/c.tif", "sub/../b.png", "../x.png")]
    assert names == ["b.png", "sub/c.tif", "b.png", f"_{folder.parent}/x.png"]


def test_the_picture_to_show_is_no_larger_than_it_must_be(tmp_path):
    Image.new("RGB", (1200, 900)).save(tmp_path / "a.png")
    _, photograph = PhotographDataset([tmp_path / "a.png"], 96)[0]
    assert photograph.picture.shape == (768, 1024, 3)
    assert photograph.size == (1200, 900)


def test_the_common_folder_is_named_by_the_links_that_lead_there(folder, monkeypatch):
    (folder / "link").symlink_to(folder / "sub")
    monkeypatch.chdir(folder)
    assert common_folder(["link"]) == common_folder([folder / "link", "link/x/.."]) == folder / "link"
    assert common_folder(["link/x", folder / "link" / "y"]) == folder / "link"
    assert common_folder(["link", "sub"]) == folder


@pytest.fixture
def tangled(folder) -> Path:
    """With links that lead to where they are, each to all the others, and one to images elsewhere."""
    for name in ("loop", "sub/back", "sub/again"):
        (folder / name).symlink_to(folder)
    elsewhere = folder.parent / f"{folder.name}_elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d.png").touch()
    (folder / "a_link").symlink_to(elsewhere)
    (folder / "b_link").symlink_to(elsewhere)
    return folder


IN_TANGLED = ["a.JPG", "a_link/d.png", "b.png", "it's [1].png", "sub/c.tif"]


def test_folders_that_hold_links_to_themselves_are_walked_once(tangled):
    assert names(find_photographs([str(tangled)], ()), tangled) == IN_TANGLED
    assert names(find_photographs([str(tangled / "loop")], ()), tangled / "loop") == IN_TANGLED


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("**/*.png", ["a_link/d.png", "b.png", "it's [1].png"]),
        ("**", [*IN_TANGLED[:4], "notes.txt", "sub/c.tif"]),
        ("**/sub/**/*.tif", ["sub/c.tif"]),
        ("*/*.tif", ["sub/c.tif"]),
        ("s*/**/*.tif", ["sub/c.tif"]),
    ],
)
def test_patterns_walk_such_folders_once(tangled, pattern, expected):
    assert names(find_photographs([str(tangled / pattern)], ()), tangled) == expected


def test_a_pattern_may_be_relative(tangled, monkeypatch):
    monkeypatch.chdir(tangled)
    assert find_photographs(["**/*.tif"], ()) == [Path("sub/c.tif")]
    assert find_photographs(["sub/**/*.tif"], ()) == [Path("sub/c.tif")]


def test_a_folder_that_cannot_be_listed_is_one_that_cannot_be_read(folder, monkeypatch):
    """As root lists every folder, the system's answer is made up."""
    locked, scandir, listdir = folder / "locked", os.scandir, os.listdir

    def refuse(real):
        def refusing(path="."):
            if Path(path) == locked:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        return refusing

    locked.mkdir()
    (locked / "e.png").touch()
    monkeypatch.setattr(os, "scandir", refuse(scandir))
    monkeypatch.setattr(os, "listdir", refuse(listdir))
    paths = find_photographs([str(folder)], ())
    assert names(paths, folder) == ["a.JPG", "b.png", "it's [1].png", "locked", "sub/c.tif"]
    index, error = PhotographDataset(paths, 12)[3]
    assert (index, str(error)) == (3, f"cannot list {locked}: Permission denied")


@pytest.mark.parametrize(
    "name", ["n" * 300 + ".png", "a\0.png", "/".join(["n" * 200] * 30), "n" * 300 + "/imgs/a.png.png"]
)
def test_a_listed_name_that_can_be_none_is_a_file_that_cannot_be_read(folder, name):
    paths = find_photographs(["-", str(folder / "b.png")], [f"{name}\n"])
    assert paths == [Path(name), folder / "b.png"]
    assert isinstance(PhotographDataset(paths, 12)[0][1], UserError)
