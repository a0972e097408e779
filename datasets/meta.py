"""What a data set consists of: `meta.json`, or the JSON lines of DP-CLIP's release, as one type; and where it lies."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationInfo, with_config
from typing_extensions import NotRequired, TypedDict

from datasets.registry import PROJECT, DatasetSpec
from utils.errors import UserError, some_of
from utils.files import write_json, write_text
from utils.json_files import brief, brief_name, parse_json, read_json, read_text

logger = logging.getLogger(__name__)

SPLITS = ("train", "test")


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


def _with_usable_threshold(options: Mapping[str, str | int]) -> Mapping[str, str | int]:
    threshold = options.get("mask_threshold", 0)
    if not (isinstance(threshold, int) and 0 <= threshold < 255):
        raise ValueError(f"mask_threshold must be a whole number from 0 to 254, not {brief(threshold)}")
    return options


BuiltWith = Annotated[Mapping[str, str | int], AfterValidator(_with_usable_threshold)]
Phrases = Mapping[str, Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]]


@dataclass(frozen=True)
class About:
    """What a meta.json says of its list, in further keys that other readers pass over; None or empty: nothing."""

    findings: list[Finding] | None = None  # what was wrong when it was built
    options: BuiltWith = field(default_factory=dict)  # of the reader, that it was built with
    phrases: Phrases = field(default_factory=dict)  # what classes are called in prompts
    protocol: str | None = None  # of the data set

    @property
    def by_patterns(self) -> bool:
        """Whether it was built by patterns."""
        return not {"normal", "anomalous"}.isdisjoint(self.options)


Meta = dict[str, dict[str, list[Entry]]]  # split -> class -> entries, both splits always there
FIELDS = [field.name for field in fields(Entry)]
ABOUT = [field.name for field in fields(About)]
_LINE_KEYS = {"img_path": "image_path", "anomaly": "label", "cls_name": "class_name", "mask_path": "mask_path"}


def find_meta(root: Path, name: str) -> Path | None:
    """Find the list of this name in a data set's folder, or the one kept for it in the project's cache."""
    return next((path for path in (root / name, _cached(root, name)) if path.is_file()), None)


def meta_path(root: Path, name: str) -> Path:
    """Choose where to write a data set's list: its folder, or the project's cache if that is read-only."""
    # The bits are looked at as well, since for root, who could write, they say what is wanted.
    if os.access(root, os.W_OK) and root.stat().st_mode & 0o222:
        return root / name
    logger.info("%s is read-only: its %s is kept in the project's cache", root, name)
    return _cached(root, name)


def _cached(root: Path, name: str) -> Path:
    folder = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return PROJECT / ".cache" / "meta" / folder / name


def is_json_lines(path: str | Path) -> bool:
    """Tell by its name whether a file is in DP-CLIP's form."""
    return Path(path).suffix.lower() == ".jsonl"


def write_meta(
    path: str | Path, meta: Mapping[str, Mapping[str, Collection[Entry]]], about: About | None = None
) -> None:
    """Write `meta.json`, atomically; or, to a `.jsonl` file, the test split in DP-CLIP's form.

    That form has neither a training split nor the kind of an anomaly, nor anything on the list.
    """
    if is_json_lines(path):
        entries = (entry for group in meta.get("test", {}).values() for entry in group)
        write_text(path, "".join(f"{json.dumps(_line(entry), ensure_ascii=False)}\n" for entry in entries))
        return
    splits = {split: meta.get(split, {}).items() for split in SPLITS}
    content = {split: {name: [*map(asdict, entries)] for name, entries in splits[split]} for split in splits}
    said = {name: value for name, value in vars(about or About()).items() if value not in (None, {})}
    if "findings" in said:
        said["findings"] = [finding._asdict() for finding in about.findings]
    write_json(path, content | said)


def _line(entry: Entry) -> dict[str, Any]:
    """Write an entry in DP-CLIP's form: labels as floats, and nothing where there is no label or no mask."""
    values = {key: getattr(entry, name) for name, key in _LINE_KEYS.items()}
    values["label"] = None if entry.anomaly is None else float(entry.anomaly)
    return {key: value for key, value in values.items() if value not in (None, "")}


def path_problem(path: str, root: Path) -> str | None:
    """Say what forbids `path`, relative to the resolved `root`, as a path of an entry; None if nothing does."""
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


def _inside(path: str, info: ValidationInfo) -> str:
    if problem := path_problem(path, info.context):
        raise ValueError(f"the path {brief(path)} {problem}")
    return PurePosixPath(path).as_posix() if path else ""  # a//b and ./a/b are a/b


def _usable_name(name: str) -> str:
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", name):  # as results are written to files called so
        raise ValueError(f"{brief(name)} cannot be the name of a class")
    return name


def _known_label(label: float | None) -> int | None:
    if label not in (0, 1, None):
        raise ValueError(f"must be 0, 1 or null, not {label}")
    return None if label is None else int(label)


_Image = Annotated[str, MinLen(1), AfterValidator(_inside)]
_Mask = Annotated[str, AfterValidator(_inside)]
_Name = Annotated[str, AfterValidator(_usable_name)]
_Label = Annotated[float | None, AfterValidator(_known_label)]


