"""The layout of BMAD's data sets, each of one class whose lesions have masks."""

from pathlib import Path

from data.common import Found, list_images, plain_entries, subfolder

EXPECTED = "test/good/img/*, test/Ungood/img/*, test/Ungood/label/*, and train/good/* if it is there"


def read_class(root: Path, name: str) -> Found:
    """Entries of class `name`, the only one in `root`; the validation split is not read.

    Args:
        root: the data set's folder.
        name: the class.
    """
    found = Found()
    train, test = subfolder(root, "train"), subfolder(root, "test")
    ungood = subfolder(test, "Ungood")
    found.train = plain_entries(root, _images(subfolder(train, "good")), name, "good", 0)
    found.test = plain_entries(root, _images(subfolder(test, "good")), name, "good", 0)
    found.test += found.pair(root, _images(ungood), list_images(subfolder(ungood, "label")), name, "lesion")
    return found


def _images(folder: Path) -> list[Path]:
    """The images in the folder `img` of `folder`; those directly in it, as in `train`, if it has none."""
    nested = subfolder(folder, "img")
    return list_images(nested if nested.is_dir() else folder)
