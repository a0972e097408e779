"""What a data set consists of: `meta.json`, or the JSON lines of DP-CLIP's release, as one type."""

import json
import logging
import math
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from utils.errors import UserError
from utils.files import write_json, write_text

logger = logging.getLogger(__name__)

SPLITS = ("train", "test")
SHOWN = 100  # characters of a name that a message takes over whole


@dataclass(frozen=True, slots=True)  # as there are as many as images
class Entry:
    """One image of a data set.

    Attributes:
        img_path: the image, relative to the data set's folder, with `/`.
        mask_path: its mask, likewise; "" where there is none.
        cls_name: the class it is evaluated with.
        specie_name: kind of anomaly, or "good".
        anomaly: 0 normal, 1 anomalous, `None` unlabelled.
    """

    img_path: str
    mask_path: str
    cls_name: str
    specie_name: str
    anomaly: int | None


Meta = dict[str, dict[str, list[Entry]]]  # split -> class -> entries, both splits always there


def read_meta(path: str | Path, root: str | Path) -> Meta:
    """Read a `meta.json`, or a `.jsonl` file in DP-CLIP's form, whose entries all belong to the test split.

    Args:
        path: the file.
        root: the data set's folder, which no entry's path may leave; whether files exist is not looked at.

    Raises:
        UserError: the file cannot be read, or is not what its form demands; file and entry are named.
    """
    path, root = Path(path), Path(root)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UserError(f"cannot read {path}: {reason}") from error
    lines = is_json_lines(path)
    checker = _Checker(path, root.resolve(), _LINE_KEYS if lines else _META_KEYS)
    meta: Meta = {split: {} for split in SPLITS}
    for split, entry in _line_entries(text, checker) if lines else _meta_entries(text, checker):
        meta[split].setdefault(entry.cls_name, []).append(entry)
    if not meta["test"]:
        raise UserError(f"{path} has no test images: build it anew, or correct it")
    if checker.unknown:
        logger.warning("%s: ignored the unknown %s", path, "; ".join(checker.unknown.values()))
    return meta


def write_meta(path: str | Path, meta: Mapping[str, Mapping[str, Collection[Entry]]]) -> None:
    """Write `meta.json`, atomically; or, to a `.jsonl` file, the test split in DP-CLIP's form.

    That form has neither a training split nor the kind of an anomaly.

    Raises:
        UserError: the file cannot be written.
    """
    if is_json_lines(path):
        entries = (entry for group in meta.get("test", {}).values() for entry in group)
        write_text(path, "".join(_line(entry) + "\n" for entry in entries))
        return
    splits = {
        split: {name: [asdict(entry) for entry in entries] for name, entries in meta.get(split, {}).items()}
        for split in SPLITS
    }
    write_json(path, splits)


def is_json_lines(path: str | Path) -> bool:
    """Whether a file is in DP-CLIP's form, as its name says."""
    return Path(path).suffix.lower() == ".jsonl"


def path_problem(path: str, root: Path) -> str | None:
    """What forbids `path` as a path of an entry, `None` if nothing does.

    Args:
        path: relative to `root`, with `/`.
        root: the data set's folder, resolved; a symlink inside that leads out of it is refused too.
    """
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


def _shown(text: str) -> str:
    """A text as a message shows it: in quotes, on one line, and not longer than it must be."""
    return repr(text) if len(text) <= SHOWN else reprlib.repr(text)


@dataclass(frozen=True)
class _Keys:
    """What a file calls the fields of `Entry`, and which of them it may leave out."""

    names: Mapping[str, str]
    optional: frozenset[str] = frozenset()


_META_KEYS = _Keys({name: name for name in Entry.__dataclass_fields__})
_LINE_KEYS = _Keys(
    {"img_path": "image_path", "mask_path": "mask_path", "cls_name": "class_name", "anomaly": "label"},
    optional=frozenset({"mask_path", "anomaly"}),
)


def _line(entry: Entry) -> str:
    """An entry in DP-CLIP's form: labels as floats, no mask path for an image without a mask."""
    values: dict[str, Any] = {"image_path": entry.img_path}
    if entry.anomaly is not None:
        values["label"] = float(entry.anomaly)
    values["class_name"] = entry.cls_name
    if entry.mask_path:
        values["mask_path"] = entry.mask_path
    return json.dumps(values, ensure_ascii=False)


