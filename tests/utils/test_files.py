"""Files that are written, and what is never replaced; files that are opened, and what never is."""

import os
import socket
import stat

import pytest

from utils.errors import UserError
from utils.files import atomic_open, open_regular, output_file, sha256_of, write_text


@pytest.fixture(params=["pipe", "socket", "device", "folder"])
def irregular(request, tmp_path, monkeypatch):
    """Something that is no regular file, by the name of a link if it is the machine's."""
    path = tmp_path / "x.png"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        monkeypatch.chdir(tmp_path)  # as a socket's name may not be long
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


def test_nothing_but_a_regular_file_is_replaced(irregular):
    before = irregular.stat()
    with pytest.raises(UserError, match=rf"cannot write {irregular}: it is there and no regular file"):
        write_text(irregular, "text")
    with pytest.raises(UserError, match="no regular file"):
        output_file(irregular)
    assert stat.S_IFMT(irregular.stat().st_mode) == stat.S_IFMT(before.st_mode)
    assert [path.name for path in irregular.parent.iterdir()] == ["x.png"]


def test_nothing_but_a_regular_file_is_opened(irregular):
    with pytest.raises(OSError, match=r"Not a regular file|Is a directory"):
        open_regular(irregular)
    with pytest.raises(OSError, match=r"Not a regular file|Is a directory"):
        sha256_of(irregular)


def test_a_file_is_replaced_and_a_link_leads_to_it(tmp_path):
    path, link, dangling = (tmp_path / name for name in ("a", "link", "dangling"))
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    link.symlink_to(path)
    dangling.symlink_to(tmp_path / "folder" / "b")
    write_text(link, "three")
    write_text(dangling, "four")
    assert link.is_symlink()
    assert (path.read_text(), (tmp_path / "folder" / "b").read_text()) == ("three", "four")


def test_a_name_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*: File name too long"):
        write_text(tmp_path / ("a" * 300) / "b", "text")


def test_a_file_that_is_not_finished_is_not_there(tmp_path):
    write_text(tmp_path / "a", "before")
    with pytest.raises(RuntimeError), atomic_open(tmp_path / "a") as file:
        file.write("after")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "before"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
