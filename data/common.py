"""What the builders share: listing files, pairing masks, reading CSV files, counting."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from tabulate import tabulate

from data.kinds import NO_IMAGE, NO_MASK, Kind
from datasets.meta import Entry, Meta
from datasets.registry import Published
from utils.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
OTHER_SUFFIXES = frozenset({".gif", ".heic", ".avif", ".dcm"})  # of images that are not read

_MASK_ENDING = re.compile(r"_(mask|segmentation)$", re.IGNORECASE)


@dataclass
class Found:
    """What a builder sees in a data set's folder.

    Attributes:
        train, test: entries of the two splits, in the order they are to be kept.
        problems: what is wrong -> where.
    """

    train: list[Entry] = field(default_factory=list)
    test: list[Entry] = field(default_factory=list)
    problems: dict[Kind, list[str]] = field(default_factory=lambda: defaultdict(list))

    def meta(self) -> Meta:
        """The entries grouped by class."""
        meta: Meta = {"train": {}, "test": {}}
        for split, entries in (("train", self.train), ("test", self.test)):
            for entry in entries:
                meta[split].setdefault(entry.cls_name, []).append(entry)
        return meta

    def pair(
        self,
        root: Path,
        images: Sequence[Path],
        masks: Sequence[Path],
        cls_name: str,
        specie_name: str,
        masks_expected: bool = True,
    ) -> list[Entry]:
        """Entries of anomalous images, each with the mask of its stem (`000.png` ~ `000_mask.png`).

        Args:
            root: the data set's folder.
            images, masks: what to pair.
            cls_name, specie_name: of the entries.
            masks_expected: whether an image without a mask is a problem.
        """
        by_stem: dict[str, Path] = {}
        for mask in masks:
            by_stem.setdefault(_MASK_ENDING.sub("", mask.stem), mask)
        by_stem |= {mask.stem: mask for mask in masks if mask.stem not in by_stem}
        entries = []
        for image in images:
            mask = by_stem.get(image.stem)
            if mask is None and masks_expected:
                self.problems[NO_MASK].append(relative(image, root))
            mask_path = "" if mask is None else relative(mask, root)
            entries.append(Entry(relative(image, root), mask_path, cls_name, specie_name, 1))
        used = {entry.mask_path for entry in entries}
        unused = [path for path in (relative(mask, root) for mask in masks) if path not in used]
        if unused:
            self.problems[NO_IMAGE].extend(unused)
        return entries


def plain_entries(root: Path, images: Iterable[Path], cls_name: str, specie: str, anomaly: int | None) -> list[Entry]:
    """Entries of images that have no masks."""
    return [Entry(relative(image, root), "", cls_name, specie, anomaly) for image in images]


def relative(path: Path, root: Path) -> str:
    """`path` relative to the data set's folder, with `/`."""
    return path.relative_to(root).as_posix()


def natural_key(path: Path) -> list[int | str]:
    """A key that sorts `2.png` before `10.png`."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


def list_images(folder: Path) -> list[Path]:
    """The images directly in `folder`, in natural order; none if there is no such folder."""
    return [path for path in _visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def list_folders(folder: Path) -> list[Path]:
    """The folders directly in `folder`, in natural order; none if there is no such folder."""
    return [path for path in _visible(folder) if path.is_dir()]


def subfolder(folder: Path, name: str) -> Path:
    """The folder `name` in `folder`, whichever case it is written in; `folder / name` if there is none."""
    same = (path for path in list_folders(folder) if path.name.lower() == name.lower())
    return min(same, key=lambda path: path.name != name, default=folder / name)


def _visible(folder: Path) -> list[Path]:
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror}") from error
    return sorted(paths, key=lambda path: (natural_key(path), path.name))


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The wanted columns of a CSV file with a header, row by row; space around names and values is dropped.

    Yields:
        the line's number in the file, and its values in the order of `columns`.

    Raises:
        UserError: the file cannot be read, or lacks a column, or a line lacks a value.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if missing := [name for name in columns if name not in header]:
                raise UserError(f"{path} has no column '{missing[0]}'; it needs {', '.join(columns)}")
            places = [header.index(name) for name in columns]
            for row in filter(None, reader):
                if len(row) <= max(places):
                    raise UserError(f"{path}, line {reader.line_num}: too few values")
                yield reader.line_num, [row[place].strip() for place in places]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def unlisted_images(root: Path, meta: Meta) -> list[str]:
    """Images anywhere in `root` that are neither an image nor a mask of an entry, those of other formats included."""
    entries = [entry for split in meta.values() for group in split.values() for entry in group]
    listed = {path for entry in entries for path in (entry.img_path, entry.mask_path)}
    found = (path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES | OTHER_SUFFIXES)
    return sorted({relative(path, root) for path in found if path.is_file()} - listed)


def counts_table(meta: Meta, published: Published | None) -> str:
    """A table of the images of each class, split and label, above the published test split if there is one."""
    rows = []
    for name in dict.fromkeys([*meta["test"], *meta["train"]]):
        labels = [entry.anomaly for entry in meta["test"].get(name, [])]
        rows.append([name, len(meta["train"].get(name, [])), *(labels.count(label) for label in (0, 1, None))])
    total = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    rows.append([f"total of {len(rows)}", *total])
    if published is not None:
        rows.append([f"published, of {published.classes}", "", published.normal, published.anomalous, ""])
    return tabulate(rows, headers=["class", "train", "test normal", "test anomalous", "test unlabelled"])


def is_complete(meta: Meta, published: Published | None) -> bool:
    """Whether the test split has as many classes and images as published; true where nothing was published."""
    return published is None or _counts(meta) == astuple(published)


def _counts(meta: Meta) -> tuple[int, int, int]:
    """Classes, normal and anomalous images of the test split, as `Published` has them."""
    labels = [entry.anomaly for entries in meta["test"].values() for entry in entries]
    return len(meta["test"]), labels.count(0), labels.count(1)


def completeness(meta: Meta, published: Published | None) -> str:
    """How much of the published test split is there, in a sentence."""
    there = _counts(meta)
    if published is None:
        return f"test images: {sum(map(len, meta['test'].values()))}, classes: {there[0]}"
    complete = astuple(published)
    if is_complete(meta, published):
        return "the test split is complete, as published"
    kinds = ("classes", "normal images", "anomalous images")
    counts = zip(there, complete, kinds, strict=True)
    parts = [f"{have} of {all_} {kind}" for have, all_, kind in counts if have or all_]
    return f"a partial or different test split: {', '.join(parts)}"
