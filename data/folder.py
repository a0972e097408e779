"""Build `meta.json` for a folder of one's own images, with or without labels and masks."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.common import Found, list_folders, list_images, plain_entries
from data.mvtec import is_class, read_class

EXPECTED = (
    "either images directly in it, all unlabelled, or test/{good,DEFECT}/* with train/good/* and "
    "ground_truth/DEFECT/* if you have them, directly in it or in a folder for each class"
)
NORMAL = ("good", "ok", "normal")


def read(root: Path) -> Found:
    """Entries of a class, or of several, laid out like MVTec AD, or of images of which nothing is known.

    Folders of normal images may be called good, ok or normal; images directly in `test` are unlabelled.
    """
    found = Found()
    name = root.resolve().name
    classes = {name: root} if is_class(root) else {path.name: path for path in list_folders(root) if is_class(path)}
    for class_name, folder in classes.items():
        read_class(folder, root, class_name, found, NORMAL, masks_optional=True)
        found.test += plain_entries(root, list_images(folder / "test"), class_name, "", None)
    if not classes:
        found.test += plain_entries(root, list_images(root), name, "", None)
    return found


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("folder"))
