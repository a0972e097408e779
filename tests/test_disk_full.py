"""A disk that is full, or a file that may not become larger: one sentence, and what was written is whole."""

import contextlib
import logging
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import predict
import test_sdp
import train_dp_clip
import train_sdp_plus
from tests import small_data, tiny_clip
from tests.faults import broken_files
from utils.errors import run

Limit = Callable[[Path, int], AbstractContextManager[None]]


@contextlib.contextmanager
def file_size_limit(folder: Path, size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        logging.basicConfig(force=True)  # the log still has to write what it could not


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """`folder` holds `size` bytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs to mount a small disk: {getattr(error, 'stderr', None) or error}")
    try:
        yield
    finally:
        logging.basicConfig(force=True)  # the log is still open
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> dict[str, tuple[Callable, list[str]]]:
    """Entry points with options; what they cache is in the cache already."""
    folder = tmp_path_factory.mktemp("inputs")
    config, weights = tiny_clip.save(folder / "model")
    data = small_data.make(folder / "data")
    model = ["--model", str(config), "--pretrained", str(weights), "--num_workers", "0"]
    model += ["--cache_dir", str(folder / "cache")]
    train = ["--train_dataset", "mvtec", "--train_dataset_dir", str(data), *model, "--epochs", "2"]
    test = ["--dataset", "mvtec", "--data_path", str(data), *model, "--save_maps", "--visualization"]
    scripts = {
        "train_sdp_plus": (train_sdp_plus.main, train),
        "train_dp_clip": (train_dp_clip.main, train),
        "test_sdp": (test_sdp.main, test),
        "predict": (predict.main, [str(data), *model, "--save_maps"]),
    }
    for name, (main, options) in scripts.items():
        main([*options, "--save_path", str(folder / name)])
    return scripts


def error_of(main: Callable, options: list[str], capsys: pytest.CaptureFixture) -> str:
    """The sentence that a run ends with, after its log and its progress."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        run(lambda: main(options))
    errors = capsys.readouterr().err
    assert ending.value.code == 2, errors
    assert "Traceback" not in errors
    assert "Logging error" not in errors
    return errors.splitlines()[-1]


@pytest.mark.parametrize("script", ["train_sdp_plus", "train_dp_clip", "test_sdp", "predict"])
@pytest.mark.parametrize(
    "limit, size",
    [
        *((small_disk, size) for size in (8 << 10, 100 << 10, 200 << 10, 360 << 10)),
        *((file_size_limit, size) for size in (100, 3000, 30_000)),
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_whole_files(scripts, tmp_path, capsys, script, limit: Limit, size):
    main, options = scripts[script]
    disk = tmp_path / "disk"
    with limit(disk, size):
        error = error_of(main, [*options, "--save_path", str(disk / "run")], capsys)
        reason = "No space left on device|File too large|is the disk full"
        assert re.match(rf"error: cannot write {disk}/run/\S+: .*({reason})", error)
        files = [Path(parent) / name for parent, _, names in os.walk(disk) for name in names]
        assert not [path for path in files if path.suffix == ".tmp"]
        assert broken_files(files) == []


def test_a_full_cache_is_one_sentence_and_what_it_holds_is_used(scripts, tmp_path, capsys):
    main, options = scripts["train_sdp_plus"]
    cache = tmp_path / "cache"
    with file_size_limit(tmp_path, 100_000):  # an image's tokens take more
        error = error_of(main, [*options, "--save_path", str(tmp_path / "run"), "--cache_dir", str(cache)], capsys)
    assert re.match(rf"error: cannot write {cache}/tokens/\S+\.safetensors: ", error)
    assert not [path for path in cache.rglob("*") if path.suffix in (".safetensors", ".tmp")]
    main([*options, "--save_path", str(tmp_path / "run"), "--cache_dir", str(cache)])
