"""Anomaly maps that a run or somebody else's program saved, in the place of a method that computes them."""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
import tifffile
import torch
from torch import Tensor
from torchvision.transforms.functional import resize

from datasets.image_set import ImageSet
from datasets.images import MAX_PIXELS, check_size, mask_files, open_bounded, reading, size_and_orientation
from datasets.loader import ItemDataset
from datasets.meta import Entry
from utils.errors import UserError
from utils.evaluation_types import Prediction
from utils.files import nfc, open_regular, visible_files

logger = logging.getLogger(__name__)

MAP_SUFFIXES = (".npy", ".tiff", ".tif", ".png")
ROUNDED = 0.02  # by how much a proportion may be off, as sides are whole pixels
_GREY_MODES = ("1", "L", "I", "F")  # of Pillow; those of 16 bits are called I;16, I;16B and so on


def find_maps(folder: str | Path, entries: Sequence[Entry]) -> list[Path]:
    """Find each entry's map: its image's path in `folder`, with a map's suffix added, or in its own's place.

    So the map of `bottle/test/broken/000.png` is `bottle/test/broken/000.png.npy`, as our runs name it, or
    `000.tiff`, `000.npy` and so on in that folder. Files that belong to no image are warned of; an image without a map
    or with two, or a map that would be two images', is a `UserError`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder of maps {folder}")
    there = defaultdict(list)  # a map's path without its suffix -> the files
    for path in visible_files(folder):
        if path.suffix.lower() in MAP_SUFFIXES:
            there[nfc(str(path.with_suffix("")))].append(path)
    found: dict[Path, str] = {}
    missing, linked = [], set()
    for image in (entry.img_path for entry in entries):
        places = {folder / image, (folder / image).with_suffix("")}
        maps = sorted(path for stem in {nfc(str(place)) for place in places} for path in there[stem])
        if not maps:  # where a folder that two links lead to is listed by the other
            maps = sorted(Path(f"{place}{suffix}") for place in places for suffix in MAP_SUFFIXES)
            maps = [path for path in maps if os.path.isfile(path)]  # noqa: PTH113 - which any name may be asked
            linked.update(map(os.path.realpath, maps))
        if not maps:
            missing.append(image)
        elif len(maps) > 1:
            raise UserError(f"the image {image} has two maps, {maps[0]} and {maps[1]}: remove one")
        elif maps[0] in found:
            raise UserError(
                f"{maps[0]} would be the map of both {found[maps[0]]} and {image}: name maps after the whole image, "
                f"like {PurePosixPath(image).name}.npy"
            )
        else:
            found[maps[0]] = image
    if missing:
        raise UserError(
            f"{folder} has no map for {len(missing)} of {len(entries)} images, the first of them {missing[0]}: "
            f"looked for {missing[0]}.npy and {PurePosixPath(missing[0]).with_suffix('.npy')}, and the same "
            f"with {', '.join(MAP_SUFFIXES[1:])}"
        )
    others = (path for maps in there.values() for path in maps if path not in found)
    if extra := sorted(path for path in others if os.path.realpath(path) not in linked):
        logger.warning("maps in %s that are of no image: %d, the first of them %s", folder, len(extra), extra[0])
    return list(found)


def swapped_sides(images: ImageSet, maps: Sequence[Path]) -> list[str]:
    """Say of which classes the maps are as high in proportion as all of the masks are wide, as by a transposition."""
    found = []
    for name, group in groupby(zip(images.entries, maps, strict=True), key=lambda pair: pair[0].cls_name):
        masked = [(images.root / entry.mask_path, path) for entry, path in group if entry.mask_path]
        if not masked:
            continue
        height, width = load_map(masked[0][1], images.max_pixels).shape
        shapes = (size_and_orientation(mask_files(mask)[0])[0] for mask, _ in masked)
        if all(abs(w / h - 1) > ROUNDED and abs(w * width / (h * height) - 1) < ROUNDED for w, h in shapes):
            found.append(f"{name}: the maps, {height} x {width}, have their sides swapped: the masks lie the other way")
    return found


def load_map(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an anomaly map, whatever its type of number, as float32 [H, W]; axes of length 1 are dropped.

    Values are taken as they are. The measures look at their order only, so that 8 or 16 bits are on no scale;
    what float64 or integers above 2^24 tell apart beyond float32's precision becomes a tie. A file that cannot be read,
    or is not one map of finite numbers, is a `UserError` with its name.
    """
    suffix, mode = path.suffix.lower(), "F"
    with reading("map", path, "a PNG file"), open_regular(path) as file:
        if suffix == ".npy":
            values = np.lib.format.open_memmap(path, mode="r")  # of .npy alone, whatever a file is called
            check_size(values.shape, max_pixels)
        elif suffix in (".tiff", ".tif"):
            with tifffile.TiffFile(file) as tiff:
                check_size(tiff.series[0].shape, max_pixels)
                values = tiff.series[0].asarray()
        else:
            with open_bounded(file, ["PNG"], max_pixels) as image:
                mode, values = image.mode, np.asarray(image)
    if mode not in _GREY_MODES and not mode.startswith("I;16"):
        raise UserError(f"the map {path} is a picture in {mode}, not in grey: its values are lost")
    if values.dtype.kind not in "biuf":
        raise UserError(f"the map {path} holds no real numbers but {values.dtype}")
    shape, values = values.shape, values.squeeze() if values.ndim > 2 else values
    if values.ndim != 2 or not values.size:
        raise UserError(f"the map {path} is an array of shape {shape}: expected is height x width")
    with np.errstate(over="ignore"):
        values = np.array(values, np.float32, order="C")  # a copy, as the file may be mapped
    if not np.isfinite(values).all():
        y, x = np.argwhere(~np.isfinite(values))[0]
        raise UserError(f"the map {path} has a value that is not finite in float32, in row {y}, column {x}")
    return values


@dataclass(frozen=True)
class SavedMapDataset(ItemDataset):
    """Maps [1, H, W] in the place of images, with the masks that are known, each at the map's own size.

    Of the images' own files only the masks are read. As two maps may differ in size, a batch is one map.
    """

    maps: Sequence[Path]  # the file of each entry's map
    map_size: int | None = None  # pixels a side that maps are resized to, bilinear and antialiased; None: as they are

    def place(self, index: int) -> Path:
        return self.maps[index]

    def read(self, entry: Entry, number: int) -> tuple[Tensor, Tensor | None]:
        values = torch.from_numpy(load_map(self.maps[number], self.images.max_pixels))[None]
        if self.map_size is not None:
            values = resize(values, [self.map_size, self.map_size], antialias=True)
        return values, self.images.read_mask(entry, tuple(values.shape[1:]))


class SavedMaps:
    """The `Detector` of saved maps: the loader's images [B, 1, H, W] are the maps, and a map's maximum is its score."""

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        return Prediction(maps=images[:, 0], text_prob=None)

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        return map_max
