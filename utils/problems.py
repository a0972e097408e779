"""What a check finds: what is wrong, how bad that is, and what to do."""

from __future__ import annotations  # doctor.py imports this under an older Python, too

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["error", "warning"]
ERROR: Level = "error"  # a run would stop, or lack some of its images
WARNING: Level = "warning"  # a run would go through, but its figures or its chances want a look


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in clauses."""

    level: Level
    what: str  # and where
    remedy: str  # what to do

    def __str__(self) -> str:
        return f"{self.level}: {self.what}; {self.remedy}"


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
    errors = sum(problem.level == ERROR for problem in problems)
    ordered = sorted(problems, key=lambda problem: problem.level != ERROR)
    return "\n".join([f"problems found: errors {errors}, warnings {len(problems) - errors}", *map(str, ordered)])
