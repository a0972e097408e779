"""`--help` and mistakes are answered before anything is imported that takes long."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ENTRY_POINTS = sorted(path.stem for path in PROJECT.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
SLOW = ("torch", "torchvision", "open_clip", "sklearn", "scipy", "cv2", "matplotlib", "pydantic")
RUN = """
import contextlib, importlib, sys

slow, name, *options = sys.argv[1:]

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in slow.split():
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
sys.argv = [f"{name}.py"]
sys.path.insert(0, "")
program = importlib.import_module(name)
for option in options:
    try:
        program.main([option])
    except SystemExit as stop:
        print("exit code", stop.code)
"""


def run_without_slow_imports(name: str, *options: str) -> subprocess.CompletedProcess:
    """Call a program's `main` with each of the options in turn, all in one process."""
    command = [sys.executable, "-c", RUN, " ".join(SLOW), name, *options]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_and_the_refusal_of_a_wrong_option_need_nothing_that_takes_long(name):
    done = run_without_slow_imports(name, "--help", "--seeed")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name}.py")
    assert done.stdout.splitlines()[1] == ""  # the usage is one line, what must be given
    assert f"python {name}.py" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["exit code 0", "exit code 2"]
    assert f"{name}.py: error: " in done.stderr
    assert "AssertionError" not in done.stderr


def test_the_check_sees_a_slow_import():
    assert "AssertionError: torch is imported" in run_without_slow_imports("engine.loading").stderr
