"""Several processes under torchrun do what one does; as its start takes seconds, most are forked as it starts them."""

import atexit
import ctypes
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

import evaluate
import predict
import test_dp_clip
import test_sdp
import test_sdp_plus
import train_dp_clip
import train_sdp_plus
from data.build import ensure_meta
from datasets.registry import get_spec
from tests import small_data
from tests.compare import TRAINED, relative_length
from tests.forked import run_shared
from tests.left_behind import table
from tests.patience import run_patiently
from utils.distributed import barrier
from utils.errors import run

PROJECT = Path(__file__).resolve().parents[1]
MAINS = {
    module.__name__: module.main
    for module in (evaluate, predict, test_dp_clip, test_sdp, test_sdp_plus, train_dp_clip, train_sdp_plus)
}
Calls = list[tuple[str, list[str]]]  # entry points and their arguments


def torchrun(processes: int, script: str, *arguments: str) -> tuple[int, str]:
    """The exit code of a script in several processes, and all that is printed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = run_patiently([sys.executable, *launcher, script, *arguments], cwd=PROJECT, env=environment)
    return result.returncode, result.stdout


@pytest.fixture(scope="module")
def model(model) -> list[str]:
    return [*model, "--num_workers", "0"]


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory) -> Path:
    """A folder with the results of one process, in `alone`, and of three, in `together`, and what these printed."""
    root = tmp_path_factory.mktemp("runs")
    bolts = small_data.make(root / "bolts")
    cogs = small_data.make(root / "cogs", ("cog",), seed=1)

    def trainings(run: str, batch_size: int, *more: str) -> Calls:
        data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), *model, "--epochs", "2"]
        size = ["--batch_size", str(batch_size), "--cache_dir", str(root / "cache" / run)]
        validation = ["--test_dataset", "mvtec", "--test_dataset_dir", str(cogs)]
        fast = ["--learning_rate", "0.002"]  # so that the normalisation over the batch has an effect
        released = [*fast, "--fidelity", "released", "--activation_checkpointing"]
        corrected = [*fast, "--fidelity", "corrected", "--accumulate", "3"]
        return [
            (name, [*data, *size, *own, *more, "--save_path", str(root / run / folder)])
            for folder, name, own in (
                ("cached", "train_sdp_plus", validation),
                ("released", "train_dp_clip", released),
                ("encoded", "train_sdp_plus", ["--no_cache"]),
                ("corrected", "train_dp_clip", corrected),
            )
        ]

    def evaluations(run: str) -> Calls:
        """Three batches a class, shared by three processes; one batch for all; batches that predictions depend on."""
        data = ["--dataset", "mvtec", "--data_path", str(bolts)]
        common = [*data, *model, "--save_maps"]
        trained = root / "alone"
        maps = ["--maps", str(trained / "test_sdp" / "maps"), *data, "--num_workers", "0"]
        photographs = [str(bolts / "bolt" / "test"), str(bolts / "nut" / "test" / "square")]
        normal = ["--normal_dir", str(bolts / "nut" / "test" / "good"), "--false_alarm_rate", "0.5"]
        checkpoint = ["--checkpoint", str(trained / "released" / "last.pth")]
        return [
            (name, [*common, *own, "--cache_dir", str(root / "cache"), "--save_path", str(root / run / name)])
            for name, own in (
                ("test_sdp", ["--batch_size", "2", "--visualization", "--bootstrap", "20"]),
                ("test_sdp_plus", ["--classes", "nut", "--checkpoint", str(trained / "encoded" / "last.pth")]),
                ("test_dp_clip", ["--batch_size", "3", *checkpoint]),
            )
        ] + [
            (name, [*own, "--save_path", str(root / run / name)])
            for name, own in (
                ("evaluate", [*maps, "--report"]),
                ("predict", [*photographs, *model, *normal, "--save_maps", "--batch_size", "2"]),
            )
        ]

    begun = trainings("together", 3, "--epochs", "1")[2:]  # by one process, and gone on with by three
    for name, arguments in [*trainings("alone", 3), *begun, *evaluations("alone")]:
        MAINS[name](arguments)
    calls = [*trainings("together", 1, "--resume"), *evaluations("together")]

    def main() -> None:
        for name, arguments in calls:
            MAINS[name](arguments)

    codes, output = run_shared(3, main)
    assert codes == [0, 0, 0], output
    (root / "output.txt").write_text(output)
    return root


def assert_same_files(alone: Path, together: Path, kinds: set[str]) -> None:
    """Both folders have files of the same names, and the same content where that holds no times and folders."""
    files = {path.relative_to(alone) for path in alone.rglob("*") if path.is_file()}
    assert files == {path.relative_to(together) for path in together.rglob("*") if path.is_file()}
    assert {path.suffix for path in files} >= kinds
    for path in files:
        if path.suffix in (".npy", ".png", ".csv", ".md", ".jsonl"):
            assert (alone / path).read_bytes() == (together / path).read_bytes(), path


@pytest.mark.parametrize("name", ["test_sdp", "test_sdp_plus", "test_dp_clip", "evaluate"])
def test_an_evaluation_leaves_the_same_files_bit_for_bit(runs, name):
    alone, together = runs / "alone" / name, runs / "together" / name
    assert_same_files(alone, together, {".csv", ".md", ".html", ".json"})
    one, other = (json.loads(next(run.rglob("results.json")).read_text()) for run in (alone, together))
    for key in ("finished", "whole_data_set", "images", "classes", "mean"):
        assert one[key] == other[key]
    assert (one["processes"], other["processes"]) == (1, 3)
    assert ("waiting" in one["seconds"], "waiting" in other["seconds"]) == (False, True)


def test_a_comparison_of_two_runs_with_maps_is_shared(runs, tmp_path):
    folders = [str(runs / run / "test_sdp") for run in ("alone", "together")]
    options = ["--bootstrap", "20", "--num_workers", "0", "--save_path", str(tmp_path)]
    codes, output = run_shared(2, lambda: evaluate.main(["--compare", *folders, *options]))
    assert codes == [0, 0], output
    differences = json.loads((tmp_path / "compare.json").read_text())["mean"]
    assert {key: one["difference"] for key, one in differences.items()} == dict.fromkeys(differences, 0)
    assert "auroc_px" in differences


def test_a_prediction_leaves_the_same_files_bit_for_bit(runs):
    folders = [runs / run / "predict" for run in ("alone", "together")]
    assert_same_files(*folders, {".npy", ".png", ".csv", ".jsonl", ".html", ".json"})
    one, other = (json.loads((folder / "calibration.json").read_text()) for folder in folders)
    assert one == other


def test_the_main_process_alone_writes_the_log_and_others_warn(runs):
    output = (runs / "output.txt").read_text()
    warning = "is what the checkpoint was trained on"
    assert (runs / "together" / "test_dp_clip" / "test.log").read_text().count(f"WARNING mvtec {warning}") == 1
    assert output.count("going on after epoch 1") == 2  # of two trainings, not by six processes
    for number in (1, 2):
        assert output.count(f"WARNING process {number}: mvtec {warning}") == 2  # of SDP+ and of DP-CLIP


def losses(run: Path) -> np.ndarray:
    return np.array([[*map(float, row.values())] for row in table(run / "loss.csv")])


@pytest.mark.parametrize("name", ["cached", "released", "encoded", "corrected"])
def test_a_training_is_that_with_the_batches_of_all_processes_together(runs, name):
    """Ten images in steps of three, the last of which has one image for three processes."""
    alone, together = runs / "alone" / name, runs / "together" / name
    assert {path.name for path in alone.iterdir()} == {path.name for path in together.iterdir()}
    np.testing.assert_allclose(losses(together), losses(alone), rtol=1e-5)
    states = (torch.load(run / "last.pth", weights_only=True) for run in (alone, together))
    one, other = (state.get("linear_layers") or state["image_adapter"] for state in states)
    for key, value in one.items():
        assert relative_length(other[key], value) < TRAINED, key


def test_an_error_in_another_process_is_told_once_and_keeps_what_was_finished(model, tmp_path):
    broken = small_data.make(tmp_path / "broken")
    ensure_meta(get_spec("mvtec"), broken)
    picture = broken / "nut" / "test" / "square" / "002.png"
    picture.write_text("no image")
    out = tmp_path / "out"
    paths = ["--data_path", str(broken), "--save_path", str(out), "--cache_dir", str(tmp_path / "cache")]
    # One batch a class: the nuts are the second process's.
    code, output = torchrun(2, "test_sdp.py", "--dataset", "mvtec", *paths, *model, "--batch_size", "5")
    assert code == 1  # torchrun's own
    assert output.count(f"error: {picture} is not an image") == 1
    assert "exitcode  : 2" in output
    assert output.count("Traceback") == 1  # torchrun's own
    assert f"error: {picture} is not an image" in (out / "test.log").read_text()
    assert list(json.loads((out / "results.json").read_text())["classes"]) == ["bolt"]
    assert (out / "report.html").exists()


def test_a_process_that_is_killed_ends_the_run(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import os, signal, sys
sys.path.insert(0, {str(PROJECT)!r})
from utils.distributed import barrier, rank
from utils.errors import run

def main():
    barrier()
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    barrier()

run(main, parallel=True)
"""
    )
    code, output = torchrun(2, str(script))
    assert code == 1
    assert "Signal 9 (SIGKILL) received by PID" in output
    assert output.count("Traceback") == 1  # torchrun's own


def test_what_libraries_do_at_the_end_cannot_fail_a_run_that_is_done():
    """A native handler that aborts at exit stands for a thread that outlives the interpreter."""

    def main() -> None:
        native = ctypes.CDLL(None)
        native.__cxa_atexit(native.abort, None, None)
        atexit.register(lambda: print("the log is closed"))
        barrier()

    codes, output = run_shared(2, main)
    assert codes == [0, 0], output
    assert output.count("the log is closed") == 2


def test_a_program_that_does_not_share_its_work_refuses_to_run_several_times(monkeypatch, capsys):
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("utils.distributed.start", dist.HashStore)
    monkeypatch.setattr("signal.signal", lambda *arguments: None)
    monkeypatch.setattr("sys.argv", ["a/doctor.py"])
    monkeypatch.setattr("atexit._run_exitfuncs", lambda: None)
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit) as caught:
        run(lambda: pytest.fail("it ran"))
    assert caught.value.code == 2
    assert capsys.readouterr().err == ("error: doctor.py runs in one process: start it by python, not torchrun\n")
