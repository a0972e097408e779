"""Wall-clock seconds by part of the work."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Wall-clock seconds by part of the work."""

    seconds: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time of a block as `part`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start

    @property
    def until_predicted(self) -> float:
        """Seconds from files to predictions, those of other processes included."""
        return self.seconds["loading"] + self.seconds["prediction"] + self.seconds["waiting"]
