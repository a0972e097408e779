"""Batches of images and masks, in a given order."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from datasets.image_set import ImageSet
from datasets.meta import Entry
from datasets.parcel import GLANCE, PATIENCE, Parcel, StalledError
from datasets.transforms import as_array, image_transform
from utils.distributed import rank, world_size
from utils.errors import UserError, interrupts_wait


class Batch(NamedTuple):
    """Images of one batch, or a single one, then without the axis B; a tuple, as loaders stack and pin its tensors."""

    images: torch.Tensor  # uint8 [B, 3, S, S]; normalised, float32, to train DP-CLIP on; of saved maps, the maps
    masks: torch.Tensor  # bool [B, S, S], all false where no mask is known
    has_mask: torch.Tensor | bool  # bool [B], where a mask is known
    indices: torch.Tensor | int  # int64 [B], which images they are
    pictures: Sequence[torch.Tensor] | torch.Tensor | None = None  # uint8 RGB [H, W, 3] each, to cut tiles from


def empty_batch(image_size: int) -> Batch:
    """Make a batch without an image."""
    images, masks = torch.zeros(0, 3, image_size, image_size), torch.zeros(0, image_size, image_size, dtype=torch.bool)
    return Batch(images, masks, torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64))


@dataclass(frozen=True)
class ItemDataset(Dataset):
    """The images of a set one by one, each read when asked for, by a subclass's `read` (see `AnomalyDataset`).

    What a user can mend (a missing or broken file) is returned instead of the image, with the item's `index`, and not
    raised: a worker's exception would reach the user wrapped in two tracebacks.
    """

    images: ImageSet
    first: int = field(default=0, kw_only=True)  # number of the first image, where sets are counted through

    def __len__(self) -> int:
        return len(self.images.entries)

    def place(self, index: int) -> Path:
        """Say where an item's image is."""
        return self.images.root / self.images.entries[index].img_path

    def __getitem__(self, index: int) -> Batch | UserError:
        number = self.first + index
        try:
            image, mask, *picture = self.read(self.images.entries[index], number)
        except UserError as error:
            error.index = index
            return error
        known = mask is not None
        return Batch(image, mask if known else torch.zeros(image.shape[1:], dtype=torch.bool), known, number, *picture)


@dataclass(frozen=True)
class AnomalyDataset(ItemDataset):
    """Images as they are tested, `image_size` pixels a side, with the masks that are known.

    To cut tiles from, the picture is given too, and the mask is of its size; as two may differ, a batch is one image.
    """

    image_size: int
    tiled: bool = False

    def read(self, entry: Entry, number: int) -> tuple[torch.Tensor | None, ...]:
        """Read an image, uint8 [3, S, S], and its mask, bool [S, S]; None where no mask is known."""
        picture = self.images.load(entry)
        image = image_transform(picture, self.image_size)
        if not self.tiled:
            return image, self.images.read_mask(entry, (self.image_size, self.image_size))
        mask = self.images.read_mask(entry, (picture.height, picture.width))
        return image, mask, torch.from_numpy(as_array(picture))


def stack(items: Sequence[Batch]) -> Batch:
    """Stack images to a batch, in a process's own memory, which PyTorch's `default_collate` does not in a worker."""
    images, masks, has_mask, indices, pictures = zip(*items, strict=True)
    tensors = (torch.stack(images), torch.stack(masks), torch.tensor(has_mask), torch.tensor(indices))
    return Batch(*tensors, None if pictures[0] is None else pictures)


def collate(items: Sequence[Batch | UserError]) -> Batch | UserError:
    """Stack images to a batch; the first error among them takes its place."""
    return next((item for item in items if isinstance(item, UserError)), None) or stack(items)


def epoch_order(count: int, seed: int, epoch: int, *, shuffled: bool) -> Sequence[int]:
    """Order the images of an epoch, counted from 1; of several processes, this one's."""
    order = np.random.default_rng([seed, epoch]).permutation(count).tolist() if shuffled else range(count)
    return order[rank() :: world_size()]


class PartialBatch(NamedTuple):
    """What could be read of a batch, None if nothing, and by its number why an image could not be."""

    batch: Batch | None
    broken: dict[int, str]


