"""Imports go one way, and importing a module changes nothing but the modules there are."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ROOMS = {  # and which others each may import; one that is not there yet is in order
    "engine": {"data", "datasets", "models", "page", "utils"},
    "demo": {"datasets", "models", "utils"},
    "data": {"datasets", "utils"},
    "datasets": {"utils"},
    "models": {"utils"},
    "page": {"utils"},
    "utils": set(),
}
NOT_IMPORTED = {"tests", "benchmarks", "pretrained_models"}


def find_modules(root: Path) -> dict[str, Path]:
    """The entry points and the files of all rooms and of the packages in them, by their modules' names."""
    folders = [root / room for room in ROOMS]
    folders += [path.parent for room in ROOMS for path in (root / room).glob("*/__init__.py")]
    paths = sorted(path for folder in (root, *folders) for path in folder.glob("*.py"))
    names = (".".join(path.relative_to(root).with_suffix("").parts) for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imported(path: Path) -> Iterator[str]:
    """Names of all that a file imports, wherever in it: `package.name` where a name comes from a package or module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def wrong_directions(modules: Mapping[str, Path]) -> list[str]:
    """Imports that are relative, or of a room above, an entry point, or what is no part of the program."""
    entry_points = {name for name, path in modules.items() if name == path.stem}
    wrong = []
    for name, path in modules.items():
        room = name.partition(".")[0]
        allowed = ROOMS.get(room, ROOMS.keys()) | {room}
        forbidden = (ROOMS.keys() | entry_points | NOT_IMPORTED | {""}) - allowed
        wrong += [f"{name} imports {other}" for other in imported(path) if other.partition(".")[0] in forbidden]
    return wrong


def circles(modules: Mapping[str, Path]) -> list[str]:
    """The modules that import themselves, by way of others or not."""
    needs = {name: {module_of(other, modules) for other in imported(path)} for name, path in modules.items()}

    def reached(name: str) -> set[str]:
        seen, found = set(), needs[name] - {None}
        while found:
            seen |= found
            found = set().union(*(needs[other] for other in found)) - seen - {None}
        return seen

    return [name for name in modules if name in reached(name)]


def module_of(name: str, modules: Mapping[str, Path]) -> str | None:
    """The module that an imported name is or lies in; None for one from elsewhere."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


MODULES = find_modules(PROJECT)
FILES = [path for name, path in MODULES.items() if name.partition(".")[0] in ROOMS]
IDS = [str(path.relative_to(PROJECT)) for path in FILES]


def test_no_room_imports_one_above_it():
    assert wrong_directions(MODULES) == []


def test_no_module_imports_itself_in_a_circle():
    assert circles(MODULES) == []


@pytest.fixture
def tree(tmp_path):
    """Writes files of a project, in which all is in order but what they bring in; gives its modules."""

    def write(**files: str) -> dict[str, Path]:
        sound = {
            "run.py": "import data.a\nfrom engine import start\nimport torch.data",
            "engine/start.py": "def start():\n    from data import a, b\n    from page.page import write",
            "page/page.py": "from utils.lists import sort",
            "data/__init__.py": "",
            "data/a.py": "from data import b\nimport utils.lists as lists",
            "data/b.py": "from utils import lists",
            "utils/lists/__init__.py": "from utils.lists.sorts import sort",
            "utils/lists/sorts.py": "def sort(): ...",
        }
        for name, text in (sound | files).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return find_modules(tmp_path)

    return write


def test_sound_imports_are_in_order(tree):
    modules = tree()
    assert list(modules) == [
        "data",
        "data.a",
        "data.b",
        "engine.start",
        "page.page",
        "run",
        "utils.lists",
        "utils.lists.sorts",
    ]
    assert wrong_directions(modules) == circles(modules) == []


@pytest.mark.parametrize(
    "file, text, wrong",
    [
        ("data/c.py", "import engine.start", "data.c imports engine.start"),
        ("data/c.py", "import engine.start as s", "data.c imports engine.start"),
        ("data/c.py", "from engine import start", "data.c imports engine.start"),
        ("data/c.py", "from engine.start import go", "data.c imports engine.start.go"),
        ("data/c.py", "def f():\n    from engine import start", "data.c imports engine.start"),
        ("data/c.py", "if True:\n    import json, engine", "data.c imports engine"),
        ("data/c.py", "from demo import draw", "data.c imports demo.draw"),
        ("datasets/c.py", "from models import sdp", "datasets.c imports models.sdp"),
        ("models/c.py", "from datasets.meta import Entry", "models.c imports datasets.meta.Entry"),
        ("demo/c.py", "from data import a", "demo.c imports data.a"),
        ("page/c.py", "from models import sdp", "page.c imports models.sdp"),
        ("utils/c.py", "from page import page", "utils.c imports page.page"),
        ("utils/lists/c.py", "from data import a", "utils.lists.c imports data.a"),
        ("engine/c.py", "import run", "engine.c imports run"),
        ("engine/c.py", "from run import main", "engine.c imports run.main"),
        ("walk.py", "from run import main", "walk imports run.main"),
        ("walk.py", "from tests import small_data", "walk imports tests.small_data"),
        ("utils/c.py", "from benchmarks.timing import best", "utils.c imports benchmarks.timing.best"),
        ("data/c.py", "from . import a", "data.c imports ..a"),
        ("data/c.py", "from .a import x", "data.c imports .a.x"),
    ],
)
def test_every_wrong_direction_is_seen(tree, file, text, wrong):
    modules = tree(**{file: text})
    assert wrong_directions(modules) == [wrong]
    assert circles(modules) == []


@pytest.mark.parametrize(
    "files, circle",
    [
        ({"data/b.py": "from data.a import x"}, ["data.a", "data.b"]),
        ({"data/b.py": "from data import a"}, ["data.a", "data.b"]),
        ({"data/b.py": "import data.a"}, ["data.a", "data.b"]),
        ({"data/b.py": "def f():\n    from data import a"}, ["data.a", "data.b"]),
        ({"data/b.py": "from data import c", "data/c.py": "from data import a"}, ["data.a", "data.b", "data.c"]),
        ({"data/__init__.py": "from data.c import x", "data/c.py": "from data import y"}, ["data", "data.c"]),
        ({"data/c.py": "from data import c"}, ["data.c"]),
        ({"utils/c.py": "from utils import d", "utils/d.py": "from utils import c"}, ["utils.c", "utils.d"]),
        ({"utils/lists/sorts.py": "from utils import lists"}, ["utils.lists", "utils.lists.sorts"]),
        ({"demo/c.py": "from demo import d", "demo/d.py": "from demo.c import x"}, ["demo.c", "demo.d"]),
    ],
)
def test_every_circle_is_seen_and_who_imports_it_is_not_blamed(tree, files, circle):
    modules = tree(**files)
    assert circles(modules) == circle
    assert wrong_directions(modules) == []


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


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> list[str]:
    """What each module sets when it is imported, all in one process: the project's, and three that show the check.

    The packages from elsewhere are imported beforehand, since some of them do set things.
    """
    folder = tmp_path_factory.mktemp("modules")
    (folder / "quiet.py").write_text("import warnings\nwarnings.filterwarnings('ignore', 'a message')\n")
    (folder / "loud.py").write_text("import logging, torch\nlogging.basicConfig()\ntorch.rand(1)\n")
    (folder / "plain.py").write_text("import logging\nlogger = logging.getLogger(__name__)\n")
    foreign = sorted({name for path in MODULES.values() for name in modules_from_elsewhere(path)})
    own = [*MODULES, "quiet", "loud", "plain"]
    command = [sys.executable, "-c", STATE, " ".join(foreign), " ".join(own)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(folder)])}
    result = subprocess.run(command, env=paths, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_importing_a_module_sets_nothing(settings):
    assert settings[:-3] == []


def test_the_check_sees_what_a_module_sets(settings):
    assert settings[-3:] == ["quiet warnings", "loud logging", "loud random"]


def modules_from_elsewhere(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports from none of the project's; optional ones need not be there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            strangers = (name for name in names if module_of(name, MODULES) is None)
            yield from (name for name in strangers if find_spec(name.partition(".")[0]))
