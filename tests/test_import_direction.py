"""Imports go one way, and importing a module changes nothing but the modules there are."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = {  # and what of the project each may import besides itself
    "data": {"datasets", "models", "page", "utils"},
    "datasets": {"utils"},
    "models": {"utils"},
    "page": {"utils"},
    "utils": set(),
}
FILES = [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]
IDS = [str(path.relative_to(PROJECT)) for path in FILES]


def imported(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def entry_points() -> set[str]:
    return {path.stem for path in PROJECT.glob("*.py")}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_package_imports_one_to_its_left(path):
    package = path.relative_to(PROJECT).parts[0]
    others = {"tests", "benchmarks", "pretrained_models", *entry_points(), *PACKAGES}
    of_the_project = {name.split(".")[0] for name in imported(path)} & others
    assert of_the_project <= PACKAGES[package] | {package}


def test_modules_do_not_import_one_another_in_a_circle():
    names = {module_name(path) for path in FILES}
    needs = {module_name(path): set(imported(path)) & names for path in FILES}
    while free := {name for name, wanted in needs.items() if not wanted & needs.keys()}:
        needs = {name: wanted for name, wanted in needs.items() if name not in free}
    assert not needs


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_function_rebinds_a_modules_names(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assert not [node.names for node in nodes if isinstance(node, ast.Global)]


STATE = """
import importlib, logging, os, random, sys, warnings
import numpy, torch

def state():
    root = logging.getLogger()
    return {
        "logging": (root.level, list(root.handlers), logging.root.manager.disable),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "hooks": (sys.excepthook, sys.stdout, sys.stderr),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()),
        "numpy": (numpy.geterr(), numpy.get_printoptions()),
        "random": (random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()),
    }

foreign, own = (names.split() for names in sys.argv[1:])
for name in foreign:
    importlib.import_module(name)
for name in own:
    before = state()
    importlib.import_module(name)
    after = state()
    for key in before:
        if before[key] != after[key]:
            print(name, key)
"""


def run_imports(folder: Path, foreign: set[str], own: list[str]) -> list[str]:
    command = [sys.executable, "-c", STATE, " ".join(sorted(foreign)), " ".join(own)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_importing_a_module_sets_nothing():
    """The packages from elsewhere are imported beforehand, since some of them do set things."""
    entries = sorted(entry_points())
    paths = [*FILES, *(PROJECT / f"{name}.py" for name in entries)]
    own = {*PACKAGES, *entries}
    foreign = {name for path in paths for name in imported(path) if name.split(".")[0] not in own}
    assert run_imports(PROJECT, foreign, [module_name(path) for path in paths]) == []


def test_the_check_sees_what_a_module_sets(tmp_path):
    (tmp_path / "quiet.py").write_text("import warnings\nwarnings.filterwarnings('ignore', 'a message')\n")
    (tmp_path / "loud.py").write_text("import logging, torch\nlogging.basicConfig()\ntorch.rand(1)\n")
    (tmp_path / "plain.py").write_text("import logging\nlogger = logging.getLogger(__name__)\n")
    seen = run_imports(tmp_path, set(), ["quiet", "loud", "plain"])
    assert seen == ["quiet warnings", "loud logging", "loud random"]
