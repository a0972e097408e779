"""Build `meta.json` for VisA, from one of the split files that come with it."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.common import Found, list_images, read_csv, relative
from data.kinds import ABSENT, NO_IMAGE, NO_MASK
from datasets.meta import Entry
from utils.errors import UserError

EXPECTED = (
    "CLASS/Data/Images/{Normal,Anomaly}/*.JPG, CLASS/Data/Masks/Anomaly/*.png and split_csv/1cls.csv, "
    "which come together"
)
LABELS = {"normal": 0, "anomaly": 1}


def read(root: Path, split_csv: str | None = None) -> Found:
    """Entries of the images that a split file lists, in its order.

    Args:
        root: VisA's folder.
        split_csv: a file with the columns object, split, label, image, mask; default `split_csv/1cls.csv`.

    Raises:
        UserError: there is no such file, or it is not of that form.
    """
    found, masks = Found(), set()
    path = Path(split_csv) if split_csv else root / "split_csv" / "1cls.csv"
    for line, (name, split, label, image, mask) in read_csv(path, ("object", "split", "label", "image", "mask")):
        if split not in ("train", "test") or label not in LABELS:
            raise UserError(f"{path}, line {line}: '{split}, {label}' is not a split and a label")
        masks.add(mask)
        if not (root / image).is_file():
            found.problems[ABSENT].append(image)
            continue
        if mask and not (root / mask).is_file():
            mask = ""
        if label == "anomaly" and not mask:
            found.problems[NO_MASK].append(image)
        entry = Entry(image, mask, name, "good" if label == "normal" else label, LABELS[label])
        (found.train if split == "train" else found.test).append(entry)
    for name in dict.fromkeys(entry.cls_name for entry in found.test):
        files = (relative(file, root) for file in list_images(root / name / "Data" / "Masks" / "Anomaly"))
        found.problems[NO_IMAGE] += [file for file in files if file not in masks]
    return found


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("visa", {"split_csv": "another split file than split_csv/1cls.csv in the data set's folder"}))
