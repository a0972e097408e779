"""Several processes that share one run, as `torchrun` starts them; in a single process everything here does nothing.

Tensors travel by gloo from a CPU and by NCCL from a GPU, objects by gloo.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from itertools import chain, cycle, islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  # for the slowest process to come to where the others wait


def start() -> dist.Store:
    """Join the other processes, and return the store that all of them can reach until the end."""
    store, rank, world_size = next(dist.rendezvous("env://", timeout=TIMEOUT))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)
    return store


def finish() -> None:
    """Leave when all have done their work: one that left before would look like one that died."""
    barrier()
    dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0 on."""
    return dist.get_rank() if _is_shared() else 0


def world_size() -> int:
    """Count the processes."""
    return dist.get_world_size() if _is_shared() else 1


def local_rank() -> int:
    """This process's number among those on its machine, from 0 on."""
    return int(os.environ["LOCAL_RANK"]) if _is_shared() else 0


def local_world_size() -> int:
    """Count the processes on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if _is_shared() else 1


def is_main() -> bool:
    """Tell whether this is the process that writes files and the log."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes to come here."""
    if _is_shared():
        dist.all_reduce(torch.zeros(1))  # on the CPU, where no process has to have chosen its GPU yet


@contextmanager
def first_of_machine_first() -> Iterator[None]:
    """Let one process of each machine run a block before the others, which find on the disk what it left."""
    if local_rank() > 0:
        barrier()
    yield
    if local_rank() == 0:
        barrier()


def from_main(make: Callable[[], T]) -> T:
    """Call `make` in the main process alone; returns in all processes what it gave there."""
    made = [make() if is_main() else None]
    if _is_shared():
        dist.broadcast_object_list(made, src=0)
    return made[0]


def shared_out(make: Callable[[Sequence[int]], Sequence[T]], count: int) -> list[T]:
    """Make items 0 to `count` - 1 from their indices, each process every n-th; returns all of them in all processes."""
    ranks = world_size()
    own = list(make(range(rank(), count, ranks)))
    parts: list[Any] = [own] * ranks
    if ranks > 1:
        dist.all_gather_object(parts, own)
    return [parts[i % ranks][i // ranks] for i in range(count)]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum every process's tensor, all of one shape; the gradient is that of the sum of their losses."""
    return _Sum.apply(x) if _is_shared() else x


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their sums over the processes; no gradient counts as zero."""
    for parameter in parameters if _is_shared() else ():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def in_turn(
    items: Iterable[T],  # this process's, none of them None
    error_type: type[Exception],  # of errors that other processes' items may raise; the main one raises them in turn
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,  # in which to wait for another process's item
) -> Iterator[T]:
    """Yield all items in the main process: its own first one, the first of process 1, and so on, then the seconds.

    The other processes hand their items over and yield none. Of a process's items, no more than one is under way.
    """
    if not is_main():
        try:
            for item in chain(items, [None]):  # which says that it was the last
                dist.send_object_list([item], dst=0)
        except error_type as error:
            dist.send_object_list([error], dst=0)
            barrier()  # until the main process, having raised the error, ends the run
        return

    def receive(source: int) -> T | None:
        item: list[Any] = [None]
        with waiting():
            dist.recv_object_list(item, src=source)
        if isinstance(item[0], error_type):
            raise item[0]
        return item[0]

    sources = iter([iter(items), *(iter(partial(receive, source), None) for source in range(1, world_size()))])
    for unfinished in range(world_size(), 0, -1):
        sources = cycle(islice(sources, unfinished))  # from the one after that which came to its end
        yield from map(next, sources)


def _is_shared() -> bool:
    return dist.is_available() and dist.is_initialized()
