"""The commands of README.md and docs/: each is read by the program that it calls, and most are run.

A block of shell commands that is fenced as

    ```bash             is run on a fresh copy of the project, with the demo set in small;
    ```bash REASON      is only read, as it needs what is not here: one of REASONS.

Commands in `backticks` that begin with `python` or `bash` are read, too. Python blocks are compiled, and run if they
are fenced as ```python run.
"""

import argparse
import ast
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import utils.arguments
from datasets.registry import REGISTRY
from tests.scripts import PROJECT, record

REASONS = {
    "data": "a data set, or files of the reader's own",
    "weights": "weights that are downloaded",
    "install": "installs packages, or needs them",
    "long": "takes minutes",
    "part": "a part of a command, or with a word in the place of a name",
}
PAGES = sorted(
    PROJECT / name for name in subprocess.check_output(["git", "ls-files", "*.md"], cwd=PROJECT, text=True).split()
)
FENCE = re.compile(r"^( *)```(\w+)? ?(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SMALL = ["--normal", "1", "--anomalous", "2", "--train", "2"]  # how the demo set is drawn here
RUNNER = """
import json, os, runpy, sys, traceback

for line in sys.stdin:
    call = json.loads(line)
    sys.argv, code = call, 0
    try:
        if call[0] == "-":
            exec(compile(call[1], "documented", "exec"), {"__name__": "documented"})
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(call[0]))
            runpy.run_path(call[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    print("documented:", json.dumps([call, code]), flush=True)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    place: str
    language: str
    mark: str  # the word after the language
    text: str


def blocks(language: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line, indent = 1 + text.count("\n", 0, match.start()), len(match[1])
            content = "\n".join(row[indent:] for row in match[4].splitlines())
            found.append(Block(f"{page.relative_to(PROJECT)}:{line}", match[2] or "", match[3], content))
    return [block for block in found if block.language == language]


def inline_commands() -> list[Block]:
    found = []
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for command in re.findall(r"`((?:[A-Z_]+=\S+ )*(?:python|bash|torchrun) [^`]+)`", text):
            mark = "part" if "NAME" in command else "data"
            found.append(Block(f"{page.relative_to(PROJECT)}: {command}", "bash", mark, " ".join(command.split())))
    return found


SHELL, PYTHON, INLINE = blocks("bash"), blocks("python"), inline_commands()


def simple_commands(text: str) -> list[list[str]]:
    """The words of each simple command of a script, without redirections."""
    commands: list[list[str]] = [[]]
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        words.whitespace_split, words.commenters = True, "#"
        for word in words:
            if set(word) <= set("&|;"):
                commands.append([])
            else:
                commands[-1].append(word)
        commands.append([])
    return [command for command in commands if command]


def calls(command: list[str], folder: Path) -> list[list[str]]:
    """The programs in Python, with their arguments, that a command starts, by itself or through a script of ours."""
    settings = {}
    while re.match(r"^[A-Z_]+=", command[0]):
        name, _, value = command.pop(0).partition("=")
        settings[name] = value
    if command[0] == "bash":
        script = (PROJECT / command[1]).read_text(encoding="utf-8")
        if "/" in command[1]:  # which is no entry point, and calls more than Python
            return []
        assert [name for name in settings if f"{name}=${{{name}:-" not in script] == []
        for name in REGISTRY:
            (folder / "data" / name).mkdir(parents=True, exist_ok=True)
        out = folder / "out"
        for name in ("sdp", "held_out/sdp", "held_out/sdp_plus", "held_out/dp_clip"):  # tables that demo.sh prints
            (out / name).mkdir(parents=True, exist_ok=True)
            (out / name / "results.md").touch()
        own = {"DATA_ROOT": str(folder / "data"), "SAVE_PATH": str(out)}
        done, found = record(folder, *command[1:], **{**own, **settings})
        assert done.returncode == 0, done.stderr
        return [call for each in found if each and (call := from_program(each))]
    if command[0] in ("python", "torchrun"):
        assert not settings
        return [call] if (call := from_program(command[1:])) else []
    return []


def from_program(words: list[str]) -> list[str] | None:
    """The words from the program's file on; None for a module of another package, such as pip."""
    if words[:2] == ["-m", "torch.distributed.run"] or words[0].startswith("--"):
        return words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]
    if words[0] == "-m":
        assert not words[1].startswith("tests.") or (PROJECT / f"{words[1].replace('.', '/')}.py").is_file()
        return None
    return words if words[0].endswith(".py") else None


class Read(SystemExit):
    """A command line was read, and nothing is to be done."""


@pytest.fixture
def read(monkeypatch):
    """Has a program read its command line, and do nothing."""
    parse, parse_args = utils.arguments.parse, argparse.ArgumentParser.parse_args

    def only_read(*arguments, **settings):
        parse(*arguments, **settings)
        raise Read("read")

    def only_read_args(parser, arguments=None, namespace=None):
        found = parse_args(parser, arguments, namespace)
        if isinstance(parser, utils.arguments.Parser) and sys._getframe(1).f_code is parse.__code__:
            return found
        raise Read("read")

    monkeypatch.setattr(utils.arguments, "parse", only_read)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_read_args)

    def read_command(call: list[str]) -> None:
        program = PROJECT / call[0]
        monkeypatch.setattr(sys, "argv", [str(program), *call[1:]])
        monkeypatch.setattr(sys, "path", [str(program.parent), str(PROJECT), *sys.path])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(program), run_name="__main__")
        assert stop.value.code in ("read", 0), call

    return read_command


@pytest.mark.parametrize("block", [*SHELL, *INLINE], ids=lambda block: block.place)
def test_every_command_is_one_that_its_program_takes(block, read, tmp_path, capfd):
    assert block.mark in ("", *REASONS), f"say why {block.place} is not run: {', '.join(REASONS)}"
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    for command in simple_commands(block.text):
        for call in calls(command, tmp_path) if block.mark != "part" else []:
            read(call)


@pytest.mark.parametrize("text", ["python test_sdp.py --dataset demo --no_such 1", "NO_SUCH=1 bash test_SDP.sh"])
def test_a_wrong_command_is_found(text, read, tmp_path, capfd):
    with pytest.raises(AssertionError):
        for command in simple_commands(text):
            for call in calls(command, tmp_path):
                read(call)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_is_python(block):
    ast.parse(block.text)


def test_what_can_be_run_here_does_what_it_says(tmp_path):
    """All in one process, as PyTorch takes seconds to import."""
    copy = tmp_path / "clone"
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=PROJECT, text=True).split("\0")
    for name in filter(None, tracked):
        if not name.startswith(("tests/", "docs/")) and (PROJECT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, copy / name)
    runs = [["demo/draw.py", *SMALL]]
    for block in SHELL:
        for command in simple_commands(block.text) if not block.mark else []:
            runs += calls(command, copy)
    # A drawing of its own is small, too, and the standard one is there.
    runs = [[*call, *SMALL] if call[0] == "demo/draw.py" else call for call in runs]
    runs += [["-", block.text] for block in PYTHON if block.mark == "run"]
    environment = os.environ | {"PYTHONPATH": str(copy), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input="".join(f"{json.dumps(call)}\n" for call in runs),
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    ended = [json.loads(line) for line in re.findall(r"^documented: (.*)$", done.stdout, re.MULTILINE)]
    assert [call for call, code in ended if code] == [], done.stderr[-5000:]
    assert len(ended) == len(runs)


def test_the_version_is_said_once():
    version = re.search(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert f"\nversion: {version}\n" in (PROJECT / "CITATION.cff").read_text()
    assert re.search(r"^## (.*)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version
