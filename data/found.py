"""What is found in a data set's folder: the entries of its images, and what is wrong, by kind."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

from datasets.meta import Entry, Meta
from utils.problems import ERROR, WARNING, Level

_RESTORE = "restore the files, or take them off the list (a meta.json that is deleted is built anew)"
_REPLACE = "get the files anew, or take them off the list"
_RENAME = "give the files plain names inside the data set's folder"
_LABEL = "find out which is right, and correct the label or the mask"
_BOTH_SPLITS = "train on nothing that you test on, or remove one of the two"
_ABSENT = "get the rest of the data set, or see to it that the part is the one you want"


class Kind(Enum):
    """A kind of thing that can be wrong with a data set.

    Attributes:
        text: what is concerned, in the plural.
        remedy: what to do.
        level: see `utils.problems`.
        left_out: whether what is concerned is left out of the list that is built.
    """

    MISSING = ("images listed but missing", _RESTORE, ERROR, True)
    UNREADABLE = ("unreadable images", _REPLACE, ERROR, True)
    BAD_PATH = ("images with a path that is refused", _RENAME, ERROR, True)
    MISSING_MASK = ("masks listed but missing", _RESTORE, ERROR, True)
    UNREADABLE_MASK = ("unreadable masks", _REPLACE, ERROR, True)
    BAD_MASK_PATH = ("masks with a path that is refused", _RENAME, ERROR, True)

    ABSENT = ("images listed but absent", _ABSENT, WARNING, True)
    NO_LABEL = ("images without a label", "add them to labels.csv", WARNING, True)
    NO_MASK = ("anomalous images without a mask", "add the masks, or pixels are measured without them")
    NO_IMAGE = ("masks without an image", "add the images, or name the masks as their images")
    OTHER_SIZE = ("masks of another size than their image", "see whether they are these images' masks, or are cropped")
    EMPTY_MASK = ("empty masks of anomalous images", _LABEL)
    NORMAL_WITH_MASK = ("normal images whose mask is not empty", _LABEL)
    JPEG_MASK = ("masks in JPEG, whose noise counts as anomalous", "draw them anew as PNG, black and white")
    BOTH_SPLITS = ("test images that are training images too", _BOTH_SPLITS)
    TWO_LABELS = ("images that are there as normal and as anomalous", "find out which is right")
    TWO_CLASSES = ("images that are there in two classes", "remove them from the class they do not belong to")
    TWICE = ("test images that are there twice", "remove one of the two, as they count twice")
    ODD_SIZE = ("images of another size than nearly all of their class", "see whether they belong there")
    ODD_MODE = (
        "images of another colour mode than nearly all of their class",
        "see whether they look as the others do",
    )

    def __init__(self, text: str, remedy: str, level: Level = WARNING, left_out: bool = False) -> None:
        self.text = text
        self.remedy = remedy
        self.level = level
        self.left_out = left_out


Note = tuple[Kind, str]  # what is wrong, and where
_MASK_ENDING = re.compile(r"_(mask|segmentation)$", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """What a reader finds in a data set's folder `root`, or a list of its images has, in the order it is to be kept."""

    root: Path
    train: list[Entry] = field(default_factory=list)
    test: list[Entry] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(
        self, split: Literal["train", "test"], images: Sequence[Path], cls_name: str, specie: str, anomaly: int | None
    ) -> None:
        """Append entries of images that have no masks."""
        entries = [Entry(self.path(image), "", cls_name, specie, anomaly) for image in images]
        (self.train if split == "train" else self.test).extend(entries)

    def add_masked(
        self, images: Sequence[Path], masks: Sequence[Path], cls_name: str, specie: str, *, masks_expected: bool = True
    ) -> None:
        """Append entries of anomalous test images, each with the mask of its stem (`000.png` ~ `000_mask.png`).

        Images without a mask are noted if masks are expected, masks without an image in any case.
        """
        by_stem: dict[str, Path] = {}
        for mask in masks:
            by_stem.setdefault(_MASK_ENDING.sub("", mask.stem), mask)
        by_stem |= {mask.stem: mask for mask in masks if mask.stem not in by_stem}
        for image in images:
            mask = by_stem.get(image.stem)
            if mask is None and masks_expected:
                self.notes.append((Kind.NO_MASK, self.path(image)))
            self.test.append(Entry(self.path(image), self.path(mask) if mask else "", cls_name, specie, 1))
        used = {by_stem.get(image.stem) for image in images}
        self.notes.extend((Kind.NO_IMAGE, self.path(mask)) for mask in masks if mask not in used)

    def path(self, path: Path) -> str:
        """`path` relative to the data set's folder, with `/`, as entries hold it."""
        return path.relative_to(self.root).as_posix()

    def meta(self) -> Meta:
        """Group the entries by class."""
        meta: Meta = {"train": {}, "test": {}}
        for split, entries in (("train", self.train), ("test", self.test)):
            for entry in entries:
                meta[split].setdefault(entry.cls_name, []).append(entry)
        return meta
