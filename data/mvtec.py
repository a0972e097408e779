"""Build `meta.json` for MVTec AD, and for any data set laid out like it."""

import sys
from collections.abc import Collection
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.common import Found, list_folders, list_images, plain_entries, subfolder

EXPECTED = "CLASS/train/good/*.png, CLASS/test/{good,DEFECT}/*.png, CLASS/ground_truth/DEFECT/*_mask.png"


def read(root: Path, normal: Collection[str] = ("good",)) -> Found:
    """Entries of all classes in `root`; folders that do not look like a class are ignored.

    Args:
        root: the data set's folder.
        normal: what folders of normal images are called, in lower case.
    """
    found = Found()
    for folder in list_folders(root):
        if is_class(folder):
            read_class(folder, root, folder.name, found, normal)
    return found


def is_class(folder: Path) -> bool:
    """Whether `folder` holds a class, that is a folder `train` or `test`."""
    return any((folder / split).is_dir() for split in ("train", "test"))


def read_class(
    folder: Path, root: Path, name: str, found: Found, normal: Collection[str] = ("good",), masks_optional: bool = False
) -> None:
    """Add the entries of one class to `found`.

    Args:
        folder: the class's folder.
        root: the data set's folder.
        name: the class's name.
        found: is added to.
        normal: what folders of normal images are called, in lower case; theirs may differ.
        masks_optional: whether a class without any `ground_truth` is in order.
    """
    for train in list_folders(folder / "train"):
        if train.name.lower() in normal:
            found.train += plain_entries(root, list_images(train), name, "good", 0)
    truth = folder / "ground_truth"
    kinds = list_folders(folder / "test")
    for kind in kinds:
        if kind.name.lower() in normal:
            found.test += plain_entries(root, list_images(kind), name, "good", 0)
            continue
        expected = truth.is_dir() or not masks_optional
        found.test += found.pair(
            root, list_images(kind), list_images(subfolder(truth, kind.name)), name, kind.name, expected
        )
    known = {*normal, *(kind.name.lower() for kind in kinds)}
    for kind in list_folders(truth):
        if kind.name.lower() not in known:
            found.pair(root, [], list_images(kind), name, kind.name)


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("mvtec"))
