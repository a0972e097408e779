"""A few of the fuzzer's runs, and that it sees what it looks for; `python -m tests.fuzz_options` has thousands."""

import itertools
import math
import os
import sys
import types
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.fuzz_options import Case, Ground, options_of
from tests.test_help import ENTRY_POINTS, PROJECT
from utils.arguments import Options, PositiveInt, option, parse
from utils.errors import UserError

RUNS = 60


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


def test_programs_do_their_work_or_refuse_in_a_sentence(ground):
    cases = itertools.islice(ground.cases(seed=1), RUNS)
    assert {str(case): found for case in cases if (found := ground.problems(case))} == {}


def test_every_program_is_tried(ground):
    rooms = [path for room in ("data", "demo") for path in (PROJECT / room).glob("*.py")]
    programs = {f"{path.parent.name}.{path.stem}" for path in rooms if "\n    run(main)" in path.read_text()}
    assert {program for program, _ in ground.bases} == {*ENTRY_POINTS, *programs}


def test_the_same_seed_gives_the_same_runs(ground):
    first, second, other = ([*itertools.islice(ground.cases(seed), 20)] for seed in (1, 1, 2))
    assert first == second != other


class Choices(Options):
    """What a program in a test has."""

    count: PositiveInt = option("a number", 1)
    file: Path | None = option("a file")


@pytest.fixture
def program(monkeypatch):
    """Makes a program of a function of its options."""

    def make(work) -> str:
        module = types.ModuleType("a_program")
        module.main = lambda: work(parse(Choices, None, None))
        monkeypatch.setitem(sys.modules, "a_program", module)
        return "a_program"

    return make


def test_options_are_those_of_the_programs_parser(program, ground):
    count, file = options_of(program(lambda options: None), {})
    assert (count.dest, file.dest) == ("count", "file")
    assert (("2147483648",), False) in list(ground.values_of("a_program", count))
    assert (("x",), True) in list(ground.values_of("a_program", count))
    assert ((str(ground.junk / "deep.json"),), True) in list(ground.values_of("a_program", file))


def work(options: Choices, ending: str) -> int | None:
    """What a program does that ends in a certain way."""
    if ending == "refusal":
        raise UserError("there is no such file")
    if ending == "traceback":
        raise KeyError("file")
    if ending == "replacement":
        options.file.unlink()
        options.file.touch()
    if ending == "half a file":
        Path("results.json").write_text("{")
    if ending == "NaN":
        torch.save({"adapters": [torch.tensor([1.0, math.nan])]}, "adapters.pth")
    return 7 if ending == "7" else None


@pytest.mark.parametrize(
    ("ending", "nonsense", "problems"),
    [
        ("work", False, []),
        ("refusal", True, []),
        ("work", True, ["nonsense is accepted"]),
        ("traceback", False, ["a traceback"]),
        ("7", False, ["it ends with 7"]),
        ("replacement", False, ["what is no file was replaced"]),
        ("half a file", False, ["results.json"]),
        ("NaN", False, ["adapters.pth has numbers that are not finite"]),
    ],
)
def test_a_bad_end_is_seen(program, tmp_path, ending, nonsense, problems):
    ground = object.__new__(Ground)
    ground.work, ground.refused = tmp_path / "work", tmp_path / "refused"
    ground.refused.mkdir()
    pipe = ground.refused / "pipe"
    os.mkfifo(pipe)
    name = program(partial(work, ending=ending))
    found = ground.problems(Case(name, {"file": (str(pipe),)}, ("file",), nonsense))
    assert len(found) == len(problems)
    assert all(problem in said for problem, said in zip(problems, found, strict=True))
