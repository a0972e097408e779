"""A few kills of each kind of run; `python -m tests.faults` has many."""

from pathlib import Path

import numpy as np
import pytest

from tests.faults import broken_files, scenarios, try_scenario

KILLS = 2


@pytest.mark.parametrize("name", ["training SDP+", "caching tokens", "training DP-CLIP", "testing SDP", "predicting"])
def test_a_killed_run_leaves_whole_files_and_the_next_one_mends_it(tmp_path, name):
    outcome = try_scenario(scenarios(tmp_path)[name], tmp_path / "runs", KILLS, seed=1)
    assert outcome.problems == []
    assert outcome.survived == outcome.kills == KILLS


@pytest.mark.parametrize("name", ["results.json", "scores.csv", "maps/a.npy", "imgs/a.png", "last.pth", "odd.xyz"])
def test_a_file_cut_short_is_seen(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'{"half": ')
    assert len(broken_files([path])) == 1


def test_whole_and_temporary_files_are_no_problem(tmp_path):
    np.save(tmp_path / "map.npy", np.zeros(3))
    paths = [tmp_path / name for name in ("a.json", "b.csv", f".{'0' * 32}.tmp", ".lock", "test.log")]
    for path, text in zip(paths, ["{}", "a,b\n1,2\n", "half", "", "a line"], strict=True):
        Path(path).write_text(text)
    assert broken_files([*paths, tmp_path / "map.npy"]) == []
