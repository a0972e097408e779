"""Build `meta.json` for BrainMRI: labels by folder, no masks."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.common import Found, list_images, plain_entries

EXPECTED = "brain_tumor_dataset/{yes,no} with the images"


def read(root: Path) -> Found:
    """Entries of all images; the download holds them twice, so its top level is read only if it is alone."""
    nested = root / "brain_tumor_dataset"
    folder = nested if nested.is_dir() else root
    found = Found()
    found.test += plain_entries(root, list_images(folder / "no"), "brainmri", "good", 0)
    found.test += plain_entries(root, list_images(folder / "yes"), "brainmri", "tumor", 1)
    return found


if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("brainmri"))
