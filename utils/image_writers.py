"""Writers of files of each image of a test: its map, and its picture."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from utils.background import free_cores
from utils.evaluation_types import ClassMaps, ClassResult, ImageMap, Sample, Writer
from utils.files import fits
from utils.panels import SHEET_COLUMNS, contact_sheet, panel, titled
from utils.pictures import class_scale, save_map, save_png

logger = logging.getLogger(__name__)


@dataclass
class ImageWriter(Writer):
    """Writes a file for every image, but for those of too long a name."""

    file: ClassVar[str]  # that of an image, {} its path

    folder: Path  # of the run
    left_out: list[Path] = field(default_factory=list, init=False)

    def path(self, image: str) -> Path:
        return self.folder / self.file.format(image)

    def takes(self, image: str) -> bool:
        """Tell whether the file of an image can be called so; if not, that is warned of."""
        path = self.path(image)
        if fits(path):
            return True
        logger.warning("not written, as the name is too long: %s", path)
        self.left_out.append(path)
        return False

    def is_there(self, result: ClassResult) -> bool:
        return all(path.is_file() for path in (self.path(image.image_path) for image in result.images) if fits(path))

    def restore(self, result: ClassResult, kept: Any) -> None:
        for image in result.images:
            self.takes(image.image_path)


class MapWriter(ImageWriter):
    """Writes every map as `maps/<img_path>.npy` in the run's folder."""

    file = "maps/{}.npy"
    needs_images = True

    def image(self, image: ImageMap) -> None:
        if self.takes(image.sample.img_path):
            save_map(self.path(image.sample.img_path), image.anomaly_map)


@dataclass
class ThreadedWriter(ImageWriter):
    """Writes the files of a class's images in threads, beside the prediction of the next class."""

    needs_maps = maps_in_thread = True

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(max(1, free_cores()), "files")

    def finish(self) -> str | None:
        self.pool.shutdown(cancel_futures=True)  # of a run that is stopped, what has not begun


@dataclass
class PictureWriter(ThreadedWriter):
    """Writes a picture of every image to `imgs/` in the run's folder, and some of each class on `contact_sheet.png`."""

    file = "imgs/{}.png"

    read_image: Callable[[Sample], np.ndarray]  # gives an image as the detector sees it, uint8 RGB [S, S, 3]
    captions: dict[str, str] = field(default_factory=dict)  # of the images that are on the sheet

    def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
        scale = class_scale(maps.maps)
        chosen = _spread([sample.anomaly for sample in maps.samples])

        def write(i: int) -> str:
            sample = maps.samples[i]
            mask = maps.masks[i] if maps.has_mask[i] else None
            label = {0: "normal", 1: "anomalous", None: "not known"}[sample.anomaly]
            caption = f"truth: {label}, score {scores[i]:.3f}   {sample.img_path}"
            picture = panel(self.read_image(sample), maps.maps[i], mask, scale)
            save_png(self.path(sample.img_path), titled(picture, caption))
            return caption

        taken = [i for i, sample in enumerate(maps.samples) if self.takes(sample.img_path)]
        captions = zip(taken, self.pool.map(write, taken), strict=True)
        self.captions |= {maps.samples[i].img_path: caption for i, caption in captions if i in chosen}

    def kept(self) -> dict[str, str]:
        return self.captions

    def restore(self, result: ClassResult, kept: dict[str, str]) -> None:
        super().restore(result, kept)
        self.captions |= kept

    def finish(self) -> str | None:
        super().finish()
        captions = dict(self.captions)  # of a run that is stopped, a class's may just come
        if not captions:
            return None
        path = self.folder / "contact_sheet.png"
        written = (np.asarray(Image.open(self.path(image), formats=["PNG"])) for image in captions)
        save_png(path, contact_sheet(zip(written, captions.values(), strict=True)))
        return f"a picture of every image is in {self.folder / 'imgs'}, some of them on {path}"


def _spread(labels: Sequence[int | None]) -> set[int]:
    """Choose a class's images for the contact sheet: one normal, the others spread over the rest."""
    normal = [i for i, label in enumerate(labels) if label == 0][:1]
    rest = [i for i, label in enumerate(labels) if label != 0]
    wanted = SHEET_COLUMNS - len(normal)
    return {*normal, *(rest[len(rest) * k // wanted] for k in range(wanted) if rest)}
