"""Run programs in processes that are forked from the tests' own, which has imported already what takes seconds."""

import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from typing import IO

from tests.patience import wait_patiently
from utils.errors import run

Main = Callable[[], int | None]


def run_forked(*mains: Main) -> tuple[list[int], str]:
    """Run programs at once, in a process each; returns their exit codes, and all that they print."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        codes = wait_for([fork(main, output) for main in mains])
        output.seek(0)
        return codes, output.read()


def run_shared(processes: int, main: Main) -> tuple[list[int], str]:
    """Run one program in several processes that share its work, as torchrun starts them; returns as `run_forked`."""
    of_all = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "tests"}
    of_all |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        numbers = map(str, range(processes))
        pids = [fork(main, output, parallel=True, RANK=rank, LOCAL_RANK=rank, **of_all) for rank in numbers]
        codes = wait_for(pids, together=True)
        output.seek(0)
        return codes, output.read()


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def fork(main: Main, output: IO[str], *, parallel: bool = False, **environment: str) -> int:
    """Start a process, in a session of its own, that runs `main` as entry points do, and return its number."""
    pid = os.fork()
    if pid == 0:
        gc.freeze()  # what tests before left is not this process's to clear up
        code = 1
        try:
            os.setsid()
            os.environ.update(environment)
            logging.root.handlers.clear()  # nor where they logged to, which may be closed
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell runs tests in the background
            sys.stdout = os.fdopen(1, "w", buffering=1)
            sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")  # as Python's own
            run(main, parallel=parallel)
        except SystemExit as ending:
            code = ending.code
        except BaseException:
            traceback.print_exc()  # as Python does at the end
        finally:  # what pytest does at its end is not for this process
            os._exit(code)
    return pid


def wait_for(pids: Iterable[int], *, together: bool = False) -> list[int]:
    """Wait for processes, and return their exit codes, minus the signal for those that were killed.

    Args:
        pids: their numbers.
        together: whether the others are ended once one has failed, as torchrun does.
    """
    codes: dict[int, int | None] = dict.fromkeys(pids)
    left = list(codes)

    def have_ended() -> bool:
        time.sleep(0.05)
        for pid in left[:]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                left.remove(pid)
                codes[pid] = os.waitstatus_to_exitcode(status)
        if together and any(codes.values()):
            end(signal.SIGTERM)
        return not left

    def end(by: signal.Signals) -> None:
        for pid in left:
            os.kill(pid, by)

    if not wait_patiently(codes, have_ended):
        end(signal.SIGKILL)
        raise AssertionError("a process hangs")
    return list(codes.values())
