"""Whether the Python and the packages that are installed are those that the project needs.

This is to tell what is missing, so it imports nothing that may be, and runs under an older Python, too.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from importlib.util import find_spec
from pathlib import Path

from utils.errors import ERROR, WARNING, Problem, UserError

OLDEST, NEWEST = (3, 10), (3, 12)  # Python's versions that the project is made for
INSTALL = "pip install -r requirements.txt"
# OpenCV's builds: the module `cv2` comes from any of them.
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def check_python(version: tuple[int, int]) -> list[Problem]:
    """Give an error where Python is too old, a warning where it is newer than what was tried."""
    if OLDEST <= version <= NEWEST:
        return []
    there, oldest, newest = (".".join(map(str, numbers)) for numbers in (version, OLDEST, NEWEST))
    level, than = (ERROR, "older") if version < OLDEST else (WARNING, "newer")
    remedy = f"make the environment with Python {oldest} to {newest}"
    return [Problem(level, f"Python {there} is {than} than the project knows", remedy)]


def installed_version(package: str) -> str | None:
    """Version of an installed package, whichever of its builds it is; None if there is none."""
    for name in OPENCV if package in OPENCV else (package,):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def check_packages(requirements: Path) -> list[Problem]:
    """Give an error for each package of a requirements file that is missing or of another version."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return [Problem(ERROR, "the package packaging is missing, so the others were not checked", INSTALL)]
    try:
        lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
        wanted = [Requirement(line) for line in lines if line]
    except (OSError, ValueError) as error:  # which a line that is no package raises, and text that is not UTF-8
        what = f"cannot read {requirements}: {getattr(error, 'strerror', None) or ' '.join(str(error).split())}"
        return [Problem(ERROR, what, "get the project's files again")]
    problems = []
    for requirement in wanted:
        version = installed_version(requirement.name)
        if version is None:
            problems.append(Problem(ERROR, f"the package {requirement.name} is missing", INSTALL))
        elif not requirement.specifier.contains(version, prereleases=True):
            what = f"the package {requirement.name} is {version}, and {requirement.specifier} is needed"
            problems.append(Problem(ERROR, what, f"{INSTALL} --upgrade"))
    return problems


def check_extras(what: str, *modules: str) -> None:
    """Refuse `what` needs optional packages, by the modules of theirs, where one is missing."""
    if missing := [name for name in modules if find_spec(name) is None]:
        raise UserError(f"{what} needs {' and '.join(missing)}: pip install -r requirements-extras.txt")
