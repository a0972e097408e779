"""Mistakes that a user can make and mend: one sentence on stderr, no traceback."""

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Something the user can put right; the message says what was wrong, where, and what to do."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run an entry point's `main` and exit with its code: 2 on a `UserError`, 130 on Ctrl-C."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: what had been written is complete, the rest was not begun", file=sys.stderr)
        sys.exit(130)
