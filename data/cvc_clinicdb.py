"""Build `meta.json` for CVC-ClinicDB: every frame shows a polyp."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data import polyps
from data.common import Found, subfolder

EXPECTED = f"Original/N.tif and 'Ground Truth/N.tif', or {polyps.EXPECTED}"


def read(root: Path) -> Found:
    """Entries of all frames, with their masks; either of the two layouts it is distributed in."""
    original = ("Original", "Ground Truth") if subfolder(root, "Original").is_dir() else ()
    return polyps.read_frames(root, "cvc_clinicdb", *original)


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("cvc_clinicdb"))
