"""What can be wrong with masks, which nobody looks at once they are tensors: looked at here in their files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from data.found import Kind, Note
from datasets.images import mask_channels, mask_files, size_and_orientation
from datasets.meta import Entry
from utils.errors import UserError, some_of

if TYPE_CHECKING:
    from datasets.image_set import ImageSet  # which needs PyTorch, and the builders' --help does not

NEARLY_ALL, MOST, MOST_OF_EDGES = 0.9, 0.5, 0.75  # shares of an image that no defect is expected to cover
FEW_IDS = 8  # values up to half of the largest that a mask of class ids may hold
LEAST_INSIDE = 0.25  # share of a class's pixels that have none but its own beside them; edges and noise have fewer


def check_masks(entries: Sequence[Entry], root: Path, threshold: int) -> list[Note]:
    """Note what looks wrong with the masks of a list; those that cannot be read are left to whoever reads them next."""

    def check(entry: Entry) -> list[Note]:
        try:
            return mask_notes(entry, root, threshold)
        except UserError:
            return []

    masked = [entry for entry in entries if entry.mask_path]
    with ThreadPoolExecutor() as pool:
        checked = list(tqdm(pool.map(check, masked), total=len(masked), desc="masks", unit="image", disable=None))
    return [*(note for notes in checked for note in notes), *shared_masks(masked)]


def mask_notes(entry: Entry, root: Path, threshold: int) -> list[Note]:
    """Note what looks wrong with an entry's mask."""
    path = root / entry.mask_path
    values, alpha = mask_channels(path)
    (width, height), orientation = size_and_orientation(root / entry.img_path)
    mask, (own_height, own_width) = values > threshold, values.shape
    fits = (own_width, own_height) == (width, height)
    # A mask that is as high as the image is wide, where that is not the same, was drawn on the image as it is stored.
    is_turned = orientation != size_and_orientation(mask_files(path)[0])[1] and not (
        fits and orientation >= 5 and width != height
    )
    sizes = f"{entry.mask_path} ({own_width} x {own_height}, its image {width} x {height})"
    faults = [
        (not fits, Kind.OTHER_SIZE, sizes),
        (entry.anomaly == 1 and not mask.any(), Kind.EMPTY_MASK, entry.mask_path),
        (entry.anomaly == 0 and mask.any(), Kind.NORMAL_WITH_MASK, f"{entry.img_path} ({entry.mask_path})"),
        (_is_covering(mask), Kind.COVERING_MASK, entry.mask_path),
        (_has_greys(values, mask), Kind.GREY_MASK, entry.mask_path),
        (alpha is not None and ((alpha > threshold) != mask).any() and np.ptp(alpha), Kind.ALPHA_MASK, entry.mask_path),
        (is_turned, Kind.TURNED, entry.img_path),
    ]
    return [Note(kind, where, entry.cls_name) for is_so, kind, where in faults if is_so]


def _is_covering(mask: np.ndarray) -> bool:
    """Tell whether a mask [H, W] covers nearly all, or most of the image and its edges, as an inverted one does."""
    edges = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return mask.mean() >= NEARLY_ALL or (mask.mean() > MOST and edges.mean() >= MOST_OF_EDGES)


def _has_greys(values: np.ndarray, mask: np.ndarray) -> bool:
    """Tell whether a mask has anomalous pixels up to half of its largest value that are an edge or noise, no class."""
    grey = mask & (values <= values.max() / 2)
    inside = grey[1:-1, 1:-1] & grey[:-2, 1:-1] & grey[2:, 1:-1] & grey[1:-1, :-2] & grey[1:-1, 2:]
    return inside.sum() < LEAST_INSIDE * grey.sum() or len(np.unique(values[grey])) > FEW_IDS


def shared_masks(entries: Iterable[Entry]) -> Iterator[Note]:
    """Note each mask that two images or more are to have; normal images may share an empty one, which is not read."""
    images = defaultdict(list)
    for entry in entries:
        if entry.mask_path and entry.anomaly != 0:
            images[entry.mask_path].append(entry)
    for mask, owners in images.items():
        if len(owners) > 1:
            of_images = ", ".join(entry.img_path for entry in owners)
            yield Note(Kind.SHARED_MASK, f"{mask} ({of_images})", owners[0].cls_name)


def vanishing(images: ImageSet, size: int, *, nearest: bool = False) -> list[str]:
    """Say of which masks of anomalous images nothing is left at an input of `size` pixels a side, in one sentence."""
    masked = [entry for entry in images.entries if entry.anomaly == 1 and entry.mask_path]
    with ThreadPoolExecutor() as pool:
        masks = pool.map(lambda entry: bool(images.read_mask(entry, (size, size), nearest=nearest).any()), masked)
        gone = [entry.mask_path for entry, is_left in zip(masked, masks, strict=True) if not is_left]
    return [vanished(gone, size, size)] if gone else []


def vanished(masks: Sequence[str], height: int, width: int) -> str:
    """Say that nothing is left of masks at the size they are used at."""
    what = f"masks of which nothing is left at {width} x {height} px, so that these defects count as normal"
    return f"{what} ({len(masks)}): {some_of(masks)}"
