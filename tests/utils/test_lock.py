"""The lock of a run's folder: one process at a time, and none is left behind, however it ended."""

import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import evaluate
import predict
import test_dp_clip
import test_sdp
import test_sdp_plus
import train_dp_clip
import train_sdp_plus
from tests.forked import fork, wait_for
from utils.errors import UserError
from utils.files import atomic_open, remove_abandoned
from utils.runtime import locked

LEFT_ALONE = [f"{name}.log" for name in ("test", "train", "evaluate", "compare", "predict")]
LEFT_ALONE += ["results.json", "predict.json", f".{'0' * 32}.tmp"]
TAKEN = r"another run is writing to --save_path .*run: wait for its end, or choose another --save_path"


@contextmanager
def holder(folder: Path) -> Iterator[Callable[[], None]]:
    """Another process that holds the lock, and has a worker that lives on when it is killed; gives what kills it."""

    def hold() -> None:
        with locked(folder):
            if os.fork():
                print("held")
            time.sleep(600)

    with tempfile.NamedTemporaryFile("w+") as output:
        pid = fork(hold, output)

        def kill() -> None:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        try:
            while not Path(output.name).read_text():
                time.sleep(0.01)
            yield kill
        finally:
            os.killpg(pid, signal.SIGKILL)
            wait_for([pid])


@pytest.fixture(scope="module")
def held(tmp_path_factory) -> Iterator[Path]:
    """A folder that another run holds and has files in."""
    folder = tmp_path_factory.mktemp("held") / "run"
    with holder(folder):
        for name in LEFT_ALONE:
            (folder / name).write_text("the other run's")
        yield folder


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    folder = tmp_path / "run"
    with holder(folder) as kill:
        with pytest.raises(UserError, match=TAKEN), locked(folder):
            pytest.fail("two processes held the lock")
        kill()
        with locked(folder):  # while the worker lives
            pass


def test_the_lock_ends_with_the_block(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / "run"):
            raise ZeroDivisionError
    with holder(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    "script, options",
    [
        (test_sdp, ["--dataset", "mvtec"]),
        (test_sdp_plus, ["--dataset", "mvtec", "--checkpoint", "absent.pth"]),
        (train_sdp_plus, ["--train_dataset", "mvtec"]),
        (train_sdp_plus, ["--train_dataset", "mvtec", "--resume"]),
        (test_dp_clip, ["--dataset", "mvtec", "--checkpoint", "absent.pth"]),
        (train_dp_clip, ["--train_dataset", "mvtec"]),
        (evaluate, ["--maps", "absent"]),
        (evaluate, ["--compare", "absent", "absent"]),
        (predict, [__file__]),
    ],
)
def test_every_script_is_refused_before_it_touches_anything(held, script, options):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in held.iterdir()}
    with pytest.raises(UserError, match=f"{TAKEN}|there is no checkpoint absent"):  # which is read first
        script.main([*options, "--save_path", str(held)])
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in held.iterdir()} == before


def test_of_several_data_sets_no_folder_is_another_runs(bolts, model, tmp_path):
    both = ["--dataset", "mvtec", "mpdd", "--data_path", str(bolts), str(bolts), *model, "--num_workers", "0"]
    with holder(tmp_path / "mpdd"), pytest.raises(UserError, match=TAKEN.replace("run:", "mpdd:")):
        test_sdp.main([*both, "--save_path", str(tmp_path)])
    assert not (tmp_path / "mvtec" / "results.json").exists()


def test_what_a_killed_run_did_not_finish_is_removed(tmp_path):
    leftover = f".{'0123456789abcdef' * 2}.tmp"
    kept = ["results.json", "notes.tmp", ".hidden.tmp", "maps/a.npy", "other_run/.lock"]
    for name in [*kept, leftover, f"maps/bolt/{leftover}", f"other_run/{leftover}"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with locked(tmp_path):
        pass
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == sorted([*kept, ".lock"])


def test_what_another_live_run_is_writing_is_left_to_it(tmp_path):
    """Its cache may lie below this run's folder."""
    cached = tmp_path / ".cache" / "text" / "a.json"

    def write() -> None:
        with atomic_open(cached) as file:
            file.write("whole")
            file.flush()
            print("writing")
            while not (tmp_path / "go on").exists():
                time.sleep(0.01)

    with tempfile.NamedTemporaryFile("w+") as output:
        pid = fork(write, output)
        while not Path(output.name).read_text():
            time.sleep(0.01)
        for _ in range(2):
            with locked(tmp_path):
                assert [path.suffix for path in cached.parent.iterdir()] == [".tmp"]
        (tmp_path / "go on").touch()
        assert wait_for([pid]) == [0]
    assert [path.read_text() for path in cached.parent.iterdir()] == ["whole"]


def test_a_file_that_is_removed_before_it_is_locked_is_begun_again(tmp_path, monkeypatch):
    real, removed = fcntl.flock, []

    def remove_first(file, operation):
        if not removed:
            removed.append(file.name)
            remove_abandoned(tmp_path.iterdir())
        real(file, operation)

    monkeypatch.setattr("fcntl.flock", remove_first)
    with atomic_open(tmp_path / "a.txt") as file:
        file.write("whole")
    assert removed
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "whole")]


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    said = r"--save_path .*file/run: no folder to write to \(Not a directory\)"
    with pytest.raises(UserError, match=said), locked(tmp_path / "file" / "run"):
        pytest.fail("there is no such folder")
