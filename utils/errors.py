"""Mistakes that a user can make and mend: one sentence on stderr, no traceback."""

from __future__ import annotations  # doctor.py imports this under an older Python, too

import logging
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Something the user can put right; the message says what was wrong, where, and what to do."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run an entry point's `main` and exit with its code.

    That is 2 where the user can mend what went wrong (a `UserError`, a file that cannot be reached, too little
    memory) and 130 on Ctrl-C.
    """
    try:
        sys.exit(main() or 0)
    except UserError as error:
        _stop(f"error: {error}", 2)
    except KeyboardInterrupt:
        _stop("interrupted; files that were written are whole", 130)
    except OSError as error:
        _stop(f"error: cannot use {error.filename or 'a file'}: {error.strerror or error}", 2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        _stop("error: out of memory: try a smaller --batch_size, or --device cpu", 2)


def _stop(message: str, code: int) -> NoReturn:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):  # the log of the run; what follows is for the terminal
            handler.stream.write(f"{message}\n")
    print(message, file=sys.stderr)
    sys.exit(code)
