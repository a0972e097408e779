"""What a data set consists of: `meta.json`, or the JSON lines of DP-CLIP's release, as one type; and where it lies."""

import hashlib
import json
import logging
import os
import re
import reprlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datasets.registry import PROJECT
from utils.errors import UserError
from utils.files import write_json, write_text

logger = logging.getLogger(__name__)

SPLITS = ("train", "test")
FINDINGS = "findings"  # a further key of meta.json, which other readers pass over
SHOWN = 100  # characters of a name that a message takes over whole


@dataclass(frozen=True, slots=True)  # as there are as many as images
class Entry:
    """One image of a data set."""

    img_path: str  # the image, relative to the data set's folder, with `/`
    mask_path: str  # its mask, likewise; "" where there is none
    cls_name: str  # the class it is evaluated with
    specie_name: str  # kind of anomaly, or "good"
    anomaly: int | None  # 0 normal, 1 anomalous, None unlabelled


class Finding(NamedTuple):
    """What was wrong when a list was built."""

    what: str  # in the plural, as in "empty masks of anomalous images"
    where: str
    cls_name: str  # "" where it is not one class's


Meta = dict[str, dict[str, list[Entry]]]  # split -> class -> entries, both splits always there
_META_KEYS = {field.name: field.name for field in fields(Entry)}  # what a file calls the fields of `Entry`
_LINE_KEYS = {"img_path": "image_path", "anomaly": "label", "cls_name": "class_name", "mask_path": "mask_path"}


def find_meta(root: Path) -> Path | None:
    """Find the `meta.json` of a data set's folder, or the one kept for it in the project's cache."""
    return next((path for path in (root / "meta.json", _cached(root, "meta.json")) if path.is_file()), None)


def meta_path(root: Path, name: str = "meta.json") -> Path:
    """Where to write a list of a data set's images: its folder, or the project's cache if that is read-only."""
    # The bits are looked at as well, since for root, who could write, they say what is wanted.
    if os.access(root, os.W_OK) and root.stat().st_mode & 0o222:
        return root / name
    logger.info("%s is read-only: its %s is kept in the project's cache", root, name)
    return _cached(root, name)


def _cached(root: Path, name: str) -> Path:
    folder = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return PROJECT / ".cache" / "meta" / folder / name


def is_json_lines(path: str | Path) -> bool:
    """Whether a file is in DP-CLIP's form, as its name says."""
    return Path(path).suffix.lower() == ".jsonl"


def write_meta(
    path: str | Path,
    meta: Mapping[str, Mapping[str, Collection[Entry]]],
    findings: Collection[Finding] | None = None,  # None where nothing was looked at
) -> None:
    """Write `meta.json`, atomically; or, to a `.jsonl` file, the test split in DP-CLIP's form.

    That form has neither a training split nor the kind of an anomaly, nor findings.
    """
    if is_json_lines(path):
        entries = (entry for group in meta.get("test", {}).values() for entry in group)
        write_text(path, "".join(f"{json.dumps(_line(entry), ensure_ascii=False)}\n" for entry in entries))
        return
    splits = {split: meta.get(split, {}).items() for split in SPLITS}
    content = {split: {name: [*map(asdict, entries)] for name, entries in splits[split]} for split in splits}
    found = {} if findings is None else {FINDINGS: [finding._asdict() for finding in findings]}
    write_json(path, content | found)


def _line(entry: Entry) -> dict[str, Any]:
    """An entry in DP-CLIP's form: labels as floats, and nothing where there is no label or no mask."""
    values = {key: getattr(entry, name) for name, key in _LINE_KEYS.items()}
    values["label"] = None if entry.anomaly is None else float(entry.anomaly)
    return {key: value for key, value in values.items() if value not in (None, "")}


def path_problem(path: str, root: Path) -> str | None:
    """What forbids `path`, relative to the resolved folder `root`, as a path of an entry; None if nothing does."""
    if "\\" in path:
        return "has a backslash; write '/'"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "is absolute; write it relative to the data set's folder"
    if ".." in PurePosixPath(path).parts:
        return "has '..' in it, and may lead out of the data set's folder"
    try:
        path.encode("utf-8")
        inside = (root / path).resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # a loop of symlinks, a NUL, a name not in UTF-8
        return "is not a usable path"
    return None if inside else "leads out of the data set's folder through a symlink"