@with_config({"extra": "allow"})
class _Entry(TypedDict):
    """An `Entry` in meta.json, whose label may be called as in the other form."""

    img_path: _Image
    mask_path: _Mask
    cls_name: _Name
    specie_name: str
    anomaly: _Label


def _one_label(name: str) -> BeforeValidator:
    """Call an entry's label `name`, which the other form calls otherwise; two that differ are refused."""
    other = {"anomaly": "label", "label": "anomaly"}[name]

    def renamed(entry: Any) -> Any:
        if not isinstance(entry, dict) or other not in entry:
            return entry
        if name in entry and entry[name] != entry[other]:
            raise ValueError(f"{name} is {brief(entry[name])}, and {other} is {brief(entry[other])}")
        return {name: entry[other], **{key: value for key, value in entry.items() if key != other}}

    return BeforeValidator(renamed)


_Labelled = Annotated[_Entry, _one_label("anomaly")]


@with_config({"extra": "allow"})
class _Splits(TypedDict):
    train: dict[str, list[_Labelled]]
    test: dict[str, list[_Labelled]]


@with_config({"extra": "allow"})
class _Line(TypedDict):
    """An `Entry` in DP-CLIP's form."""

    image_path: _Image
    class_name: _Name
    label: NotRequired[_Label]
    mask_path: NotRequired[_Mask | None]


_LabelledLine = Annotated[_Line, _one_label("label")]


def read_meta(path: str | Path, root: str | Path) -> Meta:
    """Read a `meta.json`, or a `.jsonl` file in DP-CLIP's form, whose entries all belong to the test split.

    No entry's path may leave the data set's folder `root`; whether files exist is not looked at. A `UserError` names
    the file, entry and key that are not as the form demands.
    """
    path, root = Path(path), Path(root).resolve()
    meta: Meta = {split: {} for split in SPLITS}
    first: dict[tuple[str, str], str] = {}  # (split, image) -> where it is listed first
    unknown: dict[str, str] = {}  # key -> where it is first, "" at the top
    for split, class_name, where, raw in (_read_lines if is_json_lines(path) else _read_splits)(path, root, unknown):
        entry = Entry(**{name: raw[name] for name in FIELDS})
        if class_name not in (None, entry.cls_name):
            raise UserError(f"{path}, {where}/cls_name: {brief(entry.cls_name)} is not its class")
        listed = first.setdefault((split, entry.img_path), where)
        if listed != where:
            raise UserError(f"{path}, {where}: the image {brief(entry.img_path)} is listed already as {listed}")
        meta[split].setdefault(entry.cls_name, []).append(entry)
        for key in raw:
            if key not in FIELDS:
                unknown.setdefault(key, f" ({where})")
    if not meta["test"]:
        raise UserError(f"{path} has no test images: build it again, or correct it")
    if unknown:
        said = [f"key {brief(key)}{where}" for key, where in unknown.items()]
        logger.warning("%s: ignored the unknown %s", path, some_of(said))
    return meta


def read_about(path: Path, spec: DatasetSpec | None = None) -> About:
    """Read what a list says of itself, JSON lines and old lists nothing; refuse one of another protocol than `spec`."""
    about = About() if is_json_lines(path) else read_json(path, About)
    if spec is not None and about.protocol not in (None, spec.protocol):
        raise UserError(f"{path} lists the protocol {about.protocol}, not {spec.protocol}: choose that with --protocol")
    return about


def read_phrases(path: Path, classes: Collection[str] | None = None) -> Mapping[str, str]:
    """Read what the prompts are to call classes, each of which must be one of `classes` if these are given."""
    phrases = read_json(path, Phrases, "--phrases")
    if classes is not None and (strangers := [name for name in phrases if name not in classes]):
        raise UserError(f"--phrases {path} has {brief(strangers[0])}, and the classes are {', '.join(classes)}")
    return phrases


# What a file in one of the two forms holds: split, class (None where the entry alone says it), place and entry.
_Raw = Iterator[tuple[str, str | None, str, Mapping[str, Any]]]


def _read_splits(path: Path, root: Path, unknown: dict[str, str]) -> _Raw:
    content = parse_json(read_text(path, str(path)), _Splits, str(path), root)
    unknown.update((key, "") for key in content if key not in (*SPLITS, *ABOUT))
    for split in SPLITS:
        for name, entries in content[split].items():
            where = f"{split}/{brief_name(name)}"
            if not entries and split == "test":
                raise UserError(f"{path}, {where}: the class has no images; leave it out")
            for number, entry in enumerate(entries, 1):
                yield split, name, f"{where} entry {number}", entry


def _read_lines(path: Path, root: Path, unknown: dict[str, str]) -> _Raw:
    for number, line in enumerate(read_text(path, str(path)).split("\n"), 1):
        if line.strip():
            raw = parse_json(line, _LabelledLine, f"{path}, line {number}", root)
            entry = {name: raw.pop(key, None) for name, key in _LINE_KEYS.items()}
            entry |= {
                "mask_path": entry["mask_path"] or "",
                "specie_name": PurePosixPath(entry["img_path"]).parent.name,
            }
            yield "test", None, f"line {number}", {**raw, **entry}
