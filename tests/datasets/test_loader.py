"""The loader: order, masks that are known and not, and errors that reach the user as one sentence."""

import ctypes
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from torch.utils.data._utils import worker
from torch.utils.data._utils.pin_memory import pin_memory  # what a loader calls on every batch

from datasets.image_set import ImageSet
from datasets.images import load_rgb
from datasets.loader import (
    AnomalyDataset,
    Batch,
    ErrorRaisingLoader,
    collate,
    end_quietly,
    in_batches,
    in_batches_of_one_class,
    make_loader,
)
from datasets.meta import Entry
from datasets.photographs import PhotographDataset
from datasets.registry import get_spec
from datasets.transforms import image_transform
from tests.forked import fork, run_forked, wait_for
from utils.errors import INTERRUPTED, UserError

SIZE = 12
WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


@pytest.fixture
def root(tmp_path):
    for number in range(7):
        Image.new("RGB", (20, 16), (number * 30, 0, 0)).save(tmp_path / f"{number}.png")
    mask = np.zeros((16, 20), np.uint8)
    mask[:, 10:] = 100
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def entry(number, anomaly=0, mask_path=""):
    return Entry(f"{number}.png", mask_path, "thing", "", anomaly)


def dataset(entries: list[Entry], root: Path, mask_threshold: int = 0) -> AnomalyDataset:
    return AnomalyDataset(ImageSet(replace(get_spec("folder"), mask_threshold=mask_threshold), root, entries), SIZE)


def loader(entries: list[Entry], root: Path, batch_size: int, num_workers: int = 0) -> ErrorRaisingLoader:
    return make_loader(dataset(entries, root), in_batches_of_one_class(entries, batch_size), num_workers)


@WORKERS
def test_batches_come_in_the_entries_order(root, num_workers):
    entries = [entry(number) for number in (5, 3, 6, 0, 1, 2, 4)]
    batches = list(loader(entries, root, 3, num_workers))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    images = torch.cat([batch.images for batch in batches])
    expected = torch.stack([image_transform(load_rgb(root / each.img_path), SIZE) for each in entries])
    assert torch.equal(images, expected)


def test_a_batch_holds_images_of_one_class(root):
    entries = [replace(entry(number), cls_name="ab"[number > 3]) for number in range(7)]
    batches = list(loader(entries, root, 3))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 2], [3], [4, 5, 6]]


HALF = torch.zeros(SIZE, SIZE, dtype=torch.bool)
HALF[:, SIZE // 2 :] = True
EMPTY = torch.zeros(SIZE, SIZE, dtype=torch.bool)


@pytest.mark.parametrize(
    ("anomaly", "mask_path", "known", "expected"),
    [
        (0, "", True, EMPTY),
        (0, "mask.png", True, EMPTY),
        (1, "mask.png", True, HALF),
        (1, "", False, EMPTY),
        (None, "mask.png", True, HALF),
        (None, "", False, EMPTY),
    ],
)
def test_which_masks_are_known(root, anomaly, mask_path, known, expected):
    (batch,) = loader([entry(0, anomaly, mask_path), entry(1)], root, 2)
    assert batch.has_mask.tolist() == [known, True]
    assert batch.masks.dtype == torch.bool
    assert torch.equal(batch.masks[0], expected)


def test_the_mask_threshold_is_obeyed(root):
    item = dataset([entry(0, 1, "mask.png")], root, mask_threshold=100)[0]
    assert item.has_mask
    assert not item.masks.any()


def test_a_mask_that_is_not_there_is_one_sentence(root):
    with pytest.raises(UserError, match=r"there is no image .*absent\.png"):
        list(loader([entry(0, 1, "absent.png"), entry(1)], root, 2))


@WORKERS
def test_a_broken_image_is_one_sentence_after_the_batches_before_it(root, num_workers):
    (root / "3.png").write_bytes(b"not an image")
    batches = iter(loader([entry(number) for number in range(7)], root, 2, num_workers))
    assert next(batches).indices.tolist() == [0, 1]
    with pytest.raises(UserError) as caught:
        next(batches)
    assert str(caught.value) == f"{root / '3.png'} is not an image, or of a kind that cannot be read"


@WORKERS
def test_the_global_generator_is_left_alone(root, num_workers):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    list(loader([entry(0)], root, 1, num_workers))
    assert torch.equal(torch.rand(1), expected)


def test_the_dataset_can_be_sent_to_a_worker_that_is_started_anew(root):
    sent = pickle.loads(pickle.dumps(dataset([entry(2)], root)))
    assert len(sent) == 1
    assert torch.equal(sent[0].images, image_transform(load_rgb(root / "2.png"), SIZE))


def test_pinning_pins_every_tensor(root, monkeypatch):
    batch = collate([dataset([entry(0)], root)[0]])
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *device: ("pinned", tensor))
    pinned = pin_memory(batch)
    assert pinned.pictures is None  # which are cut in the main process
    for name in batch._fields[:-1]:
        mark, tensor = getattr(pinned, name)
        assert mark == "pinned"
        assert tensor is getattr(batch, name)


