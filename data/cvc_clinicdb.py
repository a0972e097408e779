"""Build `meta.json` for CVC-ClinicDB: every frame shows a polyp."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.common import Found, list_images

EXPECTED = "Original/N.tif and 'Ground Truth/N.tif', or images/N.png and masks/N.png"


def read(root: Path) -> Found:
    """Entries of all frames, with their masks; either of the two layouts it is distributed in."""
    found = Found()
    original = (root / "Original").is_dir()
    images, masks = ("Original", "Ground Truth") if original else ("images", "masks")
    found.test = found.pair(
        root, list_images(root / images), list_images(root / masks), "cvc_clinicdb", "polyp"
    )
    return found


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("cvc_clinicdb"))
