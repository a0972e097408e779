"""How programs end: out of memory, and interrupted at any moment of their start."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.evaluation_options import EvaluationOptions
from engine.prediction_options import PredictionOptions
from engine.testing_options import DPClipOptions, SDPOptions, SDPPlusOptions
from engine.training_options import DPClipTrainingOptions, SDPPlusTrainingOptions
from tests.forked import run_forked
from utils.arguments import parse
from utils.errors import INTERRUPTED, interrupts_wait, run

PROJECT = Path(__file__).resolve().parents[2]
TEST = ["--dataset", "mvtec"]
TRAIN = ["--train_dataset", "mvtec", "--save_path", "run"]
PROGRAMS = {
    "test_sdp": (SDPOptions, TEST),
    "test_sdp_plus": (SDPPlusOptions, [*TEST, "--checkpoint", "a.pth"]),
    "test_dp_clip": (DPClipOptions, [*TEST, "--checkpoint", "a.pth"]),
    "train_sdp_plus": (SDPPlusTrainingOptions, TRAIN),
    "train_dp_clip": (DPClipTrainingOptions, TRAIN),
    "predict": (PredictionOptions, ["a.png"]),
    "evaluate": (EvaluationOptions, ["--maps", "maps"]),
}

ask_pytorch, ask_numpy, ask_python = (partial(ask, 1 << 55) for ask in (torch.empty, np.empty, bytearray))


def ask_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("ask", [ask_pytorch, ask_numpy, ask_python, ask_a_gpu])
@pytest.mark.parametrize("kind, arguments", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_out_of_memory_is_one_sentence_that_names_options_of_the_program(capsys, kind, arguments, ask):
    def main(given: list[str]) -> None:
        options = parse(kind, None, given)
        work(options)

    def work(settings: object) -> None:
        ask()

    with pytest.raises(SystemExit) as ending:
        run(lambda: main(arguments))
    assert ending.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("error: out of memory: try a smaller --")
    named = {word.strip(",") for word in sentence.split() if word.startswith("--")}
    assert ("--device" in named) == (ask is ask_a_gpu and kind is not EvaluationOptions)
    assert "--num_workers" in named
    with pytest.raises(SystemExit):
        main(["--help"])
    assert named <= set(capsys.readouterr().out.replace(",", " ").split())


def test_out_of_memory_names_no_option_that_is_as_small_as_it_can_be(capsys):
    def main() -> None:
        options = parse(SDPOptions, None, [*TEST, "--batch_size", "1", "--num_workers", "0"])  # noqa: F841
        ask_pytorch()

    with pytest.raises(SystemExit):
        run(main)
    assert capsys.readouterr().err == "error: out of memory: try a smaller --image_size\n"


def test_out_of_memory_without_options_is_said_too(capsys):
    with pytest.raises(SystemExit):
        run(ask_pytorch)
    assert capsys.readouterr().err == "error: out of memory: close other programs, or take a machine with more\n"


def test_a_link_that_leads_back_to_itself_is_one_sentence(tmp_path, capsys):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SystemExit) as ending:
        run(lambda: loop.resolve(strict=True))
    assert ending.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("error: ")
    assert str(loop) in sentence


def test_a_package_that_swallows_an_interrupt_while_it_is_imported_does_not_keep_the_program(tmp_path):
    (tmp_path / "swallowing.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    pass\n"
    )

    def main() -> None:
        sys.path.insert(0, str(tmp_path))
        import swallowing  # noqa: F401

        print("went on")

    assert run_forked(main) == ([130], f"{INTERRUPTED}\n")


def test_an_interrupt_at_work_lets_blocks_end_and_a_second_one_does_not_wait(tmp_path):
    def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            (tmp_path / "ended").touch()

    assert run_forked(main) == ([130], f"{INTERRUPTED}\n")
    assert (tmp_path / "ended").exists()


def test_a_forked_program_that_fails_leaves_the_processes_of_its_parent_alone():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    process.start()
    try:
        codes, _ = run_forked(ask_python)
        assert codes == [2]
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


def test_an_interrupt_that_has_to_wait_comes_when_the_block_has_ended():
    steps, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if run in the background
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("to its end")
        assert steps == ["to its end"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


AT_IMPORT = """
import importlib, os, signal, sys

moment, script, *options = sys.argv[1:]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            del sys.meta_path[0]
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.path.insert(0, "")
sys.argv = [script, *options]
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell runs tests in the background
main = importlib.import_module(script).main
importlib.import_module("utils.errors").run(main)
"""
MOMENTS = [(script, "utils.arguments") for script in PROGRAMS]
MOMENTS += [("predict", name) for name in ("numpy", "torch", "torch.nn", "torch.utils.data")]


@pytest.mark.parametrize("script, moment", MOMENTS)
def test_an_interrupt_while_packages_are_imported_is_one_line(script, moment):
    command = [sys.executable, "-c", AT_IMPORT, moment, script, *PROGRAMS[script][1]]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, f"{INTERRUPTED}\n")
