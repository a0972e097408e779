"""Photographs that arrive one by one: lines as they come, and files of folders once they are whole."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from engine import arrivals
from engine.arrivals import Arrival, Folders, Lines, file_record, read_ahead
from utils.errors import UserError
from utils.files import LOCK

BROKEN = UserError("it cannot be read")


def names(arrived: list[Arrival]) -> list[str]:
    return [arrival.path.name for arrival in arrived]


@pytest.fixture
def lines():
    end, start = os.pipe()
    with os.fdopen(end) as stream, os.fdopen(start, "wb", buffering=0) as writer:
        yield Lines(stream), writer


def test_lines_are_given_when_they_are_whole_and_no_later(lines):
    source, writer = lines
    writer.write(b"a.png\r\n\nb \xff.png\nc.p")
    assert names(source.take(1, wait=True)) == ["a.png"]
    assert names(source.take(9, wait=False)) == [os.fsdecode(b"b \xff.png")]
    assert source.take(9, wait=False) == []
    writer.write(b"ng")
    writer.close()
    assert source.take(9, wait=True) == [Arrival(Path("c.png"), None)]
    assert source.take(9, wait=True) == []


@pytest.fixture
def watched(tmp_path, monkeypatch) -> Callable:
    """Makes a source of a folder, which is looked at often; what cannot be read is waited for without an end."""
    monkeypatch.setattr(arrivals, "POLL", 0.01)
    monkeypatch.setattr(arrivals, "PATIENCE", 1e9)
    (tmp_path / "in").mkdir()
    return lambda **done: Folders([tmp_path / "in"], done)


def looks(source: Folders, count: int = 3) -> list[Arrival]:
    """What a few looks give."""
    found = []
    for _ in range(count):
        time.sleep(0.03)
        found += source.take(9, wait=False)
    return found


def test_images_are_given_once_whole_and_again_when_they_are_others(watched, tmp_path):
    source, folder = watched(), tmp_path / "in"
    with (folder / "a.png").open("w") as file:
        for _ in range(4):
            file.write("more")
            file.flush()
            assert source.take(9, wait=False) == []
            time.sleep(0.03)
    (one,) = source.take(9, wait=True)
    assert one == (folder / "a.png", file_record(folder / "a.png"))
    assert source.accepts(one, "read")
    assert looks(source) == []
    (folder / "new.png").write_text("another, of another size")
    (folder / "new.png").replace(folder / "a.png")
    (again,) = source.take(9, wait=True)
    assert source.accepts(again, "read")
    (folder / "a.png").unlink()
    assert looks(source) == []
    (folder / "a.png").write_text("back")
    assert names(source.take(9, wait=True)) == ["a.png"]


def test_what_cannot_be_read_is_waited_for_and_what_has_gone_or_changed_is_not_accepted(watched, tmp_path, monkeypatch):
    source, path = watched(), tmp_path / "in" / "a.png"
    path.write_text("half")
    (half,) = source.take(9, wait=True)
    assert not source.accepts(half, BROKEN)
    path.write_text("half, and the other half")
    (whole,) = source.take(9, wait=True)
    path.write_text("changed while it was read")
    assert not source.accepts(whole, "read")
    (changed,) = source.take(9, wait=True)
    assert not source.accepts(changed, BROKEN)
    assert looks(source) == []
    monkeypatch.setattr(arrivals, "PATIENCE", 0)
    (still,) = source.take(9, wait=True)
    assert source.accepts(still, BROKEN)
    path.write_text("changed once more")
    (gone,) = source.take(9, wait=True)
    path.unlink()
    assert not source.accepts(gone, BROKEN)
    assert looks(source) == []


def test_subfolders_count_and_what_is_hidden_no_image_a_result_or_done_does_not(watched, tmp_path, warnings_of):
    folder, photograph = tmp_path / "in", Image.new("RGB", (4, 4))
    photograph.save(folder / "done.png")
    source = watched(**{str(folder / "done.png"): file_record(folder / "done.png")})
    looks(source)
    for name in (".hidden.png", "deep/er/b.png", "deep/a.png", "notes.txt", "raw.dng", "out/overlays/a.png.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for name in (LOCK, "predict.log"):
        (folder / "out" / name).touch()
    assert names(looks(source, 5)) == ["a.png", "b.png"]


def test_batches_are_of_what_is_there(lines):
    source, writer = lines
    writer.write(b"1\n2\n3\n")
    idle = []
    batches = read_ahead(source, lambda arrival: arrival.path.name, 2, 1, lambda: idle.append(writer.write(b"4\n")))
    assert [found for _, found in next(batches)] == ["1", "2"]
    assert [found for _, found in next(batches)] == ["3"]
    assert not idle
    assert [found for _, found in next(batches)] == ["4"]
    writer.close()
