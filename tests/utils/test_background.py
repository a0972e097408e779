"""Work in threads: what follows keeps the order of the calls, and nothing that goes wrong is lost."""

import time

import pytest

from utils.background import Background


def test_what_follows_keeps_the_order_of_the_calls():
    followed = []
    with Background(3, 2) as background:
        for delay in (0.05, 0, 0.02, 0):
            background.do(lambda delay=delay: time.sleep(delay) or delay, followed.append)
        background.wait()
    assert followed == [0.05, 0, 0.02, 0]


@pytest.mark.parametrize("where", ["job", "then"])
def test_what_goes_wrong_is_raised(where):
    def fail(*_: object) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), Background(1, 2) as background:
        background.do(fail if where == "job" else int, fail if where == "then" else str)
        background.wait()
