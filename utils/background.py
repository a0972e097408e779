"""Work in threads beside the main one, and what follows it in order; and how many may be at work beside one."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

T = TypeVar("T")

MOST_WORKERS = 16


def free_cores() -> int:
    """Count the processes that may read ahead: the cores this one may use, or its share, less one for itself."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of a run that torchrun shares out
    return min(MOST_WORKERS, max(0, usable // processes - 1))


class Background(AbstractContextManager):
    """Does jobs in threads and, one after the other in the order of the calls, what follows each.

    What goes wrong in one is raised by a later call. What has not begun when the block ends is not done.
    """

    def __init__(self, threads: int, most: int) -> None:
        """`most`: how many jobs may be under way before `do` waits for the first of them."""
        self.workers, self.follower = ThreadPoolExecutor(threads, "worker"), ThreadPoolExecutor(1, "follower")
        self.most, self.pending = most, deque[Future]()

    def do(self, job: Callable[[], T], then: Callable[[T], object]) -> None:
        """Do a job, and then what follows, with what it gave."""
        future = self.workers.submit(job)
        self.pending.append(self.follower.submit(lambda: then(future.result())))
        while len(self.pending) > self.most or (self.pending and self.pending[0].done()):
            self.pending.popleft().result()

    def wait(self) -> None:
        """Wait until all is done."""
        while self.pending:
            self.pending.popleft().result()

    def __exit__(self, *error: Any) -> None:
        for pool in (self.workers, self.follower):
            pool.shutdown(cancel_futures=True)
