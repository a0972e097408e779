"""Kills runs at random moments, and checks that no file is half-written and that the next run mends everything.

    python -m tests.faults --rounds 20

A scenario is an entry point with options. It is left undisturbed once, then killed with SIGKILL again and again: every
other time as soon as it writes a file after a random moment, else at that moment. After each kill every file must be
whole. Every other time, on average, the next run is let end, and must leave what the undisturbed one left, bit for bit.
"""

import argparse
import csv
import importlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from tabulate import tabulate

from models.checkpoints import read_checkpoint
from tests import small_data, tiny_clip
from tests.patience import GLANCE, wait_patiently
from utils.arguments import non_negative_int, positive_int
from utils.errors import run
from utils.files import is_temporary, sha256_of
from utils.runtime import LOCK

TIMED = ("seconds", "images_per_second", "peak_memory_mib")  # what no two runs have the same in results.json


@dataclass(frozen=True)
class Scenario:
    """An entry point with options.

    Attributes:
        script: the entry point.
        options: its options, without `--save_path` and `--cache_dir`.
        own_cache: every round starts with an empty cache, whose files must be whole and the same, too.
    """

    script: str
    options: Sequence[object]
    own_cache: bool = False


@dataclass
class Outcome:
    """What became of a scenario.

    Attributes:
        kills: runs that were killed.
        writing: of them, those that were writing a file.
        survived: kills after which all files were whole, and the next run to end left what it should.
        problems: what was wrong otherwise.
    """

    kills: int = 0
    writing: int = 0
    survived: int = 0
    problems: list[str] = field(default_factory=list)


def scenarios(folder: Path) -> dict[str, Scenario]:
    """The scenarios, on a tiny CLIP and a small data set that are made in `folder`."""
    config, weights = tiny_clip.save(folder / "model")
    data = small_data.make(folder / "data")
    model = ["--model", config, "--pretrained", weights]
    tested = [*model, "--dataset", "mvtec", "--data_path", data]
    trained = [*model, "--train_dataset", "mvtec", "--train_dataset_dir", data, "--num_workers", 0, "--resume"]
    sdp_plus = [*trained, "--batch_size", 4]
    going_on = ["--resume", "--batch_size", 1]
    written = ["--save_maps", "--save_masks", "--threshold", 0.0, "--batch_size", 1]
    return {
        "training SDP+": Scenario("train_sdp_plus", [*sdp_plus, "--epochs", 4]),
        "caching tokens": Scenario("train_sdp_plus", [*sdp_plus, "--epochs", 1, "--batch_size", 1], own_cache=True),
        "training DP-CLIP": Scenario("train_dp_clip", [*trained, "--epochs", 3, "--fidelity", "corrected"]),
        "testing SDP": Scenario("test_sdp", [*tested, "--save_maps", "--visualization", "--num_workers", 1, *going_on]),
        "predicting": Scenario("predict", [data, *model, *written, "--num_workers", 1, "--resume"]),
    }


PRELOADED = [f"engine.{name}" for name in ("sdp_plus_training", "dp_clip_training", "testing", "prediction")]
PRELOADED += ["matplotlib.figure", "sklearn.cluster", "sklearn.neighbors"]  # imported late


class Runner:
    """Runs a scenario in processes of its own, forked from this one, which imports what takes long.

    Args:
        scenario: what is run.
        folder: made from scratch; a run writes below it, and its terminal output goes to `output`.
    """

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.save_path = folder / "run"
        self.cache = folder / "cache"
        self.output = folder / "output"
        self.watched = [self.save_path, self.cache] if scenario.own_cache else [self.save_path]
        self.scenario = scenario
        for name in PRELOADED:
            importlib.import_module(name)

    def start(self) -> BaseProcess:
        """Start a run."""
        options = [*self.scenario.options, "--save_path", self.save_path, "--cache_dir", self.cache]
        arguments = (self.scenario.script, [str(option) for option in options], self.output)
        process = multiprocessing.get_context("fork").Process(target=_run_script, args=arguments)
        process.start()
        return process

    def finish(self) -> float:
        """Let a run end, and return its seconds.

        Raises:
            AssertionError: it failed, or does not end.
        """
        start = time.perf_counter()
        process = self.start()
        wait_patiently([process.pid], lambda: process.join(GLANCE) or process.exitcode is not None)
        if process.exitcode != 0:
            process.kill()
            ending = self.output.read_text(errors="replace").splitlines()[-3:]
            raise AssertionError(f"exit code {process.exitcode}: {' '.join(ending)}")
        return time.perf_counter() - start

    def kill(self, moment: float, *, while_writing: bool) -> bool:
        """Start a run and kill it after `moment` seconds or when it next writes; False if it ended before."""
        process = self.start()
        process.join(moment)
        while while_writing and process.is_alive() and not self.unfinished():
            time.sleep(0.001)
        process.kill()
        process.join()
        return process.exitcode != 0

    def clear(self) -> None:
        """Remove what runs left."""
        for folder in self.watched:
            shutil.rmtree(folder, ignore_errors=True)

    def files(self) -> list[Path]:
        """All files that runs left."""
        return [
            Path(parent) / name for folder in self.watched for parent, _, names in os.walk(folder) for name in names
        ]

    def unfinished(self) -> list[Path]:
        """Files under a temporary name."""
        return [path for path in self.files() if is_temporary(path.name)]

    def content(self) -> dict[str, object]:
        """What a run that ended left, without what no two runs have the same.

        Unfinished files are part of it but for those in the cache, which are removed only where more is to be cached.
        """
        in_cache = [path for path in self.unfinished() if path.is_relative_to(self.cache)]
        return {
            str(path): CONTENTS.get(path.name, CONTENTS.get(path.suffix, sha256_of))(path)
            for path in self.files()
            if path.suffix != ".log" and path.name != LOCK and path not in in_cache
        }


