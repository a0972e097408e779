"""The machine's memory and disk, and whether they are enough."""

import os

import pytest

import engine.doctor
from engine.doctor import GIB, Room, check_room, disk, host_memory

ROOM = Room("memory", free=2 * GIB, total=4 * GIB)


@pytest.mark.parametrize(
    "needed, optional, level",
    [(2, False, None), (3, False, "warning"), (5, False, "error"), (3, True, "warning"), (5, True, "warning")],
)
def test_what_never_fits_is_an_error_and_what_does_not_fit_now_a_warning(needed, optional, level):
    problems = check_room("the run", needed * GIB, ROOM, "take less", optional=optional)
    assert [problem.level for problem in problems] == [level] * bool(level)


def test_the_problem_names_all_sizes():
    (problem,) = check_room("the run", 5 * GIB, ROOM, "take less")
    assert str(problem) == ("error: the run takes about 5.0 GiB (memory: 2.0 of 4.0 GiB free); take less")


def test_the_hosts_memory_is_the_systems():
    memory = host_memory()
    assert 0 < memory.free <= memory.total <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("limit, expected", [("max", None), (str(GIB // 4), GIB // 4), (str(1 << 62), None)])
def test_a_containers_limit_is_heeded(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "limit").write_text(f"{limit}\n")
    monkeypatch.setattr(engine.doctor, "CONTAINER_LIMITS", (str(tmp_path / "limit"), str(tmp_path / "none")))
    memory = host_memory()
    assert memory.total == (expected or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    assert memory.free <= memory.total


def test_the_disk_of_a_folder_yet_to_be_made_is_that_of_its_parent(tmp_path):
    room = disk(tmp_path / "a" / "b")
    assert room.total == disk(tmp_path).total > 0
    assert room.name == f"disk of {tmp_path / 'a' / 'b'}"
