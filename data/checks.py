"""What is wrong with a data set: every image and mask is read once, and everything that looks wrong is noted.

Images are compared by the SHA-256 of their decoded pixels, not of their files: a copy that was saved without loss, or
that has other metadata, is the same image to a model, and everything is decoded anyway. Copies that were compressed
again or resized are not found.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from data.found import Found, Kind, Note, grouped
from data.layouts import LAYOUTS
from data.masks import mask_notes, shared_masks
from datasets.image_files import IMAGE_SUFFIXES, OTHER_SUFFIXES, is_result
from datasets.images import load_rgb_and_mode
from datasets.meta import SPLITS, Entry, Meta, find_meta, path_problem, read_about, read_meta
from datasets.registry import DatasetSpec, Published
from utils.errors import ERROR, WARNING, Problem, UserError, some_of, unreadable
from utils.files import visible_files

EMPTY: Meta = {"train": {}, "test": {}}
REBUILD = "correct the list; a meta.json in the data set's folder that is deleted is built again"
NO_PATTERN = "no pattern matched them, or they were added since: see whether they belong to it, and "
NO_PATTERN += "delete the list to have it built again"
NO_PLACE = "they cannot be read, lie where the layout has none, or were added since: put them where the layout has "
NO_PLACE += "them, and delete meta.json to have it built again"
NEARLY_ALL = 0.9  # share of a class that must agree on a size or mode, for others to be odd
FEW = 10  # images of a class below which none is odd


def check_data_set(
    spec: DatasetSpec,
    root: Path,
    meta_file: Path | None = None,
    classes: Collection[str] | None = None,
    patterns: Mapping[str, str | int] | None = None,
) -> tuple[Meta, list[Problem]]:
    """Read every image and mask of a data set; return those that can be read, and what is wrong; nothing is written.

    Without a `meta_file` that lists its images, what `patterns` match is taken if there are any, else the folder's own
    list or, without one, what a run would list. Only `classes` are looked at, if they are given.
    """
    path, layout = meta_file, LAYOUTS[spec.label]
    expected = f"expected is {layout.expected}"
    try:
        if not root.is_dir():
            if layout.drawn_by is not None:
                remedy = f"it is drawn when first needed, or by python {layout.drawn_by.replace('.', '/')}.py"
                return EMPTY, [Problem(WARNING, f"there is no folder {root} yet", remedy)]
            remedy = f"put the data set there or name its folder with --data_path; {expected}"
            return EMPTY, [Problem(ERROR, f"there is no folder {root}", remedy)]
        path = path or (None if patterns else find_meta(root, spec.meta_name))
        options = {**({"mask_threshold": spec.mask_threshold} if layout.by_masks else {}), **(patterns or {})}
        found = layout.read(root.resolve(), **options) if path is None else _listed(path, root.resolve(), spec)
        known = list(found.meta["test"])
        lacking = [name for name in dict.fromkeys(classes or ()) if name not in known]
        for groups in found.meta.values() if classes is not None else ():
            for name in groups.keys() - set(classes):
                del groups[name]
        checked = check(found, spec.mask_threshold)
        by_patterns = bool(patterns) or (path is not None and read_about(path).by_patterns)
        is_all = layout.takes_all and classes is None
        unlisted = check_unlisted(root, path, found.meta, by_patterns=by_patterns) if is_all else []
    except UserError as error:
        return EMPTY, [Problem(ERROR, str(error), expected if path is None else REBUILD)]
    except OSError as error:  # a folder that may be listed but not entered, a disk that fails
        return EMPTY, [unreadable(error, root)]
    remedy = f"choose --classes from {', '.join(known)}"
    problems = [Problem(ERROR, f"{path or root} has no class {name} in its test split", remedy) for name in lacking]
    problems += [Problem(kind.level, f"{kind.text} {where}", kind.remedy) for kind, where in grouped(checked.notes)]
    if not checked.meta["test"] and not lacking:
        problems.append(Problem(ERROR, f"{path or root} has no test image that can be read", expected))
    elif classes is None and (lack := incompleteness(checked.meta, spec.published)):
        remedy = "get the rest, or do not compare the figures with published ones"
        problems.append(Problem(WARNING, f"{root} has {lack}", remedy))
    return checked.meta, problems + unlisted


def _listed(path: Path, root: Path, spec: DatasetSpec) -> Found:
    """Read a list of the protocol. If any of its images has a mask, anomalous ones without are noted as readers do."""
    read_about(path, spec)  # which refuses another protocol's
    found = Found(root, read_meta(path, root))
    test = [entry for group in found.meta["test"].values() for entry in group]
    if any(entry.mask_path for entry in test):
        for entry in test:
            if entry.anomaly == 1 and not entry.mask_path:
                found.note(Kind.NO_MASK, entry.img_path, entry.cls_name)
    return found


def check_unlisted(root: Path, path: Path | None, meta: Meta, *, by_patterns: bool = False) -> list[Problem]:
    """Warn of images anywhere in `root`, those of formats that are not read included, that no entry of `meta` names.

    That is what the list at `path` has, or what the layout finds, without a list. Of a list that was built by patterns,
    only images of the same formats as those in it count, as masks and depth maps lie beside them.
    """
    entries = [entry for split in meta.values() for group in split.values() for entry in group]
    listed = {name for entry in entries for name in (entry.img_path, entry.mask_path)}
    known = {Path(one.img_path).suffix.lower() for one in entries}
    suffixes = known if by_patterns else IMAGE_SUFFIXES | OTHER_SUFFIXES
    images = (file for file in visible_files(root) if file.suffix.lower() in suffixes)
    below = (file.relative_to(root) for file in images if file.is_file() and not is_result(file))
    unlisted = sorted(file.as_posix() for file in below if listed.isdisjoint(map(str, (file, file.parent))))
    what = f"images in {root} that {path or 'its layout'} does not list ({len(unlisted)}): {some_of(unlisted)}"
    return [Problem(WARNING, what, NO_PATTERN if by_patterns else NO_PLACE)] if unlisted else []


@dataclass(frozen=True)
class _Checked:
    """An entry, corrected, or None if it must be left out; what is wrong with it; and what its image is like."""

    split: str
    entry: Entry | None
    notes: list[Note]
    digest: bytes = b""
    size: str = ""
    mode: str = ""


def check(found: Found, mask_threshold: int, decode: bool = True) -> Found:
    """Leave out what cannot be read, and note everything that looks wrong.

    The root of what a reader `found` must be resolved. To `decode` is to read every image and mask whole, as only this
    finds a truncated file, and to compare the images with one another; paths are checked anyway.
    """
    listed = [(split, entry) for split in SPLITS for group in found.meta[split].values() for entry in group]
    pool = ThreadPoolExecutor()
    try:
        results = pool.map(lambda one: _check_entry(*one, found.root, mask_threshold, decode), listed)
        checked = list(tqdm(results, total=len(listed), desc="checking", unit="image", disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the images still to be read
    kept = Found(found.root, notes=[*found.notes, *(note for one in checked for note in one.notes)])
    usable = [one for one in checked if one.entry is not None]
    for one in usable:
        kept.append(one.split, one.entry)
    if decode:
        kept.notes.extend([*_same_images(usable), *_odd_ones(usable)])
    kept.notes.extend(shared_masks(one.entry for one in usable))
    return kept


def _check_entry(split: str, entry: Entry, root: Path, mask_threshold: int, decode: bool) -> _Checked:
    if problem := path_problem(entry.img_path, root):
        return _Checked(split, None, [Note(Kind.BAD_PATH, f"{entry.img_path!r} {problem}", entry.cls_name)])
    notes: list[Note] = []
    if problem := path_problem(entry.mask_path, root):
        notes.append(Note(Kind.BAD_MASK_PATH, f"{entry.mask_path!r} {problem}", entry.cls_name))
        entry = replace(entry, mask_path="")
    if not decode:
        return _Checked(split, entry, notes)
    try:
        image, mode = load_rgb_and_mode(root / entry.img_path)
    except UserError as error:
        return _Checked(split, None, [_unread(error, Kind.MISSING, Kind.UNREADABLE, entry)])
    size = f"{image.width} x {image.height}"
    if entry.mask_path:
        try:
            notes += mask_notes(entry, root, mask_threshold)
        except UserError as error:
            notes.append(_unread(error, Kind.MISSING_MASK, Kind.UNREADABLE_MASK, entry))
            entry = replace(entry, mask_path="")
    digest = hashlib.sha256(image.tobytes() + size.encode()).digest()
    return _Checked(split, entry, notes, digest, size, mode)


def _unread(error: UserError, missing: Kind, unreadable: Kind, entry: Entry) -> Note:
    return Note(missing if isinstance(error.__cause__, FileNotFoundError) else unreadable, str(error), entry.cls_name)


def _same_images(checked: Sequence[_Checked]) -> Iterator[Note]:
    """Note images with the pixels of an earlier one, except within the training split, where it is harmless."""
    first: dict[bytes, _Checked] = {}
    for one in checked:
        known = first.setdefault(one.digest, one)
        if known is one:
            continue
        where = f"{one.entry.img_path} (= {known.entry.img_path})"
        if {known.entry.anomaly, one.entry.anomaly} == {0, 1}:
            yield Note(Kind.TWO_LABELS, where, one.entry.cls_name)
        elif known.entry.cls_name != one.entry.cls_name:
            yield Note(Kind.TWO_CLASSES, where, one.entry.cls_name)
        elif one.split == "test":
            kind = Kind.TWICE if known.split == "test" else Kind.BOTH_SPLITS
            yield Note(kind, where, one.entry.cls_name)


def _odd_ones(checked: Sequence[_Checked]) -> Iterator[Note]:
    """Note images of another size or mode than nearly all of their class."""
    classes = defaultdict(list)
    for one in checked:
        classes[one.entry.cls_name].append(one)
    for cls_name, group in classes.items():
        for kind, name in ((Kind.ODD_SIZE, "size"), (Kind.ODD_MODE, "mode")):
            usual, count = Counter(getattr(one, name) for one in group).most_common(1)[0]
            if len(group) >= FEW and count >= NEARLY_ALL * len(group):
                odd = ((one.entry.img_path, getattr(one, name)) for one in group)
                where = (f"{path} ({value}, not {usual})" for path, value in odd if value != usual)
                yield from (Note(kind, place, cls_name) for place in where)


def counts_table(meta: Meta, published: Published | None) -> str:
    """Tabulate the images of each class, split and label, above the whole test split if its size is known."""
    rows = []
    for name in dict.fromkeys([*meta["test"], *meta["train"]]):
        labels = [entry.anomaly for entry in meta["test"].get(name, [])]
        rows.append([name, len(meta["train"].get(name, [])), *(labels.count(label) for label in (0, 1, None))])
    total = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    rows.append([f"total of {len(rows)}", *total])
    if published is not None:
        rows.append([f"{published.source}, of {published.classes}", "", published.normal, published.anomalous, ""])
    return tabulate(rows, headers=["class", "train", "test normal", "test anomalous", "test unlabelled"])


def incompleteness(meta: Meta, published: Published | None) -> str | None:
    """Say which part of the test split is there; None if it is all there, or its size is not known."""
    labels = [entry.anomaly for entries in meta["test"].values() for entry in entries]
    have = Published.count(len(meta["test"]), labels)
    if published in (None, have):
        return None
    kinds = ("classes", "normal images", "anomalous images", "unlabelled images")
    counts = zip(have.counts, published.counts, kinds, strict=True)
    parts = [f"{count} of {all_} {kind}" for count, all_, kind in counts if count or all_]
    parts += [] if published.verified else [published.source]
    return f"a partial or different test split: {', '.join(parts)}"
