"""Batches on their way from a worker to the main process, each in one file in memory that has no name.

PyTorch would put every tensor into a file of its own in /dev/shm, of which a container often has 64 MB, and hold them
all open. Where that is too small, or too many are open, a thread loses the batch, and the main process waits for ever.
"""

import io
import mmap
import os
import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing.reduction import DupFd
from typing import Any

import torch

ALIGNMENT = 64  # bytes
PATIENCE = 120.0  # seconds that a worker may do nothing for
GLANCE = 5.0  # seconds between two looks at workers that are waited for


class StalledError(Exception):
    """A worker said that it has a batch, and did not hand it over."""


class Parcel:
    """A value that a worker hands over: pickled it is a file's descriptor, unpickled it is the value.

    The values of tensors and arrays are copied once, into the file; the main process maps it, as a whole for as long as
    any of them is kept: who keeps part of a batch must copy it. Little goes through the pipe: a worker that had left
    more there than fits would outlive a main process that is killed.
    """

    def __init__(self, value: Any) -> None:
        content, buffers, sizes = io.BytesIO(), [], []
        _Pickler(content, 5, buffer_callback=buffers.append).dump(value)
        with os.fdopen(os.memfd_create("batch"), "w+b") if hasattr(os, "memfd_create") else _unnamed() as file:
            for view in (buffer.raw() for buffer in buffers):
                sizes.append(view.nbytes)
                file.write(view)
                file.write(bytes(-view.nbytes % ALIGNMENT))
            self.head = file.tell()
            pickle.dump((sizes, content.getvalue()), file)
            file.flush()
            self.descriptor = DupFd(file.fileno())

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (self.descriptor, self.head)


_unnamed = tempfile.TemporaryFile  # on macOS


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays, whose values it leaves to the callback."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, torch.Tensor) else NotImplemented


def _unpack(descriptor: Any, head: int) -> Any:
    taking = ThreadPoolExecutor(1)  # as a worker that is stopped hands nothing out, and a connection waits for ever
    try:
        handed_over = taking.submit(descriptor.detach)
        # Look by look, as the time that the whole program is stopped for (Ctrl-Z) is not the worker's.
        if not any(wait([handed_over], GLANCE).done for _ in range(round(PATIENCE / GLANCE))):
            raise StalledError
        file = handed_over.result()
    finally:
        taking.shutdown(wait=False)
    try:
        memory = memoryview(mmap.mmap(file, 0))  # which goes with the last tensor that is in it
    finally:
        os.close(file)
    sizes, content = pickle.loads(memory[head:])
    buffers, start = [], 0
    for size in sizes:
        buffers.append(memory[start : start + size])
        start += size + -size % ALIGNMENT
    return pickle.loads(content, buffers=buffers)
