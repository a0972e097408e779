"""Readers of data sets that tell by an image's mask alone whether it is anomalous; and KolektorSDD's strips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data.found import MASK_ENDING, Found, Kind, list_folders, list_images, subfolder, top_folder
from datasets.images import load_mask, load_rgb, mask_channels
from datasets.meta import SPLITS
from utils.errors import UserError
from utils.files import atomic_open, nfc

STRIPS, STRIPS_FOLDER = 3, "strips"  # of an image, from top to bottom, and where they are kept


def read_marked(root: Path, top: str, name: str | None = None, *, mask_threshold: int = 0) -> Found:
    """Read a data set in its folder `top`, if that is there: of one class, called `name`, or of a folder for each.

    Masks end in `_label` or `_GT`. Those of one class lie beside all images; those of several in a folder `Label`,
    which has none for normal images.
    """
    found = Found(root)
    folder = top_folder(root, top)
    for class_name, place in {name: folder}.items() if name else ((path.name, path) for path in list_folders(folder)):
        for split in SPLITS:
            images = subfolder(place, split)
            files = [*list_images(images), *([] if name else list_images(subfolder(images, "Label")))]
            _add_marked(found, split, files, class_name, mask_threshold, all_have_masks=name is not None)
    return found


def read_ksdd(root: Path, *, strips: bool = False, mask_threshold: int = 0) -> Found:
    """Read KolektorSDD's images, or what `cut_strips` has cut them into, all of them as the test split."""
    found = Found(root)
    for folder in [root / STRIPS_FOLDER] if strips else _parts(root):
        _add_marked(found, "test", list_images(folder), "ksdd", mask_threshold)
    return found


def cut_strips(root: Path) -> None:
    """Cut KolektorSDD's images and masks into strips of one height, as PNG files in the folder `strips`."""
    files = [path for folder in _parts(root) for path in list_images(folder)]
    for path in tqdm(files, desc="cutting", unit="image", disable=None):
        stem, ending = MASK_ENDING.sub("", path.stem), "_label" if MASK_ENDING.search(path.stem) else ""
        pixels = mask_channels(path)[0].astype(np.uint8) if ending else np.asarray(load_rgb(path))
        for number, strip in enumerate(np.array_split(pixels, STRIPS)):
            name = f"{path.parent.name}_{stem}_{number}{ending}.png"
            with atomic_open(root / STRIPS_FOLDER / name, "wb") as file:
                Image.fromarray(strip).save(file, "PNG")


def _parts(root: Path) -> list[Path]:
    """List KolektorSDD's folders kos01, kos02, ..., one for each part that was photographed."""
    return [folder for folder in list_folders(root) if folder.name.lower().startswith("kos")]


def _add_marked(
    found: Found, split: str, files: Sequence[Path], name: str, threshold: int, *, all_have_masks: bool = True
) -> None:
    """Add a class's images among the files, the others being masks; of the training split, normal ones only."""
    masks = {nfc(MASK_ENDING.sub("", path.stem)): path for path in files if MASK_ENDING.search(path.stem)}
    images = [path for path in files if not MASK_ENDING.search(path.stem)]
    normal, anomalous = [], []
    for image in images:
        mask = masks.get(nfc(image.stem))
        try:
            is_anomalous = mask is not None and load_mask(mask, threshold).any()
        except UserError as error:
            found.note(Kind.UNREADABLE_MASK, f"{error}, so that the label of {found.path(image)} is unknown", name)
            continue
        if mask is None and all_have_masks:
            found.note(Kind.NO_LABEL, found.path(image), name)
        else:
            (anomalous if is_anomalous else normal).append(image)
    found.add(split, normal, name, "good", 0)
    if split == "test":
        known = {nfc(image.stem) for image in images}.difference(nfc(image.stem) for image in anomalous)
        found.add_masked(anomalous, [mask for stem, mask in masks.items() if stem not in known], name, "defect")
