"""Predictions on their way from the device to the CPU, so that the device need not wait for what is done with them."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from utils.evaluation_types import Prediction

T = TypeVar("T")


class HostCopy:
    """A prediction on its way to the CPU; it is had from `wait` alone, so that nothing is read before it is there."""

    def __init__(self, found: Prediction) -> None:
        text_prob, distances = found.text_prob, found.distances
        wanted = found.maps.float(), None if text_prob is None else text_prob.double(), distances
        # From CUDA into pinned memory, while the device goes on.
        maps, text_prob, distances = (one if one is None else one.to("cpu", non_blocking=True) for one in wanted)
        self._found = Prediction(maps, text_prob, distances=distances)
        self._event = None
        if found.maps.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(found.maps.device))

    def wait(self) -> Prediction:
        if self._event is not None:
            self._event.synchronize()
        return self._found


def behind(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield each item when so many that follow are made, or all."""
    held: deque[T] = deque()
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.popleft()
    yield from held
