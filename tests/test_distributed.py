"""Several processes under torchrun do what one does; each start of them takes seconds, so one start does much."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import test_dp_clip
import test_sdp
import train_dp_clip
import train_sdp_plus
from data.build import ensure_meta
from datasets.registry import get_spec
from tests import small_data, tiny_clip
from tests.compare import relative_error

PROJECT = Path(__file__).resolve().parents[1]
MAINS = {module.__name__: module for module in (test_dp_clip, test_sdp, train_dp_clip, train_sdp_plus)}


def command(processes: int, script: str, *arguments: str) -> list[str]:
    options = ["--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, "-m", "torch.distributed.run", *options, script, *arguments]


def start(processes: int, script: str, *arguments: str) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(processes, script, *arguments),
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_mains(processes: int, calls: list[tuple[str, list[str]]]) -> str:
    """What all processes print in running the entry points one after another."""
    process = start(processes, "tests/several_mains.py", json.dumps(calls))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> list[str]:
    config, weights = tiny_clip.save(tmp_path_factory.mktemp("model"))
    return ["--model", str(config), "--pretrained", str(weights), "--num_workers", "0"]


@pytest.fixture(scope="module")
def bolts(tmp_path_factory) -> Path:
    return small_data.make(tmp_path_factory.mktemp("bolts"))


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def same_results(a: Path, b: Path) -> bool:
    """Whether two tests left the same files and the same measures, maps and scores, bit for bit."""
    files = {path.relative_to(a) for path in a.rglob("*") if path.is_file()}
    assert files == {path.relative_to(b) for path in b.rglob("*") if path.is_file()}
    assert sum(path.suffix == ".npy" for path in files) > 0
    assert Path("report.html") in {Path(path.name) for path in files}
    results = [
        [json.loads((run / path).read_text()) for path in sorted(files) if path.name == "results.json"]
        for run in (a, b)
    ]
    for one, other in zip(*results, strict=True):
        assert other["complete"] is True
        for key in ("classes", "mean", "images"):
            assert one[key] == other[key]
    return all(
        (a / path).read_bytes() == (b / path).read_bytes()
        for path in files
        if path.suffix in (".npy", ".png", ".csv", ".md")
    )


def test_an_evaluation_is_the_same_bit_for_bit(bolts, model, tmp_path):
    """In three processes: two batches each; one batch for all; and batches of which the predictions depend."""
    cache = ["--cache_dir", str(tmp_path / "cache")]
    trained = tmp_path / "trained" / "image_adapter.pth"
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), "--epochs", "1"]
    train_dp_clip.main([*data, *model, *cache, "--save_path", str(trained.parent)])

    def calls(out: Path) -> list[tuple[str, list[str]]]:
        common = ["--dataset", "mvtec", "--data_path", str(bolts), *model, *cache, "--save_maps"]
        more = ["--visualization", "--bootstrap", "20", "--batch_size", "2", "--save_path", str(out / "sdp")]
        one = ["--classes", "nut", "--save_path", str(out / "one")]
        dp_clip = ["--checkpoint", str(trained), "--batch_size", "3", "--save_path", str(out / "dp_clip")]
        return [
            ("test_sdp", [*common, *more]),
            ("test_sdp", [*common, *one]),
            ("test_dp_clip", [*common, *dp_clip]),
        ]

    for name, arguments in calls(tmp_path / "alone"):
        MAINS[name].main(arguments)
    output = run_mains(3, calls(tmp_path / "together"))
    assert same_results(tmp_path / "alone", tmp_path / "together")
    results = json.loads((tmp_path / "together" / "sdp" / "results.json").read_text())
    assert results["processes"] == 3
    assert results["seconds"]["waiting"] > 0
    assert (
        output.count("class bolt is called 'bolt'") == 2
    )  # once a run that has the class, not once a process
    log = (tmp_path / "together" / "dp_clip" / "test.log").read_text()
    assert log.count("WARNING") == 1  # that it was trained on what it is tested on, by the main process
    assert output.count("WARNING process 2: ") == 1


def losses(run: Path) -> np.ndarray:
    with (run / "loss.csv").open(newline="") as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


def assert_same_training(a: Path, b: Path) -> None:
    """Two trainings have the same losses and parameters but for the rounding of sums."""
    assert {path.name for path in a.iterdir()} == {path.name for path in b.iterdir()}
    np.testing.assert_allclose(losses(a), losses(b), rtol=1e-5)
    states = (torch.load(run / "last.pth", weights_only=True) for run in (a, b))
    one, other = (state.get("linear_layers") or state["image_adapter"] for state in states)
    for name, value in one.items():
        assert relative_error(other[name], value) < 1e-5, name


def test_a_training_is_that_with_the_batches_of_all_processes_together(bolts, model, tmp_path):
    """Ten images in steps of three, the last of which has one image for three processes."""
    cogs = small_data.make(tmp_path / "cogs", ("cog",), seed=1)

    def calls(run: str, batch_size: int, *more: str) -> list[tuple[str, list[str]]]:
        data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), *model, "--epochs", "2"]
        size = ["--batch_size", str(batch_size), "--cache_dir", str(tmp_path / "cache" / run)]
        test = ["--test_dataset", "mvtec", "--test_dataset_dir", str(cogs)]
        fast = ["--learning_rate", "0.002"]  # so that the normalisation over the batch has an effect
        return [
            (name, [*data, *size, *own, *more, "--save_path", str(tmp_path / run / folder)])
            for folder, name, own in (
                ("cached", "train_sdp_plus", test),
                (
                    "released",
                    "train_dp_clip",
                    [*fast, "--fidelity", "released", "--activation_checkpointing"],
                ),
                ("encoded", "train_sdp_plus", ["--no_cache"]),
                ("corrected", "train_dp_clip", [*fast, "--fidelity", "corrected", "--accumulate", "3"]),
            )
        ]

    for name, arguments in calls("alone", 3):
        MAINS[name].main(arguments)
    for name, arguments in calls("together", 3, "--epochs", "1")[2:]:  # which are gone on with by three
        MAINS[name].main(arguments)
    run_mains(3, calls("together", 1, "--resume"))
    for folder in ("cached", "released", "encoded", "corrected"):
        assert_same_training(tmp_path / "alone" / folder, tmp_path / "together" / folder)


def test_an_error_in_another_process_is_told_once_and_keeps_what_was_finished(bolts, model, tmp_path):
    broken = small_data.make(tmp_path / "broken")
    ensure_meta(get_spec("mvtec"), broken)
    (broken / "nut" / "test" / "square" / "002.png").write_text("no image")
    out = tmp_path / "out"
    paths = ["--data_path", str(broken), "--save_path", str(out), "--cache_dir", str(tmp_path / "cache")]
    arguments = ["--dataset", "mvtec", *paths, *model, "--batch_size", "5"]
    process = start(2, "test_sdp.py", *arguments)  # the nuts are the second process's
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1  # torchrun's own
    sentence = f"error: {broken / 'nut' / 'test' / 'square' / '002.png'} is not an image"
    assert output.count(sentence) == 1
    assert "exitcode  : 2" in output
    assert output.count("Traceback") == 1  # torchrun's own
    assert sentence in (out / "test.log").read_text()
    assert list(json.loads((out / "results.json").read_text())["classes"]) == ["bolt"]
    assert (out / "report.html").exists()


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {project!r})
from utils.distributed import barrier, rank
from utils.errors import run

def main():
    barrier()
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    barrier()

run(main, parallel={parallel})
"""


@pytest.mark.parametrize(
    "parallel, sentence",
    [
        (True, "error: another process of this run is gone"),
        (False, "error: script.py runs in one process: start it by python, not torchrun"),
    ],
)
def test_a_killed_process_ends_the_run_and_programs_of_one_process_refuse_more(tmp_path, parallel, sentence):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(project=str(PROJECT), parallel=parallel))
    process = start(2, str(script))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.count(sentence) == 1
    assert ("SIGKILL" in output) == parallel
    assert output.count("Traceback") == 1  # torchrun's own