def _run_script(script: str, options: list[str], output: Path) -> None:
    """What a process does: the entry point, as from the command line."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)  # the platform's own
    sys.argv = [f"{script}.py", *options]
    run(importlib.import_module(script).main)


def _untimed_results(path: Path) -> object:
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in TIMED}


def _lines(path: Path) -> object:
    return sorted(path.read_text().splitlines())  # a run that goes on may take the images in another order


def _values(content: object) -> object:
    """A checkpoint's content to compare bit for bit; its file also tells which of its objects are one and the same."""
    if isinstance(content, torch.Tensor):
        return str(content.dtype), tuple(content.shape), content.numpy().tobytes()
    if isinstance(content, Mapping):
        return {key: _values(value) for key, value in content.items()}
    return [_values(value) for value in content] if isinstance(content, list | tuple) else content


CONTENTS: Mapping[str, Callable[[Path], object]] = {
    "results.json": _untimed_results,
    "scores.jsonl": _lines,
    ".pth": lambda path: _values(read_checkpoint(path)),
}


def _read_csv(path: Path) -> None:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert rows
    assert all(len(row) == len(header) for row in rows)


def _read_png(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _read_safetensors(path: Path) -> None:
    with safe_open(path, "numpy") as file:
        for key in file.keys():  # noqa: SIM118 - it is no mapping
            file.get_tensor(key)


def _read_html(path: Path) -> None:
    assert path.read_text().rstrip().endswith("</html>")


def _read_text(path: Path) -> None:
    assert path.read_text().endswith("\n")


def _read_appended_lines(path: Path) -> None:
    *whole, _ = path.read_text().split("\n")  # the last may be cut short, and is then done again
    for line in whole:
        json.loads(line)


def _read_archive(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        assert [arrays[name] for name in arrays]


READERS: Mapping[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text()),
    ".jsonl": _read_appended_lines,
    ".csv": _read_csv,
    ".md": _read_text,
    ".html": _read_html,
    ".png": _read_png,
    ".npy": partial(np.load, allow_pickle=False),
    ".npz": _read_archive,
    ".pth": read_checkpoint,
    ".safetensors": _read_safetensors,
}


def broken_files(paths: Sequence[Path]) -> list[str]:
    """Files that a killed run left and that are not whole, each with what is wrong; temporary ones do not count."""
    broken = []
    for path in paths:
        if path.suffix == ".log" or path.name == LOCK or is_temporary(path.name):
            continue
        try:
            READERS[path.suffix](path)
        except Exception as error:
            broken.append(f"{path}: {error!r}")
    return broken


def try_scenario(scenario: Scenario, folder: Path, kills: int, seed: int) -> Outcome:
    """Kill a scenario's runs `kills` times."""
    runner = Runner(scenario, folder)
    runner.finish()  # with what every later run finds in the cache
    runner.clear()
    seconds = runner.finish()
    reference = runner.content()
    rng = random.Random(seed)
    outcome = Outcome()
    pending = 0  # kills that no run has ended after
    while outcome.kills < kills or pending:
        if outcome.kills < kills and (not pending or rng.random() < 0.5):
            if not pending:
                runner.clear()
            if not runner.kill(rng.uniform(0, seconds), while_writing=rng.random() < 0.5):
                continue
            outcome.kills += 1
            outcome.writing += bool(runner.unfinished())
            broken = broken_files(runner.files())
            outcome.problems += broken
            pending += 1
            if not broken:
                continue
        else:
            problems = _after_the_end(runner, reference)
            outcome.survived += 0 if problems else pending
            outcome.problems += problems
        pending = 0
    return outcome


def _after_the_end(runner: Runner, reference: Mapping[str, object]) -> list[str]:
    """What is wrong when the next run has ended."""
    try:
        runner.finish()
    except AssertionError as error:
        return [str(error)]
    content = runner.content()
    return [
        f"{path} is not what an undisturbed run leaves"
        for path in sorted(content.keys() | reference.keys())
        if content.get(path) != reference.get(path)
    ]


def main() -> int:
    """Try all scenarios and print what became of them; 1 if a kill was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive_int, default=20, help="kills (default: %(default)s)")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="scenarios to try (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(1)  # threads do not live through a fork
    rows, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, scenario in scenarios(Path(folder)).items():
            if args.only and name not in args.only:
                continue
            outcome = try_scenario(scenario, Path(folder) / name.replace(" ", "_"), args.rounds, args.seed)
            rows.append([name, outcome.kills, outcome.writing, outcome.survived])
            problems += [f"{name}: {problem}" for problem in outcome.problems]
            print(f"{name}: {outcome.survived} of {outcome.kills} survived", file=sys.stderr)
    print(tabulate(rows, ["run", "killed", "of which while writing", "survived"], tablefmt="github"))
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    run(main)
