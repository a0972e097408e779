"""The shell scripts of the top level with a recorder in the place of Python, which starts in no time."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
RECORDER = f"""#!{sys.executable} -IS
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
"""


def record(
    folder: Path, script: str, *arguments: str, **settings: str
) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run a script in `folder` with settings from the environment.

    Returns:
        its exit code and what it printed, and the arguments of each call of Python that it made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python, recorded = folder / "bin" / "python", folder / "calls"
    python.parent.mkdir(exist_ok=True)
    python.write_text(RECORDER)
    python.chmod(0o755)
    recorded.write_text("")
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "VIRTUAL_ENV": "any", "CALLS": str(recorded)} | settings
    command = ["bash", PROJECT / script, *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    return done, [json.loads(line) for line in recorded.read_text().splitlines()]


def run_calls(calls: list[list[str]]) -> list[int | None]:
    """Run the entry points of recorded calls in this process, one after another, and return their exit codes."""
    return [importlib.import_module(Path(program).stem).main(arguments) for program, *arguments in calls]
