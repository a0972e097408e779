"""Python's version and the packages' against what the project needs."""

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

from engine.installation import INSTALL, check_packages, check_python, installed_version
from utils.errors import ERROR, Problem

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version, level", [((3, 9), "error"), ((3, 13), "warning"), ((4, 0), "warning")])
def test_another_python_is_told(version, level):
    (problem,) = check_python(version)
    assert problem.level == level
    assert problem.what.startswith(f"Python {version[0]}.{version[1]} is ")
    assert problem.remedy == "make the environment with Python 3.10 to 3.12"


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12)])
def test_the_projects_pythons_are_right(version):
    assert check_python(version) == []


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Checks the lines of a requirements file against versions of packages, which are all there is."""

    def check(requirements: str, **versions: str) -> list[Problem]:
        def version(name: str) -> str:
            if name in versions:
                return versions[name]
            raise importlib.metadata.PackageNotFoundError(name)

        (tmp_path / "requirements.txt").write_text(requirements)
        monkeypatch.setattr(importlib.metadata, "version", version)
        return check_packages(tmp_path / "requirements.txt")

    return check


def test_packages_within_their_ranges_are_right(check):
    lines = "# what is needed\n\ntorch>=2.6  # or later\nopen-clip>=3,<4\n"
    assert check(lines, **{"torch": "2.7.0.dev20250101+cu124", "open-clip": "3.3.0"}) == []


def test_missing_packages_and_other_versions_are_errors(check):
    problems = check("torch>=2.6\nopen-clip>=3,<4\nscipy>=1.11\n", **{"torch": "2.5.1", "open-clip": "4.0"})
    assert [str(problem) for problem in problems] == [
        f"error: the package torch is 2.5.1, and >=2.6 is needed; {INSTALL} --upgrade",
        f"error: the package open-clip is 4.0, and <4,>=3 is needed; {INSTALL} --upgrade",
        f"error: the package scipy is missing; {INSTALL}",
    ]


def test_any_build_of_opencv_serves(check):
    assert check("opencv-python>=4.9", **{"opencv-contrib-python-headless": "4.10.0.84"}) == []
    assert "is 4.8, and" in check("opencv-python>=4.9", **{"opencv-python-headless": "4.8"})[0].what
    assert "opencv-python is missing" in check("opencv-python>=4.9")[0].what


def test_a_version_that_is_none_is_an_error(check):
    assert "the package torch is damaged, and >=2 is needed" in check("torch>=2", torch="damaged")[0].what


def test_a_package_without_a_version_counts_as_missing(check):
    """So are the remains of a package whose removal went wrong."""
    assert check("torch>=2", torch=None)[0].what == "the package torch is missing"


def test_a_requirements_file_that_is_broken_or_gone_is_an_error(check, tmp_path):
    (problem,) = check("torch>=2\nno such = line\n")
    assert problem.what.startswith(f"cannot read {tmp_path / 'requirements.txt'}: ")
    assert "no such = line" in problem.what
    assert "\n" not in problem.what
    assert check_packages(tmp_path / "none.txt")[0].what.endswith("none.txt: No such file or directory")


def test_without_packaging_that_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    (problem,) = check_packages(PROJECT / "requirements.txt")
    assert (problem.level, problem.remedy) == (ERROR, INSTALL)
    assert "packaging is missing" in problem.what


def test_this_environment_is_right():
    assert check_packages(PROJECT / "requirements.txt") == []
    assert installed_version("pytest") == pytest.__version__


@pytest.mark.parametrize("name", ["doctor.py", "utils/errors.py", "engine/installation.py"])
def test_what_tells_that_python_is_too_old_runs_under_an_old_one(name):
    tree = ast.parse((PROJECT / name).read_text(), feature_version=(3, 8))
    assert "annotations" in [
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
