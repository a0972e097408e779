"""Mistakes that a user can make and mend: one sentence on stderr, no traceback; and the problems that checks find."""

from __future__ import annotations  # doctor.py imports this under an older Python, too

import atexit
import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal, NamedTuple, NoReturn

from utils.names import shown

Level = Literal["error", "warning"]
ERROR: Level = "error"  # a run would stop, or lack some of its images
WARNING: Level = "warning"  # a run would go through, but its figures or its chances want a look
HEAD_START = 2.0  # seconds that the main process has to report an error that all of them met


# Options that take less memory the smaller they are, with the least value; those that a program has are named.
LESS_MEMORY = {"batch_size": 1, "image_size": 1, "map_size": 1, "cache_memory": 0, "num_workers": 0}
INTERRUPTED = "interrupted; files that were written are whole, and --resume, where a command has it, goes on with them"


class UserError(Exception):
    """Something the user can put right; the message says what was wrong, where, and what to do."""

    def __str__(self) -> str:
        return shown(super().__str__())


def run(main: Callable[[], int | None], *, parallel: bool = False) -> NoReturn:
    """Run an entry point's `main` and exit with its code.

    That is 2 where the user can mend what went wrong (see `_report`) and 130 on Ctrl-C. Of several processes under
    torchrun, one says what went wrong, and torchrun ends all; they are refused unless they share work in `parallel`.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as in a shell's background
        signal.signal(signal.SIGINT, _interrupt)
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1:
        _run_in_processes(main, parallel=parallel)
    try:
        sys.exit(main() or 0)
    except (Exception, KeyboardInterrupt) as error:
        _report(error)
        raise


def _run_in_processes(main: Callable[[], int | None], *, parallel: bool) -> NoReturn:
    """Do this process's work and end it without the interpreter's and the libraries' own clearing up.

    In that, a library's thread could abort a process whose work was done, and `torchrun` would call the run failed.
    """
    code = 1
    try:
        _share_work(main, parallel=parallel)
    except SystemExit as ending:
        code = ending.code
    except KeyboardInterrupt:  # before the processes have met
        _say(INTERRUPTED)
        code = 130
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()  # of Python: worker processes, temporary folders, the log
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _share_work(main: Callable[[], int | None], *, parallel: bool) -> NoReturn:
    # Imported here, as PyTorch takes seconds and many a program does without.
    from torch.distributed import DistError

    from utils.distributed import finish, is_main, start

    store = start()
    try:
        if not parallel:
            raise UserError(f"{Path(sys.argv[0]).name} runs in one process: start it by python, not torchrun")
        code = main() or 0
        finish()
        sys.exit(code)
    except (Exception, KeyboardInterrupt) as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # which torchrun sends once more
        if not is_main():
            time.sleep(HEAD_START)
        is_told = True  # if the store's machine is gone already
        with contextlib.suppress(DistError):
            is_told = store.add("failed", 1) > 1  # by the first to come here, which is the main process if it can
        if is_told:
            sys.exit(1)
        if not is_main():
            print(file=sys.stderr)  # below the main process's progress bar
        if isinstance(error, DistError) or "gloo/transport" in str(error):
            _stop("error: another process of this run is gone or late; see what torchrun says of it", 1)
        _report(error)
        raise


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raise `KeyboardInterrupt`; or, as packages that are being imported may swallow it, end at once."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _say(INTERRUPTED)
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait for the end of a block; the processes that it starts are not told of one at all."""
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _report(error: BaseException) -> None:
    """Exit with a sentence if there is one for the error."""
    if isinstance(error, UserError):
        _stop(f"error: {error}", 2)
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # whoever cannot wait
        _stop(INTERRUPTED, 130)
    if _is_out_of_memory(error):
        _stop(f"error: out of memory: {_less_memory(error)}", 2)
    if isinstance(error, OSError):
        _stop(f"error: cannot use {error.filename or 'a file'}: {error.strerror or error}", 2)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # from 3.13 on an OSError
        _stop(f"error: {error}: it leads back to itself; name another file or folder", 2)
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        _stop("error: a process that reads images died, perhaps for want of memory: try --num_workers 0", 2)
    if type(error).__module__ in ("torch._dynamo.exc", "torch._inductor.exc"):
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        _stop(f"error: --compile does not work here, go on without it: {reason}", 2)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):  # of PyTorch, on a GPU and on the CPU
        return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def _less_memory(error: BaseException) -> str:
    """Say which of the run's options, that the program's `main` has, would take less memory."""
    frames = (frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__))
    values = next((vars(found["options"]) for found in frames if hasattr(found.get("options"), "__dict__")), {})
    names = [f"--{name}" for name, least in LESS_MEMORY.items() if values.get(name, least) != least]
    remedies = [f"a smaller {' or '.join(names)}"] if names else []
    if type(error).__name__ == "OutOfMemoryError" and "device" in values:
        remedies.append("--device cpu")
    return f"try {', or '.join(remedies)}" if remedies else "close other programs, or take a machine with more"


def _stop(message: str, code: int) -> NoReturn:
    from multiprocessing import active_children  # only now, as Ctrl-C is not seen to while this module is imported

    _say(message)
    # One that is stuck would be waited for at the end, and PyTorch would raise where one of its own is killed.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in active_children():
        with contextlib.suppress(AssertionError):  # it is no child of this process, which was forked itself
            process.join(0)
            process.kill()
            process.join(1)
    signal.signal(signal.SIGCHLD, handler)
    sys.exit(code)


def _say(message: str) -> None:
    message = shown(message)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):  # the log of the run; what follows is for the terminal
            with contextlib.suppress(OSError):  # a disk that is full may be what the message is about
                handler.stream.write(f"{message}\n")
                handler.stream.flush()
    print(message, file=sys.stderr)


def some_of(names: Sequence[str], count: int = 5) -> str:
    """List the first of many names, and say how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return f"{', '.join(names[:count])}{more}"


class Problem(NamedTuple):
    """One thing that a check finds wrong, in clauses."""

    level: Level
    what: str  # and where
    remedy: str  # what to do

    def __str__(self) -> str:
        return shown(f"{self.level}: {self.what}; {self.remedy}")


def unreadable(error: OSError, path: str | Path) -> Problem:
    """Say that a file or folder cannot be read, `path` unless the error names another."""
    what = f"cannot read {error.filename or path}: {error.strerror or error}"
    return Problem(ERROR, what, "see to its permissions and its disk")


def exit_code(problems: Sequence[Problem]) -> int:
    """Give 1 if there is an error, else 0."""
    return int(any(problem.level == ERROR for problem in problems))


def summary(problems: Sequence[Problem]) -> str:
    """List all problems, errors first, below their number; or say that there are none."""
    if not problems:
        return "no problems found"
    errors, warnings = ([str(one) for one in problems if one.level == level] for level in (ERROR, WARNING))
    return "\n".join([f"problems found: errors {len(errors)}, warnings {len(warnings)}", *errors, *warnings])