def read_meta(path: str | Path, root: str | Path) -> Meta:
    """Read a `meta.json`, or a `.jsonl` file in DP-CLIP's form, whose entries all belong to the test split.

    No entry's path may leave the data set's folder `root`; whether files exist is not looked at. A `UserError` names
    the file, entry and key that are not as the form demands.
    """
    path, root = Path(path), Path(root).resolve()
    text = _read_text(path)
    read, keys = (_read_lines, _LINE_KEYS) if is_json_lines(path) else (_read_splits, _META_KEYS)
    meta: Meta = {split: {} for split in SPLITS}
    first: dict[tuple[str, str], str] = {}  # (split, image) -> where it is listed first
    unknown: dict[str, str] = {}  # key -> where it is first, "" at the top
    for split, class_name, where, raw in read(path, text, unknown):
        try:
            entry = _entry(raw, keys, root)
            if class_name not in (None, entry.cls_name):
                raise ValueError(f"'cls_name' is {_shown(entry.cls_name)}, not its class")
            listed = first.setdefault((split, entry.img_path), where)
            if listed != where:
                raise ValueError(f"the image {_shown(entry.img_path)} is listed already as {listed}")
        except ValueError as error:
            raise UserError(f"{path}, {where}: {error}") from error
        meta[split].setdefault(entry.cls_name, []).append(entry)
        for key in raw:
            if key not in keys.values():
                unknown.setdefault(key, f" ({where})")
    if not meta["test"]:
        raise UserError(f"{path} has no test images: build it anew, or correct it")
    if unknown:
        said = (f"key {_shown(key)}{where}" for key, where in unknown.items())
        logger.warning("%s: ignored the unknown %s", path, "; ".join(said))
    return meta


def read_findings(path: Path) -> list[Finding] | None:
    """Read what was found wrong when a list was built; None where it does not say, as JSON lines and old lists."""
    raw = None if is_json_lines(path) else _parse(_read_text(path), str(path)).get(FINDINGS)
    try:
        found = raw and [Finding(**one) for one in raw]
        if found and not all(isinstance(part, str) for one in found for part in one):
            raise TypeError
    except TypeError as error:
        raise UserError(f"{path}: '{FINDINGS}' is not what a builder writes; build the list anew") from error
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', 'it is not UTF-8 text')}") from error


# What a file in one of the two forms holds: split, class (None where the entry alone says it), place and raw entry.
_Raw = Iterator[tuple[str, str | None, str, Any]]


def _read_splits(path: Path, text: str, unknown: dict[str, str]) -> _Raw:
    raw = _parse(text, str(path))
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected an object with the keys 'train' and 'test'")
    unknown.update((key, "") for key in raw if key not in (*SPLITS, FINDINGS))
    for split in SPLITS:
        if split not in raw:
            raise UserError(f"{path}: the key '{split}' is missing")
        if not isinstance(raw[split], dict):
            raise UserError(f"{path}, {split}: expected an object with a list of entries for each class")
        for name, entries in raw[split].items():
            where = f"{split}/{name if name.isprintable() and len(name) <= SHOWN else reprlib.repr(name)}"
            if not isinstance(entries, list):
                raise UserError(f"{path}, {where}: expected a list of entries")
            if not entries and split == "test":
                raise UserError(f"{path}, {where}: the class has no images; leave it out")
            for number, entry in enumerate(entries, 1):
                yield split, name, f"{where} entry {number}", entry


def _read_lines(path: Path, text: str, unknown: dict[str, str]) -> _Raw:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            entry = _parse(line, f"{path}, line {number}")
            if isinstance(entry, dict):
                entry = {"label": None, **entry}
                if entry.get("mask_path") is None:
                    entry["mask_path"] = ""
            yield "test", None, f"line {number}", entry


def _parse(text: str, place: str) -> Any:
    """JSON to objects; a key given twice is refused, since one of the two would be lost."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise UserError(f"{place}: the key {_shown(twice)} is there twice")
        return values

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not valid JSON ({error})") from error


def _entry(raw: Any, keys: Mapping[str, str], root: Path) -> Entry:
    """An entry from what JSON gives, its fields called as `keys` says; a `ValueError` says what is wrong with it."""
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, found {_shown(raw)}")
    values = {}
    for name, key in keys.items():
        if key not in raw:
            raise ValueError(f"the key '{key}' is missing")
        value = values[name] = raw[key]
        if name == "anomaly":
            if isinstance(value, bool) or value not in (0, 1, None):
                said = "NaN" if value != value else _shown(value)
                raise ValueError(f"'{key}' must be 0, 1 or null, not {said}")
            values[name] = None if value is None else int(value)
            continue
        is_path = name in ("img_path", "mask_path")
        if not isinstance(value, str) or (name == "img_path" and not value):
            raise ValueError(f"'{key}' must be a {'path' if is_path else 'string'}, not {_shown(value)}")
        if is_path and (problem := path_problem(value, root)):
            raise ValueError(f"the path {_shown(value)} {problem}")
        if is_path and value:
            values[name] = PurePosixPath(value).as_posix()  # a//b and ./a/b are a/b
        # Results are written to files called after the class, so it must be usable as a file's name.
        if name == "cls_name" and (value in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\ud800-\udfff]", value)):
            raise ValueError(f"{_shown(value)} cannot be the name of a class")
    values.setdefault("specie_name", PurePosixPath(values["img_path"]).parent.name)
    return Entry(**values)


def _shown(value: Any) -> str:
    """A value as a message shows it: on one line, a text in quotes and not longer than it must be."""
    return repr(value) if isinstance(value, str) and len(value) <= SHOWN else reprlib.repr(value)
