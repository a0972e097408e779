"""What a worker hands over: the same values, in the main process's hands, and next to nothing through the pipe."""

import contextlib
import os
import pickle
import threading
from concurrent.futures import Future, wait
from multiprocessing import resource_sharer
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.parcel import Parcel, StalledError
from utils.errors import UserError

VALUES = [
    torch.arange(6, dtype=torch.float32).view(2, 3),
    torch.tensor([True, False, True]),
    torch.arange(7, dtype=torch.uint8)[1::2],
    torch.zeros(0, 3, 8, 8),
    torch.tensor(2**40),
    np.arange(5, dtype=np.int64),
]


def handed_over(value: Any) -> Any:
    return pickle.loads(ForkingPickler.dumps(Parcel(value)))


@pytest.fixture(params=[True, False], ids=["in memory", "on a disk"], autouse=True)
def place(request, monkeypatch) -> None:
    """Not every system has files in memory."""
    if not request.param:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no files in memory")


def test_values_and_types_stay():
    received = handed_over({"values": VALUES, "name": "caf\udce9"})
    assert received["name"] == "caf\udce9"
    for mine, theirs in zip(received["values"], VALUES, strict=True):
        assert type(mine) is type(theirs)
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        assert (mine == theirs).all()


def test_what_is_received_is_kept_alone_and_may_be_written_to():
    first, _ = handed_over([torch.zeros(1000), torch.ones(1000)])
    first += 1
    assert first.sum() == 1000


def test_errors_come_alone_and_beside_values():
    assert str(handed_over(UserError("broken"))) == "broken"
    (number, error), tensor = handed_over([(3, UserError("broken")), torch.ones(2)])
    assert (number, str(error), tensor.sum()) == (3, "broken", 2)


@pytest.mark.parametrize("looks, comes", [(1, True), (24, True), (25, False)])
def test_a_batch_is_waited_for_look_by_look(monkeypatch, looks, comes):
    """Time that the whole program is stopped for ends one look early, and is not the worker's."""
    may_go, seconds, detach = threading.Event(), [], resource_sharer.DupFd.detach

    def late(descriptor: resource_sharer.DupFd) -> int | None:
        may_go.wait()
        return detach(descriptor) if comes else None

    def look(futures: list[Future], timeout: float) -> Any:
        seconds.append(timeout)
        if len(seconds) < looks:
            return wait(futures, 0)
        may_go.set()
        return wait(futures)

    monkeypatch.setattr(resource_sharer.DupFd, "detach", late)
    monkeypatch.setattr("datasets.parcel.wait", look)
    try:
        with contextlib.nullcontext() if comes else pytest.raises(StalledError):
            assert handed_over("late") == "late"
    finally:
        may_go.set()
    assert seconds == [5.0] * min(looks, 24)


def open_files() -> set[tuple[int, int, int]]:
    """Open descriptors with the files they stand for, once no thread that hands descriptors out has one in hand."""
    resource_sharer.stop()
    found = set()
    for number in (int(path.name) for path in Path("/dev/fd").iterdir()):
        with contextlib.suppress(OSError):  # what listed them
            found.add((number, os.fstat(number).st_dev, os.fstat(number).st_ino))
    return found


def test_little_goes_through_the_pipe_and_no_file_stays_open():
    """A killed run's worker, left with more than its pipe holds (64 KiB), would never end."""
    handed_over(0)  # what is opened once and for all
    before = open_files()
    sent = ForkingPickler.dumps(Parcel([(torch.zeros(3, 96, 96), "name" * 100)] * 500))
    assert len(sent) < 1024
    received = pickle.loads(sent)
    assert len(received) == 500
    del received
    assert open_files() <= before  # others' may have been closed meanwhile, as garbage
