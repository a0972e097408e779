"""Batches of a data set's images and masks, in the order of its entries."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from datasets.images import load_mask, load_rgb
from datasets.meta import Entry
from datasets.transforms import image_transform, mask_transform
from utils.errors import UserError


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        image: float32 [3, S, S].
        mask: bool [S, S], `None` where no mask is known.
        index: which entry it is.
        entry: that entry.
    """

    image: torch.Tensor
    mask: torch.Tensor | None
    index: int
    entry: Entry


@dataclass(frozen=True)
class Batch:
    """Images of one batch.

    Attributes:
        images: float32 [B, 3, S, S].
        masks: bool [B, S, S], all false where no mask is known.
        has_mask: bool [B], where a mask is known.
        indices: which entries they are.
        entries: those entries.
    """

    images: torch.Tensor
    masks: torch.Tensor
    has_mask: torch.Tensor
    indices: list[int]
    entries: list[Entry]

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, for a faster copy to a GPU."""
        return replace(
            self, images=self.images.pin_memory(), masks=self.masks.pin_memory(), has_mask=self.has_mask.pin_memory()
        )


def empty_batch(image_size: int) -> Batch:
    """A batch without an image."""
    nothing = torch.zeros(0, image_size, image_size, dtype=torch.bool)
    return Batch(torch.zeros(0, 3, image_size, image_size), nothing, torch.zeros(0, dtype=torch.bool), [], [])


class AnomalyDataset(Dataset):
    """The images of a list of entries, with the masks that are known.

    A normal image's mask is empty, and is not read. An anomalous or unlabelled image without a mask file has
    no known mask. What a user can mend (a missing or broken file) is returned instead of the item, not
    raised: a worker's exception would reach the user wrapped in two tracebacks.

    Args:
        entries: what to read.
        root: the data set's folder.
        image_size: side S of the images in pixels.
        mask_threshold: see `load_mask`.
        with_masks: whether masks are wanted; if not, none is read and none is known.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        root: str | Path,
        image_size: int,
        *,
        mask_threshold: int = 0,
        with_masks: bool = True,
    ) -> None:
        self.entries = list(entries)
        self.root = Path(root)
        self.image_size = image_size
        self.mask_threshold = mask_threshold
        self.with_masks = with_masks

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Item | UserError:
        entry = self.entries[index]
        try:
            image = image_transform(load_rgb(self.root / entry.img_path), self.image_size)
            return Item(image, self._mask(entry), index, entry)
        except UserError as error:
            return error

    def _mask(self, entry: Entry) -> torch.Tensor | None:
        if not self.with_masks:
            return None
        return known_mask(entry, self.root, (self.image_size, self.image_size), self.mask_threshold)


def known_mask(entry: Entry, root: Path, size: tuple[int, int], mask_threshold: int) -> torch.Tensor | None:
    """An image's mask, bool [H, W] of the height and width `size`; `None` where none is known.

    Raises:
        UserError: the mask cannot be read.
    """
    if entry.anomaly == 0:
        return torch.zeros(size, dtype=torch.bool)
    if not entry.mask_path:
        return None
    return mask_transform(load_mask(root / entry.mask_path, mask_threshold), size)


def collate(items: Sequence[Item | UserError]) -> Batch | UserError:
    """Stack items to a batch; the first error among them takes its place."""
    for item in items:
        if isinstance(item, UserError):
            return item
    images = torch.stack([item.image for item in items])
    unknown = torch.zeros(images.shape[-2:], dtype=torch.bool)
    return Batch(
        images=images,
        masks=torch.stack([unknown if item.mask is None else item.mask for item in items]),
        has_mask=torch.tensor([item.mask is not None for item in items]),
        indices=[item.index for item in items],
        entries=[item.entry for item in items],
    )


class ErrorRaisingLoader(DataLoader):
    """A `DataLoader` that raises, in the main process, the `UserError` that took a batch's place."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def make_loader(
    entries: Sequence[Entry],
    root: str | Path,
    image_size: int,
    batch_size: int,
    num_workers: int = 0,
    *,
    mask_threshold: int = 0,
    with_masks: bool = True,
    share: slice = slice(None),
    pin_memory: bool = False,
    seed: int = 0,
) -> ErrorRaisingLoader:
    """Batches of `entries`, in their order, each of one class; a class's last may be smaller.

    So a method whose predictions depend on the batch gives a class the same ones whatever else is tested.

    Args:
        entries, root, image_size, mask_threshold, with_masks: see `AnomalyDataset`.
        batch_size: images a batch.
        num_workers: processes that read ahead; 0 reads in this one.
        share: which of the batches to give; the others are other processes'.
        pin_memory: hand batches over in page-locked memory.
        seed: of the workers' random numbers; torch's global generator is left untouched.

    Raises:
        UserError: while iterating, where an image or a mask cannot be read.
    """
    dataset = AnomalyDataset(entries, root, image_size, mask_threshold=mask_threshold, with_masks=with_masks)
    batches = []
    for _, group in groupby(range(len(dataset)), key=lambda index: dataset.entries[index].cls_name):
        batches += _chunks(list(group), batch_size)
    return _loader(dataset, batches[share], num_workers, pin_memory=pin_memory, seed=seed)


def loader_in_order(
    dataset: Dataset,
    order: Sequence[int],
    batch_size: int,
    num_workers: int = 0,
    *,
    collate_fn: Callable[[list[Any]], Any] = collate,
    share: slice = slice(None),
    pin_memory: bool = False,
    seed: int = 0,
) -> ErrorRaisingLoader:
    """Batches of a dataset's items with the indices `order`, in that order; for the rest see `make_loader`.

    Items become a batch by `collate_fn`.
    """
    return _loader(
        dataset, _chunks(order, batch_size)[share], num_workers, collate_fn=collate_fn, pin_memory=pin_memory, seed=seed
    )


def _chunks(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _loader(
    dataset: Dataset,
    batches: Sequence[Sequence[int]],
    num_workers: int,
    *,
    collate_fn: Callable[[list[Any]], Any] = collate,
    pin_memory: bool,
    seed: int,
) -> ErrorRaisingLoader:
    return ErrorRaisingLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate_fn,
        pin_memory=pin_memory,
        worker_init_fn=end_quietly,
        generator=torch.Generator().manual_seed(seed),
    )


def end_quietly(worker_id: int) -> None:
    """Set a worker up so that Ctrl-C, which reaches it too, is the main process's affair: no tracebacks.

    The main process ends its workers. If it was just taking a tensor over, the worker's thread that hands
    tensors out finds the connection cut, and reports that through `sys.excepthook`.
    """

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError | EOFError):
            sys.__excepthook__(kind, error, trace)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = report
