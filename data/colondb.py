"""Build `meta.json` for CVC-ColonDB: every frame shows a polyp."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data import polyps
from data.common import Found

EXPECTED = polyps.EXPECTED


def read(root: Path) -> Found:
    """Entries of all frames, with their masks."""
    return polyps.read_frames(root, "colondb")


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("colondb"))
