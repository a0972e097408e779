"""Files that are either whole or absent: written under a temporary name, then renamed."""

import contextlib
import csv
import errno
import hashlib
import json
import os
import re
import stat
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from utils.errors import UserError

ABANDONED = 3600  # seconds without a change, after which nobody writes a file any more


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a file for reading, which must be a regular one: a pipe may never end, and a device may act.

    An `OSError` says why it cannot be opened.
    """
    kind = Path(path).stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # of a folder, opening it says so
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return Path(path).open("rb")


def output_file(path: str | Path) -> Path:
    """The file that is written to under this name, by way of links; a `UserError` if there is anything but a file."""
    target = Path(os.path.realpath(path))
    if (
        os.path.lexists(target) and not target.is_file()
    ):  # what cannot be looked at cannot be opened either, and says so
        raise UserError(f"cannot write {path}: it is there and no regular file; choose another name, or remove it")
    return target


@contextlib.contextmanager
def atomic_open(path: str | Path, mode: str = "w", **kwargs: Any) -> Iterator[IO[Any]]:
    """Open `path` for writing, as `open` does; it appears under its name only when the block ends without an error.

    Its folder is made if it does not exist; text is UTF-8. Where it cannot be written, that is a `UserError`.
    """
    target = output_file(path)
    if "b" not in mode:
        kwargs |= {"encoding": "utf-8", "errors": "backslashreplace"}  # names of files need not be valid UTF-8
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")  # see `is_temporary`
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open(mode.replace("w", "x"), **kwargs) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        # NumPy and Pillow say how far they got, but not why.
        raise UserError(f"cannot write {path}: {error.strerror or f'{error}; is the disk full?'}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file is called as `atomic_open` calls one that is not finished; a killed process leaves it behind."""
    return re.fullmatch(r"\.[0-9a-f]{32}\.tmp", name) is not None


def remove_old_temporary_files(folder: Path) -> None:
    """Remove what killed processes did not finish directly in a folder that several may be writing to now."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may remove it, too
            if is_temporary(path.name) and time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_open(path) as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; NaN is refused, as it is not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: str | Path, columns: Collection[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows below a line of headings, atomically."""
    with atomic_open(path, newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def sha256_of(path: str | Path) -> str:
    """Compute the SHA-256 of a file's content, as a hexadecimal string."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
