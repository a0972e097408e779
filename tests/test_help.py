"""`--help` and mistakes are answered before anything is imported that takes long."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ENTRY_POINTS = sorted(path.stem for path in PROJECT.glob("*.py"))
SLOW = ("torch", "torchvision", "open_clip", "sklearn", "scipy", "cv2", "matplotlib")
RUN = """
import importlib, sys

slow, name, *arguments = sys.argv[1:]

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in slow.split():
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
sys.argv = [f"{name}.py", *arguments]
sys.path.insert(0, "")
importlib.import_module(name).main(arguments)
"""


def run_without_slow_imports(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", RUN, " ".join(SLOW), name, *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_needs_nothing_that_takes_long(name):
    done = run_without_slow_imports(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name}.py")
    assert f"python {name}.py" in done.stdout


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_a_wrong_option_is_refused_as_fast(name):
    done = run_without_slow_imports(name, "--seeed", "1")
    assert done.returncode == 2
    assert f"{name}.py: error: " in done.stderr
    assert "AssertionError" not in done.stderr


def test_the_check_sees_a_slow_import():
    assert "AssertionError: torch is imported" in run_without_slow_imports("engine.loading").stderr
