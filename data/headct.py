"""Build `meta.json` for HeadCT: labels in a CSV file, no masks."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.common import Found, list_images, plain_entries, read_csv, relative
from data.kinds import ABSENT, NO_LABEL
from utils.errors import UserError

EXPECTED = "head_ct/head_ct/000.png, ... and labels.csv with the columns id, hemorrhage"


def read(root: Path) -> Found:
    """Entries of the images that `labels.csv` labels, in its order; image NNN.png has the id N.

    Raises:
        UserError: there is no `labels.csv`, or it is not of that form.
    """
    found = Found()
    path = root / "labels.csv"
    images = {image.stem.lstrip("0") or "0": image for image in list_images(root / "head_ct" / "head_ct")}
    for line, (number, label) in read_csv(path, ("id", "hemorrhage")):
        if label not in ("0", "1") or not number.isdecimal():
            raise UserError(f"{path}, line {line}: '{number}, {label}' is not a number and 0 or 1")
        image = images.pop(str(int(number)), None)
        if image is None:
            found.problems[ABSENT].append(f"id {number}")
            continue
        specie = "hemorrhage" if label == "1" else "good"
        found.test += plain_entries(root, [image], "headct", specie, int(label))
    if images:
        found.problems[NO_LABEL] += [relative(image, root) for image in images.values()]
    return found


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("headct"))
