"""One run at a time in a folder: a lock that ends with the process that holds it, however that ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from utils.distributed import is_main
from utils.errors import UserError
from utils.files import is_temporary

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while the block lasts; it is made if it does not exist.

    The kernel gives the lock back when the process ends, so that a killed run leaves the file `.lock` and nothing
    else. It is the process's own (`lockf`; `flock` would be shared with the processes that read images, and those
    live on for some seconds when the main one is killed).

    Of several processes of one run, the main one takes the lock.

    What an earlier run was writing when it was killed lies there under temporary names, and is removed.

    Args:
        folder: what `--save_path` names.

    Raises:
        UserError: another run holds the lock, or the folder cannot be written to.
    """
    if not is_main():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / NAME).open("a")
    except OSError as error:
        raise UserError(f"--save_path {folder}: no folder to write to ({error.strerror})") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # either may say that it is taken
            raise UserError(
                f"another run is writing to --save_path {folder}: wait for its end, or choose another --save_path"
            ) from error
        _remove_temporary_files(folder)
        yield


def _remove_temporary_files(folder: Path) -> None:
    """Remove what was never finished, but not from a folder below that has a lock of its own."""
    for parent, subfolders, names in os.walk(folder):
        if NAME in names and Path(parent) != folder:
            subfolders.clear()
            continue
        for name in filter(is_temporary, names):
            (Path(parent) / name).unlink(missing_ok=True)
