"""Processes that are forked from the tests' own."""

import gc
import io
import logging

from tests.forked import run_forked


class Left:
    """What a test left, and only the garbage collection finds, as PyTorch's loaders after an error."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        print("cleared up")


def test_what_tests_left_is_not_cleared_up_in_a_fork():
    """There, a loader would wait for workers that are not its own, print, and keep locks that others wait for."""

    def main() -> None:
        gc.collect()
        print("done")

    Left()
    assert run_forked(main) == ([0], "done\n")


def test_where_tests_before_logged_to_is_not_logged_to_in_a_fork():
    gone = io.StringIO()
    handler = logging.StreamHandler(gone)
    logging.root.addHandler(handler)
    gone.close()
    try:
        assert run_forked(lambda: logging.warning("%s", "said")) == ([0], "WARNING:root:said\n")
    finally:
        logging.root.removeHandler(handler)
