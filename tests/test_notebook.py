"""The example notebook: its code runs as it stands, in a folder that is not the project's."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOK = PROJECT / "examples" / "notebook.ipynb"


def test_the_notebook_runs_and_finds_what_it_says(tmp_path):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code"] == [[]] * len(code)
    program = "\n".join(_shown(cell) for cell in code)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["TMPDIR"] = str(tmp_path)
    command, folder = [sys.executable, "-c", program], NOTEBOOK.parent
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.splitlines()
    assert shown[0] == "(19, 12)"
    verdicts = [line.split() for line in shown if " regions " in line]
    assert len(verdicts) == 12
    assert sum(verdict == "anomalous" for kind, _, verdict, *_ in verdicts if kind == "good") <= 1
    assert sum(verdict == "anomalous" for kind, _, verdict, *_ in verdicts if kind != "good") > 4
    assert shown[-1] == "True"


def _shown(cell: str) -> str:
    """A cell as a notebook runs it: what its last line is, if that is an expression, is shown."""
    tree = ast.parse(cell)
    if isinstance(tree.body[-1], ast.Expr) and not ast.unparse(tree.body[-1]).startswith("print"):
        tree.body[-1] = ast.parse(f"print({ast.unparse(tree.body[-1])})").body[0]
    return ast.unparse(tree)
