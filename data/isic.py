"""Build `meta.json` for the test set of ISIC 2016, part 1: every image shows a lesion."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.common import Found, list_images

IMAGES, MASKS = "ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"
EXPECTED = f"{IMAGES}/X.jpg and {MASKS}/X_Segmentation.png"


def read(root: Path) -> Found:
    """Entries of all images, with their masks."""
    found = Found()
    found.test = found.pair(root, list_images(root / IMAGES), list_images(root / MASKS), "isic", "lesion")
    return found


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("isic"))
