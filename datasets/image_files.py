"""Which files are images to read: by their suffix, and not those that runs wrote."""

import os
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from utils.files import LOCK

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
HEIF = frozenset({".heic", ".heif"})
if find_spec("pillow_heif"):  # which is optional
    IMAGE_SUFFIXES |= HEIF
# Of images that are not read.
OTHER_SUFFIXES = (HEIF | {".gif", ".avif", ".dcm", ".jp2", ".jxl", ".dng", ".pgm", ".ppm", ".exr"}) - IMAGE_SUFFIXES

OUTPUTS = {"imgs", "masks", "overlays"}  # folders of pictures that runs write, one for each image and called after it
PLOTS = {"contact_sheet.png", "loss.png", "summary.png", "validation.png"}  # and others
LOGS = ("evaluate.log", "predict.log", "test.log", "train.log")  # of which a run's folder has one beside its lock


def is_result(path: Path) -> bool:
    """Tell whether a run wrote a picture: `overlays/000.png.png`, say, below a folder with its lock and its log."""
    output = path = path.absolute()
    if path.name not in PLOTS:
        of_an_image = Path(path.stem).suffix.lower() in IMAGE_SUFFIXES
        output = next((folder for folder in path.parents if of_an_image and folder.name in OUTPUTS), Path())
    return any(
        os.path.exists(folder / LOCK) and any(os.path.exists(folder / log) for log in LOGS)  # noqa: PTH110 - of any name
        for folder in output.parents
    )


def passed_over(files: Iterable[Path]) -> str | None:
    """Say how many files are images of formats that are not read; None if none is."""
    counts = Counter(suffix for file in files if (suffix := file.suffix.lower()) in OTHER_SUFFIXES)
    if not counts:
        return None
    remedy = ", or pip install pillow-heif" if HEIF & counts.keys() else ""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    return f"images of formats that are not read are passed over: {kinds}; save them as PNG{remedy}"
