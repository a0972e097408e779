"""Files of single images that a run leaves: maps, pictures, and a contact sheet of some of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from utils.evaluation_types import ClassMaps, ImageMap, Sample
from utils.files import atomic_open
from utils.visualization import class_scale, contact_sheet, fitted, panel, save_png

SHEET_COLUMNS = 4  # images of a class on the contact sheet
SHEET_PANEL_WIDTH = 480  # pixels


def map_writer(folder: Path) -> Callable[[ImageMap], None]:
    """A function that writes a map as `<img_path>.npy` in a folder."""

    def write(seen: ImageMap) -> None:
        with atomic_open(folder / f"{seen.sample.img_path}.npy", "wb") as file:
            np.save(file, seen.anomaly_map)

    return write


class PictureWriter:
    """Writes a picture of every image, and keeps a few of each class for the contact sheet.

    Args:
        folder: the run's.
        read_image: gives an image as the detector sees it, uint8 RGB [S, S, 3].
    """

    def __init__(self, folder: Path, read_image: Callable[[Sample], np.ndarray]) -> None:
        self.folder = folder
        self.read_image = read_image
        self.panels: list[np.ndarray] = []
        self.captions: list[str] = []

    def __call__(self, group: ClassMaps) -> None:
        scale = class_scale(group.maps)
        chosen = _spread([sample.anomaly for sample in group.samples])
        for i, sample in enumerate(group.samples):
            mask = group.masks[i] if group.has_mask[i] else None
            label = {0: "normal", 1: "anomalous", None: "no label"}[sample.anomaly]
            caption = f"{group.scores[i]:.3f}  {label}  {sample.img_path}"
            shown = (self.read_image(sample), group.maps[i], mask, scale)
            save_png(self.folder / "imgs" / f"{sample.img_path}.png", panel(*shown, caption))
            if i in chosen:
                self.panels.append(fitted(panel(*shown), SHEET_PANEL_WIDTH))
                self.captions.append(caption)

    def write_sheet(self) -> Path:
        """Write the contact sheet, and return its path."""
        path = self.folder / "contact_sheet.png"
        save_png(path, contact_sheet(self.panels, self.captions, SHEET_COLUMNS, SHEET_PANEL_WIDTH))
        return path


def _spread(labels: Sequence[int | None]) -> set[int]:
    """Which images of a class go on the contact sheet: one normal, the others spread over the rest."""
    normal = [i for i, label in enumerate(labels) if label == 0][:1]
    rest = [i for i, label in enumerate(labels) if label != 0]
    wanted = SHEET_COLUMNS - len(normal)
    return {*normal, *(rest[len(rest) * k // wanted] for k in range(wanted) if rest)}