def test_interrupting_leaves_no_traceback_of_the_workers(root, tmp_path):
    def main() -> None:
        for batch in loader([entry(0)] * 100_000, root, 4, num_workers=2):
            if 4 in batch.indices:  # the second batch, so both workers are at work
                print("running")
            time.sleep(0.001)

    with (tmp_path / "output").open("w+") as output:
        pid = fork(main, output)
        while "running" not in (tmp_path / "output").read_text():
            time.sleep(0.01)
        time.sleep(0.2)
        os.killpg(pid, signal.SIGINT)  # as the terminal does: the workers get it as well
        assert wait_for([pid]) == [130]
    printed = (tmp_path / "output").read_text()
    assert printed == f"running\n{INTERRUPTED}\n"


def test_interrupts_while_workers_start_wait_and_leave_no_traceback(root, monkeypatch):
    start, work = BaseProcess.start, worker._worker_loop

    def start_interrupted(process: BaseProcess) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        start(process)
        os.kill(os.getpid(), signal.SIGINT)

    def work_interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        work(*arguments)

    monkeypatch.setattr(BaseProcess, "start", start_interrupted)
    monkeypatch.setattr(worker, "_worker_loop", work_interrupted)
    codes, printed = run_forked(lambda: list(loader([entry(0)] * 8, root, 4, num_workers=2)))
    assert codes == [130]
    assert printed == f"{INTERRUPTED}\n"


def test_a_worker_reports_errors_but_not_that_the_main_process_is_gone(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    handler = signal.getsignal(signal.SIGINT)
    try:
        end_quietly(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)
    sys.excepthook(BrokenPipeError, BrokenPipeError(), None)
    assert capsys.readouterr().err == ""
    sys.excepthook(ValueError, ValueError("real"), None)
    assert "ValueError: real" in capsys.readouterr().err


@pytest.mark.parametrize(
    "die", [lambda: os._exit(3), lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL)]
)
def test_a_worker_that_dies_is_one_sentence(root, monkeypatch, die):
    monkeypatch.setattr("datasets.image_set.load_rgb", lambda *arguments: die())
    codes, printed = run_forked(lambda: list(loader([entry(0)] * 8, root, 4, num_workers=2)))
    assert codes == [2]
    assert printed == "error: a process that reads images died, perhaps for want of memory: try --num_workers 0\n"


@pytest.mark.parametrize(
    "stall", [lambda: time.sleep(1000), lambda: os.kill(os.getpid(), signal.SIGSTOP)], ids=["asleep", "stopped"]
)
def test_a_worker_that_stalls_is_one_sentence(root, monkeypatch, stall):
    def read(path: Path, *intensity: None) -> Image.Image:
        if path.name == "3.png":
            while not (root / "received").exists():
                time.sleep(0.01)
            (root / "stuck").touch()
            stall()
        return load_rgb(path)

    def main() -> None:
        batches = iter(loader([entry(number) for number in range(4)], root, 3, num_workers=1))
        next(batches)
        (root / "received").touch()
        while not (root / "stuck").exists():
            time.sleep(0.01)
        monkeypatch.setattr("datasets.loader.PATIENCE", 0.3)
        next(batches)

    monkeypatch.setattr("datasets.image_set.load_rgb", read)
    monkeypatch.setattr("datasets.loader.GLANCE", 0.1)
    codes, printed = run_forked(main)
    assert codes == [2]
    assert printed == (
        f"error: the processes that read images have stood still for 0.3 seconds, at {root / '3.png'}: see to that "
        "file and its disk, or try --num_workers 0\n"
    )


