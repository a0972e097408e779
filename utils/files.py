"""Files that are either whole or absent: written under a temporary name, then renamed."""

import contextlib
import csv
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import stat
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from utils.errors import UserError

LOCK = ".lock"  # a file in each folder that a run writes to, see `utils.runtime.locked`


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a file for reading, which must be a regular one: a pipe may never end, and a device may act.

    An `OSError` says why it cannot be opened.
    """
    kind = Path(path).stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # of a folder, opening it says so
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return Path(path).open("rb")


def output_file(path: str | Path) -> Path:
    """Follow links to the file that is written to under this name; raises a `UserError` if that is no file."""
    target = Path(os.path.realpath(path))
    # What cannot be looked at cannot be opened either, and that says why.
    if os.path.lexists(target) and not target.is_file():
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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _open_locked(target.parent, mode.replace("w", "x"), **kwargs) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(target)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        # NumPy and Pillow say how far they got, but not why.
        raise UserError(f"cannot write {path}: {error.strerror or f'{error}; is the disk full?'}") from error


def _open_locked(folder: Path, mode: str, **kwargs: Any) -> IO[Any]:
    """Open a new file under a temporary name, with a lock that ends with the process, see `remove_abandoned`."""
    while True:
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        file = temporary.open(mode, **kwargs)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():  # nobody took it for abandoned before it was locked
            return file
        file.close()


def is_temporary(name: str) -> bool:
    """Tell whether a file is called as `atomic_open` calls unfinished ones; a killed process leaves it behind."""
    return re.fullmatch(r"\.[0-9a-f]{32}\.tmp", name) is not None


def fits(path: Path) -> bool:
    """Tell whether a file may have a name and a path as long as that, by the part of its path that exists."""
    there = next(filter(os.path.exists, path.absolute().parents))
    name, whole = (len(os.fsencode(text)) for text in (path.name, path))
    return name <= os.pathconf(there, "PC_NAME_MAX") and whole < os.pathconf(there, "PC_PATH_MAX")


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove, of files, those that killed processes did not finish; who still writes one holds a lock on it."""
    for path in paths:
        if is_temporary(path.name):
            # An error: it is another process's, or gone with that, or the file system knows no locks.
            with contextlib.suppress(OSError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is the system's: `._0.png`, `.Trash`, `.ipynb_checkpoints`, `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def walk(folder: Path, unlisted: Callable[[OSError], None] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder from `folder` down, once, with the names of the files in it; nothing that is hidden.

    Links are followed, after all that is there without them; `unlisted` is given the error of a folder that cannot be
    listed, whose name it has.
    """
    seen: set[tuple[int, int]] = set()
    starts = [os.fspath(folder)]
    for start in starts:  # to which links are added
        for parent, subfolders, names in os.walk(start, onerror=unlisted):
            here = os.stat(parent)  # noqa: PTH116 - as often as there are folders
            subfolders[:] = [name for name in subfolders if not is_hidden(name)]
            if (here.st_dev, here.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((here.st_dev, here.st_ino))
            links = (os.path.join(parent, name) for name in sorted(subfolders))  # noqa: PTH118
            starts += filter(os.path.islink, links)
            yield Path(parent), [name for name in names if not is_hidden(name)]


def visible_files(folder: Path, unlisted: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Give all files below a folder, see `walk`."""
    return (parent / name for parent, names in walk(folder, unlisted) for name in names)


def matches(pattern: str) -> Iterator[Path]:
    """Give what matches a pattern of `glob`, but for what is hidden, unless the pattern itself names it.

    Of folders that hold a link to themselves, that is what is there as `walk` goes through them.
    """
    named = [*filter(is_hidden, Path(pattern).parts)]
    for path in map(Path, _matches(pattern)):
        hidden = [*filter(is_hidden, path.parts)]
        if len(hidden) == len(named) and all(map(fnmatchcase, hidden, named)):
            yield path


def _matches(pattern: str) -> Iterator[str]:
    start, *rest = re.split(r"(?:^|(?<=/))\*\*(?:/|$)", pattern, maxsplit=1)
    if not rest:
        yield from glob.glob(pattern)  # noqa: PTH207 - Path's takes no absolute pattern
        return
    for top in glob.glob(start) if start else ["."]:  # noqa: PTH207
        for parent, _ in walk(Path(top)):
            yield from _matches(os.path.join(glob.escape(str(parent)), rest[0].lstrip("/") or "*"))  # noqa: PTH118


def nfc(name: str) -> str:
    """Give a name as it is compared: an umlaut is one letter, or a letter and its dots where macOS stored it."""
    return unicodedata.normalize("NFC", name)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_open(path) as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; NaN is refused, as it is not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how a text begins that a spreadsheet would run, or that was quoted for it


def unquoted(text: str) -> str:
    """Take away the quote that `write_csv` put before what would be a formula."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def write_csv(path: str | Path, columns: Collection[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows below a line of headings, atomically; a text that would be a formula gets a quote before it."""
    with atomic_open(path, newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            texts = {key: f"'{text}" for key, text in row.items() if isinstance(text, str) and FORMULA.match(text)}
            writer.writerow({**row, **texts})


def sha256_of(path: str | Path, advance: Callable[[int], object] = lambda count: None) -> str:
    """Compute the SHA-256 of a file's content, as a hexadecimal string; `advance` is told of bytes that are read."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