@dataclass
class _Checker:
    """Turns what JSON gives into entries, or says what is wrong with it; the same for both forms."""

    path: Path
    root: Path
    keys: _Keys
    unknown: dict[str, str] = field(default_factory=dict)  # key -> what to say of it, once a file
    seen: dict[tuple[str, str], str] = field(default_factory=dict)  # (split, image) -> where it was

    def fail(self, where: str, what: str) -> UserError:
        place = ", ".join(filter(None, (str(self.path), where)))
        return UserError(f"{place}: {what}")

    def parse(self, text: str, where: str) -> Any:
        """JSON to objects; a key given twice is refused, since one of the two would be lost."""

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            names = [name for name, _ in pairs]
            if len(names) != len(set(names)):
                twice = next(name for name in names if names.count(name) > 1)
                raise self.fail(where, f"the key {reprlib.repr(twice)} is there twice")
            return dict(pairs)

        try:
            return json.loads(text, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            raise self.fail(where, f"not valid JSON ({error})") from error

    def note_unknown(self, keys: Collection[str], known: Collection[str], where: str) -> None:
        for key in keys:
            if key not in known and key not in self.unknown:
                self.unknown[key] = f"key {reprlib.repr(key)}" + (f" ({where})" if where else "")

    def entry(self, raw: Any, split: str, where: str) -> Entry:
        if not isinstance(raw, dict):
            raise self.fail(where, f"expected an object, found {reprlib.repr(raw)}")
        self.note_unknown(raw, self.keys.names.values(), where)
        values: dict[str, Any] = {}
        for name, key in self.keys.names.items():
            if key not in raw and name not in self.keys.optional:
                raise self.fail(where, f"the key '{key}' is missing")
            values[name] = raw.get(key)
        if values["mask_path"] is None and "mask_path" in self.keys.optional:
            values["mask_path"] = ""
        for name in ("img_path", "mask_path"):
            self._check_path(values[name], name, where)
        values.setdefault("specie_name", PurePosixPath(values["img_path"]).parent.name)
        for name in ("cls_name", "specie_name"):
            if not isinstance(values[name], str):
                raise self.fail(where, f"'{self._key(name)}' must be a string, not {reprlib.repr(values[name])}")
        self._check_class(values["cls_name"], where)
        values["anomaly"] = self._label(values["anomaly"], where)
        entry = Entry(**values)
        first = self.seen.setdefault((split, entry.img_path), where)
        if first != where:
            raise self.fail(where, f"the image {_shown(entry.img_path)} is listed already as {first}")
        return entry

    def _key(self, name: str) -> str:
        return self.keys.names.get(name, name)

    def _check_path(self, value: Any, name: str, where: str) -> None:
        if not isinstance(value, str) or (name == "img_path" and not value):
            raise self.fail(where, f"'{self._key(name)}' must be a path, not {reprlib.repr(value)}")
        if problem := path_problem(value, self.root):
            raise self.fail(where, f"the path {reprlib.repr(value)} {problem}")

    def _check_class(self, name: str, where: str) -> None:
        """Results are written to files called after the class, so it must be usable as a file's name."""
        if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\ud800-\udfff]", name):
            raise self.fail(where, f"{reprlib.repr(name)} cannot be the name of a class")

    def _label(self, value: Any, where: str) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value not in (0, 1):
            said = "NaN" if isinstance(value, float) and math.isnan(value) else reprlib.repr(value)
            raise self.fail(where, f"'{self._key('anomaly')}' must be 0, 1 or null, not {said}")
        return int(value)


def _meta_entries(text: str, checker: _Checker) -> Iterator[tuple[str, Entry]]:
    raw = checker.parse(text, "")
    if not isinstance(raw, dict):
        raise checker.fail("", "expected an object with the keys 'train' and 'test'")
    checker.note_unknown(raw, SPLITS, "")
    for split in SPLITS:
        if split not in raw:
            raise checker.fail("", f"the key '{split}' is missing")
        if not isinstance(raw[split], dict):
            raise checker.fail(split, "expected an object with a list of entries for each class")
        for name, entries in raw[split].items():
            short = name.isprintable() and len(name) <= SHOWN
            place = f"{split}/{name if short else reprlib.repr(name)}"
            if not isinstance(entries, list):
                raise checker.fail(place, "expected a list of entries")
            if not entries and split == "test":
                raise checker.fail(place, "the class has no images; leave it out")
            for number, value in enumerate(entries, 1):
                entry = checker.entry(value, split, f"{place} entry {number}")
                if entry.cls_name != name:
                    said = reprlib.repr(entry.cls_name)
                    raise checker.fail(f"{place} entry {number}", f"'cls_name' is {said}, not its class")
                yield split, entry


def _line_entries(text: str, checker: _Checker) -> Iterator[tuple[str, Entry]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"line {number}"
            yield "test", checker.entry(checker.parse(line, where), "test", where)