def collate_readable(items: Sequence[Batch | UserError]) -> PartialBatch:
    """Stack the images of a batch that could be read."""
    broken = {item.index: str(item) for item in items if isinstance(item, UserError)}
    readable = [item for item in items if isinstance(item, Batch)]
    return PartialBatch(stack(readable) if readable else None, broken)


def in_batches(order: Sequence[int], size: int) -> list[Sequence[int]]:
    """Cut indices into batches; the last may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def in_batches_of_one_class(entries: Sequence[Entry], size: int) -> list[Sequence[int]]:
    """Cut the indices of entries into batches, each of one class; a class's last may be smaller.

    So a method whose predictions depend on the batch gives a class the same ones whatever else is tested.
    """
    classes = groupby(range(len(entries)), key=lambda index: entries[index].cls_name)
    return [batch for _, indices in classes for batch in in_batches(list(indices), size)]


@dataclass(frozen=True)
class _Watched(Dataset):
    """Items of a dataset, and the index of the one that each worker is at."""

    dataset: Dataset
    at: Any  # in memory that processes share: by worker, the index + 1, or 0

    def __getitem__(self, index: int) -> Any:
        worker = get_worker_info().id
        self.at[worker] = index + 1
        try:
            return self.dataset[index]
        finally:
            self.at[worker] = 0


class ErrorRaisingLoader(DataLoader):
    """A `DataLoader` that raises, in the main process, the `UserError` that took a batch's place, or if workers stall.

    They are looked at again and again, as the time that a whole program is stopped for (Ctrl-Z) is not theirs.
    """

    def __iter__(self) -> Iterator[Batch]:
        with interrupts_wait():  # which would otherwise leave some workers, or a traceback of one
            batches = super().__iter__()
        before, seconds = None, 0.0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, StalledError) as error:
                is_late = str(error).startswith("DataLoader timed out")
                if not self.num_workers or not (is_late or isinstance(error, StalledError)):
                    raise
                now = [*self.dataset.at]
                if is_late:
                    before, seconds = now, seconds + self.timeout if now == before else 0.0
                    if seconds < PATIENCE:
                        continue
                items = self.dataset.dataset
                place = getattr(items, "place", "image number {}".format)  # which joined data sets have not
                stuck = ", ".join(str(place(one - 1)) for one in now if one) or "none"
                raise UserError(
                    f"the processes that read images have stood still for {PATIENCE:g} seconds, at {stuck}: see to "
                    "that file and its disk, or try --num_workers 0"
                ) from error
            if isinstance(batch, UserError):
                raise batch
            before = None
            yield batch


def make_loader(
    dataset: Dataset, batches: Sequence[Sequence[int]], num_workers: int = 0, *, seed: int = 0, **options: Any
) -> ErrorRaisingLoader:
    """Load the items of a dataset in batches, given as their indices; errors come up in iterating.

    `seed` is that of the workers' random numbers; torch's global generator is left untouched. Further `options` are
    those of `DataLoader`.
    """
    options, num_workers = {"collate_fn": collate, **options}, min(num_workers, len(batches))
    if num_workers:
        dataset = _Watched(dataset, RawArray("Q", num_workers))
        options |= {"collate_fn": partial(_pack, options["collate_fn"]), "timeout": GLANCE}
        options["worker_init_fn"] = end_quietly
    else:
        options["prefetch_factor"] = None
    generator = torch.Generator().manual_seed(seed)
    return ErrorRaisingLoader(dataset, batch_sampler=batches, num_workers=num_workers, generator=generator, **options)


def _pack(collate_fn: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Parcel | UserError:
    try:
        return Parcel(collate_fn(items))
    except OSError as error:
        reason = error.strerror or error
        return UserError(f"a process that reads images cannot hand them over ({reason}): try --num_workers 0")


def end_quietly(worker_id: int) -> None:
    """Set a worker up so that Ctrl-C, which reaches it too, is the main process's affair: no tracebacks.

    The main process ends its workers. If it was just taking a batch over, the worker's thread that hands
    batches out finds the connection cut, and reports that through `sys.excepthook`.
    """

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError | EOFError):
            sys.__excepthook__(kind, error, trace)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = report
