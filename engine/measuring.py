"""Classes measured in a thread, each while the next one is predicted; what is found is written in the main thread."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from engine.class_maps import measure
from utils.evaluation_types import ClassMaps, ClassResult, Writer
from utils.runtime import Stopwatch

T = TypeVar("T")


class Measuring:
    """Measures one class at a time, hands its result to the writers and adds it to `results`.

    A class that was predicted before an error is measured to its end; after an interruption nothing more is wanted.

    Args:
        settings: what to measure of each class, see `measure_class`.
    """

    def __init__(self, writers: Sequence[Writer], stopwatch: Stopwatch, settings: Mapping[str, Any]) -> None:
        self._writers, self._stopwatch, self._settings = writers, stopwatch, settings
        self._pool = ThreadPoolExecutor(1, "measures")
        self._pending: Future[ClassResult] | None = None
        self.results: list[ClassResult] = []

    def __enter__(self) -> "Measuring":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and issubclass(kind, Exception):
                self.finish()
        finally:  # without waiting
            self._pool.shutdown(wait=False, cancel_futures=True)

    def start(self, name: str, maps: ClassMaps, scores: np.ndarray) -> None:
        """Give a class's maps to the writers that take them in a thread, then measure it, which uses them up."""
        self._pending = self._pool.submit(self._written_and_measured, name, maps, scores)

    def _written_and_measured(self, name: str, maps: ClassMaps, scores: np.ndarray) -> ClassResult:
        for writer in self._writers:
            if writer.needs_maps and writer.maps_in_thread:
                writer.class_maps(maps, scores)
        return measure(name, maps, scores, self._settings)

    def finish(self) -> None:
        """Wait for the class that is measured, if there is one."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        with self._stopwatch("measures"):
            result = pending.result()
        with self._stopwatch("output"):
            for writer in self._writers:
                writer.class_done(result)
        self.results.append(result)

    def beside(self, items: Iterable[T]) -> Iterator[T]:
        """Pass on items, and see between them whether the class has been measured."""
        for item in items:
            if self._pending is not None and self._pending.done():
                self.finish()
            yield item
