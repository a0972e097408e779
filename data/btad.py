"""Build `meta.json` for BTAD: laid out like MVTec AD, with ok and ko for good and defect."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data import mvtec
from data.common import Found

EXPECTED = "01/train/ok/*, 01/test/{ok,ko}/*, 01/ground_truth/ko/* and likewise 02, 03; images and masks .png or .bmp"


def read(root: Path) -> Found:
    """Entries of all products."""
    return mvtec.read(root, normal=("ok",))


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("btad"))