def test_a_worker_that_stops_before_it_has_handed_a_batch_over_is_a_sentence(root, monkeypatch):
    monkeypatch.setattr("multiprocessing.resource_sharer.DupFd.detach", lambda descriptor: time.sleep(1000))
    monkeypatch.setattr("datasets.parcel.PATIENCE", 0.1)
    monkeypatch.setattr("datasets.parcel.GLANCE", 0.1)

    def main() -> None:
        try:
            list(loader([entry(0)] * 8, root, 4, num_workers=2))
        except UserError as error:
            print(error)
            sys.stdout.flush()
            os._exit(2)  # the thread that waits would be waited for

    codes, printed = run_forked(main)
    assert codes == [2]
    assert printed.startswith("the processes that read images have stood still for 120 seconds, at ")


class Failing(Dataset):
    """Items that a server does not send in time."""

    def __getitem__(self, index: int) -> None:
        raise TimeoutError("the server is silent")


@WORKERS
def test_a_time_out_in_reading_is_not_taken_for_a_stalled_worker(num_workers):
    loading = make_loader(Failing(), [[0, 1]], num_workers)
    with pytest.raises(TimeoutError, match="the server is silent"):
        list(loading)
    if num_workers:
        assert [*loading.dataset.at] == [0]  # none is at an item


def test_an_error_in_handing_over_says_why_even_without_a_number(root):
    def fail(items: list[Batch]) -> Batch:
        raise OSError("no room for a batch")

    loading = make_loader(dataset([entry(0)], root), [[0]], 1, collate_fn=fail)
    with pytest.raises(UserError, match=r"cannot hand them over \(no room for a batch\): try --num_workers 0"):
        list(loading)


NOT_HERE = 77  # the exit code of a process that may not be limited


def small_shared_memory() -> None:
    """Leave 64 MB of shared memory to this process, as Docker does unless told otherwise."""
    system = ctypes.CDLL(None, use_errno=True)
    if not hasattr(system, "unshare") or system.unshare(0x20000):  # CLONE_NEWNS
        print("needs the right to make a mount namespace")
        raise SystemExit(NOT_HERE)
    mounts = (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "size=64m", "tmpfs", "/dev/shm"])
    if any(subprocess.run(["mount", *options], check=False).returncode for options in mounts):
        print("needs the right to mount")
        raise SystemExit(NOT_HERE)


def few_open_files() -> None:
    """Leave 1024 open files to this process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.mark.parametrize(
    "limit, size, count, batch_size, num_workers",
    [(small_shared_memory, (1600, 1200), 40, 8, 2), (few_open_files, (8, 6), 1088, 64, 8)],
)
def test_photographs_get_through_where_little_is_allowed(
    tmp_path, limit: Callable[[], None], size, count, batch_size, num_workers
):
    Image.effect_noise(size, 50).convert("RGB").save(tmp_path / "a.jpg")

    def main() -> None:
        limit()
        dataset = PhotographDataset([tmp_path / "a.jpg"] * count, 240)
        expected = dataset[0][1]
        indices = []
        for batch in make_loader(dataset, in_batches(range(count), batch_size), num_workers, collate_fn=list):
            for index, photograph in batch:
                assert torch.equal(photograph.image, expected.image)
                assert torch.equal(photograph.picture, expected.picture)
                indices.append(index)
        assert indices == list(range(count))

    codes, printed = run_forked(main)
    if codes == [NOT_HERE]:
        pytest.skip(printed.strip())
    assert (codes, printed) == ([0], "")


def test_more_files_than_may_be_open_are_one_sentence(root):
    def main() -> None:
        free = os.dup(0)  # the lowest number that is free, and then the only one below the limit
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        list(loader([entry(0)] * 8, root, 4, num_workers=2))

    codes, printed = run_forked(main)
    assert codes == [2]
    assert "Traceback" not in printed
    assert "Too many open files" in printed
