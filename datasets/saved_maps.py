"""Anomaly maps that a run or somebody else's program saved, in the place of a method that computes them."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import tifffile
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import resize

from datasets.loader import ErrorRaisingLoader, Item, known_mask, loader_in_order
from datasets.meta import Entry
from utils.errors import UserError
from utils.evaluation_types import Prediction

logger = logging.getLogger(__name__)

MAP_SUFFIXES = (".npy", ".tiff", ".tif", ".png")
_GREY_MODES = ("1", "L", "I", "F")  # of Pillow; those of 16 bits are called I;16, I;16B and so on


def find_maps(folder: str | Path, entries: Sequence[Entry]) -> list[Path]:
    """The map of each entry: the image's path in `folder`, with a suffix of a map added or in its suffix's place.

    So the map of `bottle/test/broken/000.png` is `bottle/test/broken/000.png.npy`, as our runs name it, or
    `000.tiff`, `000.npy` and so on in that folder. Files that belong to no image are warned of.

    Raises:
        UserError: no such folder, an image without a map or with two, or a map that would be two images'.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder of maps {folder}")
    files = (Path(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names)
    there = {path for path in files if path.suffix.lower() in MAP_SUFFIXES}
    found: dict[Path, str] = {}
    missing = []
    for entry in entries:
        maps = _candidates(folder, entry.img_path) & there
        if len(maps) > 1:
            two = " and ".join(str(path) for path in sorted(maps)[:2])
            raise UserError(f"the image {entry.img_path} has two maps, {two}: remove one")
        if not maps:
            missing.append(entry.img_path)
            continue
        (path,) = maps
        if path in found:
            raise UserError(
                f"{path} would be the map of both {found[path]} and {entry.img_path}: name maps after the "
                f"whole image, like {PurePosixPath(entry.img_path).name}.npy"
            )
        found[path] = entry.img_path
    if missing:
        raise UserError(
            f"{folder} has no map for {len(missing)} of {len(entries)} images, the first of them {missing[0]}: "
            f"looked for {missing[0]}.npy and {PurePosixPath(missing[0]).with_suffix('.npy')}, and the same "
            f"with {', '.join(MAP_SUFFIXES[1:])}"
        )
    if extra := sorted(there - found.keys()):
        logger.warning("maps in %s that are of no image: %d, the first of them %s", folder, len(extra), extra[0])
    return list(found)


def _candidates(folder: Path, img_path: str) -> set[Path]:
    """Files that would be an image's map; suffixes may be written in capitals."""
    suffixes = [written for suffix in MAP_SUFFIXES for written in (suffix, suffix.upper())]
    stems = {img_path, str(PurePosixPath(img_path).with_suffix(""))}
    return {folder / f"{stem}{suffix}" for stem in stems for suffix in suffixes}


def load_map(path: str | Path) -> np.ndarray:
    """Read an anomaly map, whatever its type of number, as float32 [H, W]; axes of length 1 are dropped.

    Values are taken as they are. The measures look at their order only, so that 8 or 16 bits are on no scale;
    what float64 or integers above 2^24 tell apart beyond float32's precision becomes a tie.

    Raises:
        UserError: the file cannot be read, or is not one map of finite numbers; the message has its name.
    """
    path = Path(path)
    try:
        values = _values(path)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"cannot read the map {path}: it is not a PNG file") from error
    except Exception as error:  # broken files make the decoders raise almost anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"cannot read the map {path}: {' '.join(reason.split())}") from error
    if values.dtype.kind not in "biuf":
        raise UserError(f"the map {path} holds no real numbers but {values.dtype}")
    shape = values.shape
    if values.ndim > 2:
        values = values.squeeze()
    if values.ndim != 2 or not values.size:
        raise UserError(f"the map {path} is an array of shape {shape}: expected is height x width")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(values).all():
        y, x = np.argwhere(~np.isfinite(values))[0]
        raise UserError(f"the map {path} has a value that is not finite in float32, in row {y}, column {x}")
    return values


def _values(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix in (".tiff", ".tif"):
        return tifffile.imread(path)
    with Image.open(path, formats=["PNG"]) as image:
        if image.mode not in _GREY_MODES and not image.mode.startswith("I;16"):
            raise UserError(f"the map {path} is a picture in {image.mode}, not in grey: its values are lost")
        return np.asarray(image)


class SavedMapDataset(Dataset):
    """Maps with the masks that are known, each at the map's own size; what a user can mend is returned.

    Args:
        entries: the images.
        root: the data set's folder, for the masks; the images themselves are not read.
        maps: the file of each entry's map.
        map_size: side in pixels of a square that every map is resized to, bilinear and antialiased;
            None keeps its own size.
        mask_threshold: see `load_mask`.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        root: str | Path,
        maps: Sequence[Path],
        *,
        map_size: int | None = None,
        mask_threshold: int = 0,
    ) -> None:
        self.entries = list(entries)
        self.root = Path(root)
        self.maps = list(maps)
        self.map_size = map_size
        self.mask_threshold = mask_threshold

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Item | UserError:
        entry = self.entries[index]
        try:
            values = torch.from_numpy(load_map(self.maps[index]))[None]  # [1, H, W]
            if self.map_size is not None:
                values = resize(values, [self.map_size, self.map_size], antialias=True)
            mask = known_mask(entry, self.root, tuple(values.shape[1:]), self.mask_threshold)
            return Item(values, mask, index, entry)
        except UserError as error:
            return error


def make_map_loader(
    dataset: SavedMapDataset, num_workers: int = 0, *, share: slice = slice(None)
) -> ErrorRaisingLoader:
    """Batches of one map each, since maps of two classes may differ in size; `images` are the maps [1, 1, H, W].

    Args:
        dataset: the maps.
        num_workers: processes that read ahead; 0 reads in this one.
        share: which of the maps to give; the others are other processes'.
    """
    return loader_in_order(dataset, range(len(dataset)), batch_size=1, num_workers=num_workers, share=share)


class SavedMaps:
    """The `Detector` of saved maps: what the loader gives as images [B, 1, H, W] are the maps already."""

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        """The maps [B, H, W], without a probability."""
        return Prediction(maps=images[:, 0], text_prob=None)

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        """The maps' maxima."""
        return map_max
