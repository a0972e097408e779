"""What every benchmark prints and measures by."""

import os
from contextlib import nullcontext
from importlib.metadata import version

import pytest
from harness import benchmark, in_own_process, medians, start

from utils.runtime import processor


def test_a_benchmark_names_its_processor_its_cores_torch_and_its_command(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks/some.py", "--seeds", "3", "4"])
    given = []
    start(lambda args: given.append((args.seeds, args.model, args.folder.is_dir())), seeds=[1, 2], model="tiny")
    assert given == [([3, 4], "tiny", True)]
    said = capsys.readouterr().out
    assert f"{processor()['name']} (" in said and f"{os.cpu_count()} cores" in said
    assert f"torch {version('torch')}" in said
    assert "$ python benchmarks/some.py --seeds 3 4\n" in said


def test_a_value_that_is_not_among_the_choices_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks/some.py", "--methods", "none"])
    with pytest.raises(SystemExit):
        start(print, methods=["sdp"])
    assert "invalid choice: 'none'" in capsys.readouterr().err


@pytest.mark.parametrize("module, expected", [("__main__", [5]), ("some", [])])
def test_a_benchmark_is_called_with_its_options_if_its_file_is_run(module, expected, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmarks/some.py", "--seed", "5"])
    seeds = []

    def main(args):
        seeds.append(args.seed)

    main.__module__ = module
    with pytest.raises(SystemExit) if expected else nullcontext():
        benchmark(seed=0)(main)
    assert seeds == expected


def test_the_first_round_is_not_timed_and_the_ways_take_turns():
    calls = []
    seconds = medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert seconds.keys() == {"a", "b"}


def test_a_call_in_a_process_of_its_own_gives_its_result_and_peak_memory():
    process, peak = in_own_process(os.getpid)
    assert process != os.getpid()
    assert 50 < peak < 10_000
