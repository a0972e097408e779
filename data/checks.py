"""Reading every image and mask of a data set once, and noting everything that looks wrong.

Images are compared by the SHA-256 of their decoded pixels, not of their files: a copy that was saved anew without loss,
or that has other metadata, is the same image to a model, and everything is decoded anyway. Copies that were compressed
anew or resized are not found.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from data import kinds
from data.common import Found
from data.kinds import Kind
from datasets.images import load_mask, load_rgb_and_mode
from datasets.meta import Entry, path_problem
from utils.errors import UserError

NEARLY_ALL = 0.9  # share of a class that must agree on a size or mode, for others to be odd
FEW = 10  # images of a class below which none is odd

Note = tuple[Kind, str]  # what is wrong, and where


@dataclass(frozen=True)
class _Checked:
    """An entry, corrected, or None if it must be left out; what is wrong with it; and what its image is like."""

    entry: Entry | None
    notes: list[Note]
    digest: bytes = b""
    size: str = ""
    mode: str = ""


def check(found: Found, root: Path, mask_threshold: int, decode: bool = True) -> Found:
    """Leave out what cannot be read, and note everything that looks wrong.

    Args:
        found: what a builder found, or a list has; it is not changed.
        root: the data set's folder, resolved.
        mask_threshold: see `load_mask`.
        decode: whether to read every image and mask whole, as only this finds a truncated file, and to compare
            the images with one another; paths are checked anyway.
    """
    problems = defaultdict(list, {what: list(where) for what, where in found.problems.items()})
    entries = [*found.train, *found.test]
    pool = ThreadPoolExecutor()
    try:
        results = pool.map(lambda entry: _check_entry(entry, root, mask_threshold, decode), entries)
        checked = list(tqdm(results, total=len(entries), desc="checking", unit="image", disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the images still to be read
    splits = (checked[: len(found.train)], checked[len(found.train) :])
    train, test = ([one for one in split if one.entry is not None] for split in splits)
    notes = [note for one in checked for note in one.notes]
    if decode:
        notes += [*_same_images(train, test), *_odd_ones([*train, *test])]
    for what, where in notes:
        problems[what].append(where)
    return Found([one.entry for one in train], [one.entry for one in test], problems)


def _check_entry(entry: Entry, root: Path, mask_threshold: int, decode: bool) -> _Checked:
    if problem := path_problem(entry.img_path, root):
        return _Checked(None, [(kinds.BAD_PATH, f"{entry.img_path!r} {problem}")])
    notes: list[Note] = []
    if problem := path_problem(entry.mask_path, root):
        notes.append((kinds.BAD_MASK_PATH, f"{entry.mask_path!r} {problem}"))
        entry = replace(entry, mask_path="")
    if not decode:
        return _Checked(entry, notes)
    try:
        image, mode = load_rgb_and_mode(root / entry.img_path)
    except UserError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return _Checked(None, [(kinds.MISSING if missing else kinds.UNREADABLE, str(error))])
    size = f"{image.width} x {image.height}"
    if entry.mask_path:
        entry, mask_notes = _check_mask(entry, root, mask_threshold, size)
        notes += mask_notes
    digest = hashlib.sha256(image.tobytes() + size.encode()).digest()
    return _Checked(entry, notes, digest, size, mode)


def _check_mask(entry: Entry, root: Path, threshold: int, image_size: str) -> tuple[Entry, list[Note]]:
    """The entry, without its mask if that cannot be read, and what is wrong with it."""
    try:
        mask = load_mask(root / entry.mask_path, threshold)
    except UserError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        note = (kinds.MISSING_MASK if missing else kinds.UNREADABLE_MASK, str(error))
        return replace(entry, mask_path=""), [note]
    notes = []
    size = f"{mask.shape[1]} x {mask.shape[0]}"
    if size != image_size:
        notes.append((kinds.OTHER_SIZE, f"{entry.mask_path} ({size}, its image {image_size})"))
    if entry.anomaly == 1 and not mask.any():
        notes.append((kinds.EMPTY_MASK, entry.mask_path))
    if entry.anomaly == 0 and mask.any():
        notes.append((kinds.NORMAL_WITH_MASK, f"{entry.img_path} ({entry.mask_path})"))
    if threshold == 0 and PurePosixPath(entry.mask_path).suffix.lower() in (".jpg", ".jpeg"):
        notes.append((kinds.JPEG_MASK, entry.mask_path))
    return entry, notes


def _same_images(train: Sequence[_Checked], test: Sequence[_Checked]) -> Iterator[Note]:
    """Images with the pixels of one before them, those within the training split excepted, where it is harmless."""
    first: dict[bytes, tuple[Entry, bool]] = {}
    for one, tested in [*((one, False) for one in train), *((one, True) for one in test)]:
        known, known_tested = first.setdefault(one.digest, (one.entry, tested))
        if known is one.entry:
            continue
        where = f"{one.entry.img_path} (= {known.img_path})"
        if {known.anomaly, one.entry.anomaly} == {0, 1}:
            yield kinds.TWO_LABELS, where
        elif known.cls_name != one.entry.cls_name:
            yield kinds.TWO_CLASSES, where
        elif tested:
            yield kinds.TWICE if known_tested else kinds.BOTH_SPLITS, where


def _odd_ones(checked: Sequence[_Checked]) -> Iterator[Note]:
    """Images of another size or mode than nearly all of their class."""
    classes = defaultdict(list)
    for one in checked:
        classes[one.entry.cls_name].append(one)
    for group in classes.values():
        for kind, name in ((kinds.ODD_SIZE, "size"), (kinds.ODD_MODE, "mode")):
            usual, count = Counter(getattr(one, name) for one in group).most_common(1)[0]
            if len(group) < FEW or count < NEARLY_ALL * len(group):
                continue
            for one in group:
                if getattr(one, name) != usual:
                    yield kind, f"{one.entry.img_path} ({getattr(one, name)}, not {usual})"
