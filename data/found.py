"""What a reader of a layout works with: files in natural order, CSV tables, and what it has found, or found wrong."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from datasets.image_files import IMAGE_SUFFIXES, is_result
from datasets.meta import Entry, Meta
from utils.errors import ERROR, WARNING, Level, UserError, some_of
from utils.files import is_hidden, nfc, open_regular, unquoted

_RESTORE = "restore the files, or take them off the list (a meta.json that is deleted is built again)"
_REPLACE = "get the files again, or take them off the list"
_RENAME = "give the files plain names inside the data set's folder"
_LABEL = "find out which is right, and correct the label or the mask"
_BOTH_SPLITS = "train on nothing that you test on, or remove one of the two"
_PLAIN = "draw them again as PNG, black and white, without alpha"
_TURNED = "turn the masks as well if they were drawn on the pixels as stored, or save the images upright"
_SHARED = "give each image its own, with the image's whole name: 000.png.png"
_ABSENT = "get the rest of the data set, or see to it that the part is the one you want"
_ODD_MODE = "images of another colour mode than nearly all of their class"
NAMES = ("class_name", "image", "image_path", "mask")  # columns of names of files and classes
K = TypeVar("K", bound=Hashable)
MASK_ENDING = re.compile(r"_(mask|segmentation|label|gt)$", re.IGNORECASE)


class Kind(Enum):
    """A kind of thing that can be wrong with a data set."""

    MISSING = ("images listed but missing", _RESTORE, ERROR, True)
    UNREADABLE = ("unreadable images", _REPLACE, ERROR, True)
    BAD_PATH = ("images with a path that is refused", _RENAME, ERROR, True)
    MISSING_MASK = ("masks listed but missing", _RESTORE, ERROR, True)
    UNREADABLE_MASK = ("unreadable masks", _REPLACE, ERROR, True)
    BAD_MASK_PATH = ("masks with a path that is refused", _RENAME, ERROR, True)

    ABSENT = ("images listed but absent", _ABSENT, WARNING, True)
    OTHER_FORMAT = ("images of formats that are not read", "save them as PNG; .heic needs pillow-heif", WARNING, True)
    NO_LABEL = ("images without a label", "add it, in labels.csv or as a mask", WARNING, True)
    NO_MASK = ("anomalous images without a mask", "add the masks, or pixels are measured without them")
    NO_IMAGE = ("masks without an image", "add the images, or name the masks as their images")
    OTHER_SIZE = ("masks of another size than their image", "see whether they are these images' masks, or are cropped")
    EMPTY_MASK = ("empty masks of anomalous images", _LABEL)
    NORMAL_WITH_MASK = ("normal images whose mask is not empty", _LABEL)
    COVERING_MASK = ("masks that cover nearly the whole image or its edges", "see whether black and white are swapped")
    GREY_MASK = ("masks with soft edges or noise, whose greys count as anomalous", _PLAIN)
    ALPHA_MASK = ("masks whose alpha channel, which is not used, holds another region than their colours", _PLAIN)
    TURNED = ("images that EXIF turns without their masks", _TURNED)
    SHARED_MASK = ("masks of two images or more", _SHARED)
    BOTH_SPLITS = ("test images that are training images too", _BOTH_SPLITS)
    TWO_LABELS = ("images that are there as normal and as anomalous", "find out which is right")
    TWO_CLASSES = ("images that are there in two classes", "remove them from the class they do not belong to")
    TWICE = ("test images that are there twice", "remove one of the two, as they count twice")
    ODD_SIZE = ("images of another size than nearly all of their class", "see whether they belong there")
    ODD_MODE = (_ODD_MODE, "see whether they look as the others do")

    def __init__(self, text: str, remedy: str, level: Level = WARNING, left_out: bool = False) -> None:
        self.text = text  # what is concerned, in the plural
        self.remedy = remedy  # what to do
        self.level = level
        self.left_out = left_out  # whether what is concerned is left out of the list that is built


class Note(NamedTuple):
    """One thing that is wrong."""

    kind: Kind
    where: str
    cls_name: str  # "" where it is not one class's


def grouped(notes: Iterable[tuple[K, str, str]]) -> list[tuple[K, str]]:
    """Group the notes by kind of problem: how many there are, and the first few places."""
    where = defaultdict(list)
    for kind, place, _ in notes:
        where[kind].append(place)
    return [(kind, f"({len(places)}): {some_of(places)}") for kind, places in where.items()]


@dataclass(frozen=True)
class Found:
    """What a reader finds in a data set's folder `root`, or a list of its images has, in the order it is to be kept."""

    root: Path
    meta: Meta = field(default_factory=lambda: {"train": {}, "test": {}})
    notes: list[Note] = field(default_factory=list)

    def count(self, split: Literal["train", "test"]) -> int:
        """Count the images of a split."""
        return sum(map(len, self.meta[split].values()))

    def append(self, split: str, entry: Entry) -> None:
        """Append an entry to its class."""
        self.meta[split].setdefault(entry.cls_name, []).append(entry)

    def add(
        self, split: Literal["train", "test"], images: Sequence[Path], cls_name: str, specie: str, anomaly: int | None
    ) -> None:
        """Append entries of images that have no masks."""
        for image in images:
            self.append(split, Entry(self.path(image), "", cls_name, specie, anomaly))

    def add_masked(
        self, images: Sequence[Path], masks: Sequence[Path], cls_name: str, specie: str, *, masks_expected: bool = True
    ) -> None:
        """Append entries of anomalous test images, each with its mask, a file or a folder of several.

        That is the mask called after the whole image (`000.png`, `000.png.png`), or else after its stem
        (`000_mask.png`), one that is no other image's if there is any. Images without a mask are noted if masks are
        expected, masks without an image in any case.
        """
        called: dict[str, list[Path]] = defaultdict(list)  # whole name, and name without endings -> masks
        for mask in masks:
            for name in {mask.name, mask.stem, MASK_ENDING.sub("", mask.stem)}:
                called[nfc(name)].append(mask)
        own: dict[Path, Path] = {}  # image -> its mask
        used = set()
        for part, image in ((part, image) for part in ("name", "stem") for image in images):
            candidates = called[nfc(getattr(image, part))]
            if candidates and image not in own:
                own[image] = next((mask for mask in candidates if mask not in used), candidates[0])
                used.add(own[image])
        for image in images:
            mask = own.get(image)
            if mask is None and masks_expected:
                self.note(Kind.NO_MASK, self.path(image), cls_name)
            self.append("test", Entry(self.path(image), self.path(mask) if mask else "", cls_name, specie, 1))
        for mask in masks:
            if mask not in used:
                self.note(Kind.NO_IMAGE, self.path(mask), cls_name)

    def add_listed(self, split: str, entry: Entry) -> None:
        """Append an entry that a list of the data set has; note it if it is absent, or anomalous without a mask."""
        if not (self.root / entry.img_path).is_file():
            self.note(Kind.ABSENT, entry.img_path, entry.cls_name)
            return
        if entry.anomaly == 1 and not entry.mask_path:
            self.note(Kind.NO_MASK, entry.img_path, entry.cls_name)
        self.append(split, entry)

    def note(self, kind: Kind, where: str, cls_name: str = "") -> None:
        """Note what is wrong, of a class or of none."""
        self.notes.append(Note(kind, where, cls_name))

    def path(self, path: Path) -> str:
        """Write `path` as entries hold it: relative to the data set's folder, with `/`."""
        return path.relative_to(self.root).as_posix()


