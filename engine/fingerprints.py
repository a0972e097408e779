"""Which images a training takes, by the content of their files: folders may be moved, and copies are recognised."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from datasets.image_set import ImageSet
from datasets.meta import Entry
from models.adapter_checkpoint import AdapterCheckpoint
from utils.distributed import shared_out
from utils.files import sha256_of
from utils.runtime import progress

READERS = 4  # threads that read files
COLUMNS = ("img_path", "cls_name", "anomaly", "mask_sha256", "bytes", "sha256")  # what is known of each image
Fingerprints = Mapping[str, Sequence[Any]]  # column -> its value for each image, in the order of the training
T = TypeVar("T")


def for_each_image(read: Callable[[ImageSet, Entry], T], sets: Sequence[ImageSet], description: str) -> list[T]:
    """Call what reads files for every image of data sets, in threads, and shared out among the processes."""
    entries = [(images, entry) for images in sets for entry in images.entries]

    def read_all(indices: Sequence[int]) -> list[T]:
        with ThreadPoolExecutor(READERS) as readers:
            found = readers.map(lambda index: read(*entries[index]), indices)
            return list(progress(found, total=len(indices), unit="image", desc=description))

    return shared_out(read_all, len(entries))


def fingerprints(sets: Sequence[ImageSet]) -> Fingerprints:
    """Read what a training on data sets depends on: names, labels, and the content of images and masks."""

    def read(images: ImageSet, entry: Entry) -> tuple[Any, ...]:
        path, has_mask = images.root / entry.img_path, entry.anomaly != 0 and entry.mask_path
        mask = sha256_of(images.root / entry.mask_path) if has_mask else ""
        return entry.img_path, entry.cls_name, entry.anomaly, mask, path.stat().st_size, sha256_of(path)

    rows = for_each_image(read, sets, "fingerprints")
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


def described(record: Fingerprints) -> dict[str, str]:
    """Say of each image, by its place in the order, what its fingerprint is."""
    rows = zip(*(record[name] for name in COLUMNS), strict=True)
    return {
        f"image {place}": f"{path} of class {name} (label {label}, SHA-256 {digest}, mask's {mask or 'none'})"
        for place, (path, name, label, mask, _, digest) in enumerate(rows, 1)
    }


def known_images(images: ImageSet, record: Fingerprints) -> list[Entry]:
    """Find the images of a data set whose files have the content of one in the record, whatever they are called.

    Only files of the size of one are read; one that cannot be is not known.
    """
    sizes, digests = set(record["bytes"]), set(record["sha256"])

    def is_known(images: ImageSet, entry: Entry) -> bool:
        path = images.root / entry.img_path
        with suppress(OSError):
            return path.stat().st_size in sizes and sha256_of(path) in digests
        return False

    found = for_each_image(is_known, [images], "comparing")
    return [entry for entry, known in zip(images.entries, found, strict=True) if known]


def seen_in_training(checkpoints: Iterable[AdapterCheckpoint], images: ImageSet) -> list[str]:
    """Say how many of a data set's images checkpoints were trained on, and which files do not record theirs."""
    said, name, count = [], images.spec.name, len(images.entries)
    records: list[Fingerprints] = []
    for checkpoint in checkpoints:
        if checkpoint.images is None:
            said.append(f"{checkpoint.path} does not record its images: whether it was trained on {name} is not known")
        elif checkpoint.images not in records:  # all epochs of a training have the same
            records.append(checkpoint.images)
    for seen in filter(None, (len(known_images(images, record)) for record in records)):
        what = name if seen == count else f"{name} ({seen} of {count} images)"
        said.append(f"{what} is what the checkpoint was trained on: its figures say nothing of unseen data")
    return said
