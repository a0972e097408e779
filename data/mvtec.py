"""Build `meta.json` for MVTec AD, and for any data set laid out like it."""

import sys
from collections.abc import Collection
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.common import Found, list_folders, list_images, plain_entries

EXPECTED = "CLASS/train/good/*.png, CLASS/test/{good,DEFECT}/*.png, CLASS/ground_truth/DEFECT/*_mask.png"


def read(root: Path) -> Found:
    """Entries of all classes in `root`; folders that do not look like a class are ignored."""
    found = Found()
    for folder in list_folders(root):
        if is_class(folder):
            read_class(folder, root, folder.name, found)
    return found


def is_class(folder: Path) -> bool:
    """Whether `folder` holds a class, that is a folder `train` or `test`."""
    return any((folder / split).is_dir() for split in ("train", "test"))


def read_class(
    folder: Path,
    root: Path,
    name: str,
    found: Found,
    normal: Collection[str] = ("good",),
    masks_optional: bool = False,
) -> None:
    """Add the entries of one class to `found`.

    Args:
        folder: the class's folder.
        root: the data set's folder.
        name: the class's name.
        found: is added to.
        normal: what folders of normal images are called.
        masks_optional: whether a class without any `ground_truth` is in order.
    """
    for train in list_folders(folder / "train"):
        if train.name in normal:
            found.train += plain_entries(root, list_images(train), name, "good", 0)
    truth = folder / "ground_truth"
    kinds = {kind.name: kind for kind in list_folders(folder / "test")}
    for kind in kinds.values():
        if kind.name in normal:
            found.test += plain_entries(root, list_images(kind), name, "good", 0)
            continue
        expected = truth.is_dir() or not masks_optional
        found.test += found.pair(
            root, list_images(kind), list_images(truth / kind.name), name, kind.name, expected
        )
    for kind in list_folders(truth):
        if kind.name not in kinds and kind.name not in normal:
            found.pair(root, [], list_images(kind), name, kind.name)


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("mvtec"))