def list_images(folder: Path) -> list[Path]:
    """List the images directly in `folder` that no run wrote, in natural order; none if there is no such folder."""
    return [path for path in _visible(folder) if _is_image(path) and not is_result(path)]


def list_masks(folder: Path) -> list[Path]:
    """List the masks directly in `folder`, in natural order: files, then folders of several, which are one image's."""
    folders = (path for path in list_folders(folder) if any(map(_is_image, _visible(path))))
    return [*filter(_is_image, _visible(folder)), *folders]


def list_folders(folder: Path) -> list[Path]:
    """List the folders directly in `folder`, in natural order; none if there is no such folder."""
    return [path for path in _visible(folder) if path.is_dir()]


def subfolder(folder: Path, name: str) -> Path:
    """Find the folder `name` in `folder`, whichever case it is written in; `folder / name` if there is none."""
    same = (path for path in list_folders(folder) if nfc(path.name).lower() == nfc(name).lower())
    return min(same, key=lambda path: path.name != name, default=folder / name)


def top_folder(root: Path, name: str) -> Path:
    """Find where a data set lies whose archive may have been unpacked with its top folder or without."""
    return root / name if (root / name).is_dir() else root


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _visible(folder: Path) -> list[Path]:
    """List what is directly in a folder and not hidden, in natural order: `2.png` before `10.png`."""
    try:
        paths = [path for path in folder.iterdir() if not is_hidden(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror}") from error

    return sorted(paths, key=lambda path: natural(path.name))


def natural(name: str) -> tuple[list[int | str], str]:
    """Give the key to sort names by, `2.png` before `10.png`."""
    parts = re.split(r"(\d+)", name)  # every second part is a number
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Read the wanted columns of a CSV file with a header; space around headings and values is dropped.

    That is but for values in `NAMES`, since 0.png and "0.png " may both be there.

    Yields the number of each line in the file, and its values in the order of `columns`, as `write_csv` was given them.
    """
    try:
        with io.TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            for name in columns:
                if (count := reader.fieldnames.count(name)) != 1:
                    found = "no column" if count == 0 else f"{count} columns"
                    raise UserError(f"{path} has {found} '{name}'; it needs {', '.join(columns)}, each once")
            for row in reader:
                values = [row[name] for name in columns]
                if None in values:
                    raise UserError(f"{path}, line {reader.line_num}: too few values")
                named = zip(columns, values, strict=True)
                values = [unquoted(value if name in NAMES else value.strip()) for name, value in named]
                yield reader.line_num, values
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
