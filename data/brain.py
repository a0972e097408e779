"""Build `meta.json` for BrainMRI, of BMAD."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data import bmad
from data.common import Found

EXPECTED = bmad.EXPECTED


def read(root: Path) -> Found:
    """Entries of all slices, those with a lesion with their masks."""
    return bmad.read_class(root, "brain")


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("brain"))
