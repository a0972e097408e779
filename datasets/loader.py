"""Batches of images and masks, in a given order."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from datasets.image_set import ImageSet
from datasets.images import load_rgb
from datasets.meta import Entry
from datasets.transforms import image_transform
from utils.errors import UserError


@dataclass(frozen=True)
class Item:
    """One image."""

    image: torch.Tensor  # float32 [3, S, S]
    mask: torch.Tensor | None  # bool [S, S], None where no mask is known
    index: int  # which entry it is
    entry: Entry


class Batch(NamedTuple):
    """Images of one batch; a tuple, so that a loader can put its tensors into page-locked memory."""

    images: torch.Tensor  # float32 [B, 3, S, S]
    masks: torch.Tensor  # bool [B, S, S], all false where no mask is known
    has_mask: torch.Tensor  # bool [B], where a mask is known
    indices: list[int]  # which entries they are
    entries: list[Entry]


def empty_batch(image_size: int) -> Batch:
    """A batch without an image."""
    nothing = torch.zeros(0, image_size, image_size, dtype=torch.bool)
    return Batch(torch.zeros(0, 3, image_size, image_size), nothing, torch.zeros(0, dtype=torch.bool), [], [])


@dataclass(frozen=True)
class ItemDataset(Dataset):
    """The items of a set of images, each read when asked for, by a subclass's `read` (see `AnomalyDataset`).

    What a user can mend (a missing or broken file) is returned instead of the item, not raised: a worker's exception
    would reach the user wrapped in two tracebacks.
    """

    images: ImageSet

    def __len__(self) -> int:
        return len(self.images.entries)

    def __getitem__(self, index: int) -> Item | UserError:
        try:
            return self.read(index, self.images.entries[index])
        except UserError as error:
            return error


@dataclass(frozen=True)
class AnomalyDataset(ItemDataset):
    """Images as they are tested, `image_size` pixels a side, with the masks that are known."""

    image_size: int

    def read(self, index: int, entry: Entry) -> Item:
        image = image_transform(load_rgb(self.images.root / entry.img_path), self.image_size)
        return Item(image, self.images.read_mask(entry, (self.image_size, self.image_size)), index, entry)


def collate(items: Sequence[Item | UserError]) -> Batch | UserError:
    """Stack items to a batch; the first error among them takes its place."""
    if errors := [item for item in items if isinstance(item, UserError)]:
        return errors[0]
    images = torch.stack([item.image for item in items])
    unknown = torch.zeros(images.shape[-2:], dtype=torch.bool)
    return Batch(
        images,
        torch.stack([unknown if item.mask is None else item.mask for item in items]),
        torch.tensor([item.mask is not None for item in items]),
        [item.index for item in items],
        [item.entry for item in items],
    )


def in_batches(order: Sequence[int], size: int) -> list[Sequence[int]]:
    """Cut indices into batches; the last may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def in_batches_of_one_class(entries: Sequence[Entry], size: int) -> list[Sequence[int]]:
    """Cut the indices of entries into batches, each of one class; a class's last may be smaller.

    So a method whose predictions depend on the batch gives a class the same ones whatever else is tested.
    """
    classes = groupby(range(len(entries)), key=lambda index: entries[index].cls_name)
    return [batch for _, indices in classes for batch in in_batches(list(indices), size)]


class ErrorRaisingLoader(DataLoader):
    """A `DataLoader` that raises, in the main process, the `UserError` that took a batch's place."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def make_loader(
    dataset: Dataset,
    batches: Sequence[Sequence[int]],
    num_workers: int = 0,
    *,
    collate_fn: Callable[[list[Any]], Any] = collate,
    pin_memory: bool = False,
    seed: int = 0,
) -> ErrorRaisingLoader:
    """Load the items of a dataset in batches, given as their indices; errors come up in iterating.

    `seed` is that of the workers' random numbers; torch's global generator is left untouched.
    """
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
