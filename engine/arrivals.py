"""Photographs that arrive one by one, named by another program or in folders that fill, and how they are read ahead."""

import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from datasets.image_files import IMAGE_SUFFIXES, is_result, passed_over
from utils.errors import UserError
from utils.files import walk

logger = logging.getLogger(__name__)

FileRecord = dict[str, int]  # what tells that a file is another than it was
T = TypeVar("T")

POLL = 0.2  # seconds between two looks at a folder; a file that was the same in both is read
PATIENCE = 3.0  # seconds that a file which cannot be read must have been the same for, to be called broken
SHARE = 0.1  # of a processor's time that looking takes at most: large folders are looked at less often
AT_ONCE = 1000  # files that were read, looked at again in one look to see if they were replaced
LISTED_AGAIN = 10  # looks in which folders are listed after one has changed, as its time may stay the same meanwhile


def file_record(path: Path) -> FileRecord | None:
    """Look at a file's size and time; None where there is none."""
    with suppress(OSError, ValueError):  # no name that a file can have
        found = path.stat()
        return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}
    return None


class Arrival(NamedTuple):
    """A photograph that is to be read."""

    path: Path
    file: FileRecord | None  # what it was when it was found; None where there is none


class Lines:
    """The lines of a stream, each the name of a file, which may be in any encoding."""

    def __init__(self, stream: IO[Any]) -> None:
        self.descriptor, self.rest, self.lines, self.has_ended = stream.fileno(), b"", deque[bytes](), False

    def take(self, most: int, *, wait: bool) -> list[Arrival]:
        """Give at most so many of those that are there; if none is, wait for one: none after that is the end."""
        while len(self.lines) < most and not self.has_ended:
            if not select.select([self.descriptor], [], [], None if wait and not self.lines else 0)[0]:
                break
            content = os.read(self.descriptor, 1 << 16)
            self.has_ended = not content
            *whole, self.rest = [*(self.rest + content).split(b"\n"), *([b""] if self.has_ended else [])]
            self.lines += (line.rstrip(b"\r") for line in whole if line.strip())
        paths = [Path(os.fsdecode(self.lines.popleft())) for _ in range(min(most, len(self.lines)))]
        return [Arrival(path, file_record(path)) for path in paths]

    def accepts(self, arrival: Arrival, found: Any) -> bool:
        """Tell whether what was read of a photograph, or the error, stands; if not, it may be given again."""
        return True


class _Sight(NamedTuple):
    """A file that is not known to be whole."""

    file: FileRecord | None  # as it was last seen
    since: float  # when that was first so
    was_read: bool = False  # in vain


class Folders:
    """The images in folders that fill, and in their subfolders, by suffix; hidden ones, and what runs wrote, are not.

    A file is given when it was the same in two looks, and again whenever it is another than the one given,
    by size and time. One that cannot be read, or has changed meanwhile, is waited for; one that is gone is forgotten.
    """

    def __init__(self, folders: Iterable[Path], done: Mapping[str, FileRecord | None]) -> None:
        """`done`: by path, the files that need not be given as long as they are these."""
        self.folders, self.done = list(map(str, folders)), dict(done)
        self.sights: dict[str, _Sight] = {}
        self.given: dict[str, _Sight] = {}  # and not accepted yet
        self.ready: deque[Arrival] = deque()
        self.names: set[str] = set()  # of all files that were found
        self.again: Iterator[str] = iter(())
        self.times: dict[str, int | None] = {}  # of the folders and subfolders, when they were listed
        self.listings, self.next_look, self.unlisted = 0, 0.0, set[str]()

    def take(self, most: int, *, wait: bool) -> list[Arrival]:
        """See `Lines.take`; there is always more to wait for."""
        while len(self.ready) < most:
            now = time.monotonic()
            if now >= self.next_look:
                self._look(now)
                self.next_look = now + max(POLL, (time.monotonic() - now) / SHARE)
            if self.ready or not wait:
                break
            time.sleep(max(0.0, self.next_look - time.monotonic()))
        return [self.ready.popleft() for _ in range(min(most, len(self.ready)))]

    def accepts(self, arrival: Arrival, found: Any) -> bool:
        """See `Lines.accepts`."""
        path, now = str(arrival.path), file_record(arrival.path)
        sight = self.given.pop(path)
        if now is None:
            self._forget(path)
        elif now != arrival.file or (isinstance(found, UserError) and time.monotonic() - sight.since < PATIENCE):
            self.sights[path] = sight._replace(was_read=True)
        else:
            self.done[path] = now
            return True
        return False

    def _look(self, now: float) -> None:
        if self.times != (times := {folder: _time_of(folder) for folder in self.times or self.folders}):
            self.listings = LISTED_AGAIN
        if self.listings:
            self.listings -= 1
            self.times = dict.fromkeys(self.folders) | times
            self._list()
        looked_at = list(islice(self.again, AT_ONCE))
        if len(looked_at) < AT_ONCE:
            self.again = iter(list(self.done))
        for path in dict.fromkeys([*self.sights, *looked_at]):
            file, sight = file_record(Path(path)), self.sights.get(path)
            if file is None:
                self._forget(path)
            elif file == self.done.get(path):
                self.sights.pop(path, None)
            elif sight is None or sight.file != file:
                self.sights[path] = _Sight(file, now)
            elif not sight.was_read or now - sight.since >= PATIENCE:
                self.given[path] = self.sights.pop(path)
                self.ready.append(Arrival(Path(path), file))

    def _list(self) -> None:
        """Find the files that are new."""
        found = set()
        with suppress(OSError):  # a folder that goes while it is listed
            for folder in self.folders:
                for parent, names in walk(Path(folder), self._warn):
                    self.times.setdefault(str(parent), _time_of(parent))
                    found.update(os.path.join(parent, name) for name in names)  # noqa: PTH118 - there are many
        new = sorted(found - self.names)
        self.names |= found
        if said := passed_over(map(Path, new)):
            logger.warning("%s", said)
        images = (path for path in new if Path(path).suffix.lower() in IMAGE_SUFFIXES and not is_result(Path(path)))
        self.sights |= {path: _Sight(None, 0.0) for path in images if path not in self.done}

    def _warn(self, error: OSError) -> None:
        if error.filename not in self.unlisted:
            self.unlisted.add(error.filename)
            logger.warning("cannot list %s: %s", error.filename, error.strerror)

    def _forget(self, path: str) -> None:
        """Let a file that is gone be a new one if it comes again."""
        for known in (self.sights, self.done):
            known.pop(path, None)
        self.names.discard(path)


def _time_of(folder: str | Path) -> int | None:
    with suppress(OSError):
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - as often as there are folders
    return None


def read_ahead(
    source: Lines | Folders, read: Callable[[Arrival], T], size: int, threads: int, idle: Callable[[], object]
) -> Iterator[list[tuple[Arrival, T]]]:
    """Give what arrives in batches of at most `size` of what is there, each with what `read` gives of it.

    While a batch is worked on, the next one is read in `threads`. When nothing is left to do, `idle` is called.
    """
    with ThreadPoolExecutor(threads, "reader") as pool:
        reading: deque[Any] = deque()
        while True:
            ahead = source.take(2 * size - len(reading), wait=False)
            if not ahead and not reading:
                idle()
                if not (ahead := source.take(2 * size, wait=True)):
                    return
            reading += [(arrival, pool.submit(read, arrival)) for arrival in ahead]
            batch = [reading.popleft() for _ in range(min(size, len(reading)))]
            read_ones = [(arrival, future.result()) for arrival, future in batch]
            if batch := [one for one in read_ones if source.accepts(*one)]:
                yield batch
