"""Files that go away, or can no longer be read, between a run's start and their turn: one sentence each."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import engine.testing
import engine.training
import test_sdp
import train_dp_clip
import train_sdp_plus
from engine.sdp_plus_training import SDPPlusTraining
from tests import small_data, tiny_clip
from utils.errors import run

RUN_CODE = {test_sdp: engine.testing, train_sdp_plus: engine.training, train_dp_clip: engine.training}
LAST_IMAGE = Path("nut/test/square/002.png")
LAST_MASK = Path("nut/ground_truth/square/002_mask.png")


def vanish(path: Path) -> None:
    path.unlink()


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lead_in_a_circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def be_forbidden(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    path.chmod(0)


@pytest.fixture
def options(tmp_path) -> dict[Callable, list[str]]:
    """Of each entry point, on a data set of its own whose meta.json is there already."""
    config, weights = tiny_clip.save(tmp_path / "model")
    root = small_data.make(tmp_path / "data")
    common = ["--model", config, "--pretrained", weights, "--save_path", tmp_path / "run", "--num_workers", 1]
    common += ["--cache_dir", tmp_path / "cache"]
    test = ["--dataset", "mvtec", "--data_path", root, "--batch_size", 1]
    train = ["--train_dataset", "mvtec", "--train_dataset_dir", root, "--epochs", 1]
    return {
        test_sdp: [*map(str, common + test)],
        train_sdp_plus: [*map(str, common + train)],
        train_dp_clip: [*map(str, common + train)],
    }


@pytest.mark.parametrize("mishap", [vanish, become_a_folder, lead_in_a_circle, be_forbidden])
@pytest.mark.parametrize("file", [LAST_IMAGE, LAST_MASK])
@pytest.mark.parametrize("script", [test_sdp, train_sdp_plus, train_dp_clip])
def test_a_file_that_was_listed_and_is_gone_is_named(options, tmp_path, capsys, monkeypatch, script, file, mishap):
    code = RUN_CODE[script]
    real = code.backbone_from_options

    def load_after_the_mishap(*arguments, **settings):  # by then the images are listed
        mishap(tmp_path / "data" / file)
        return real(*arguments, **settings)

    monkeypatch.setattr(code, "backbone_from_options", load_after_the_mishap)
    assert_one_sentence(lambda: script.main(options[script]), str(tmp_path / "data" / file), capsys)


def test_tokens_that_go_while_a_training_reads_them_are_named(options, tmp_path, capsys, monkeypatch):
    real = SDPPlusTraining.batches

    def batches_after_the_mishap(*arguments):
        for path in (tmp_path / "cache" / "tokens").rglob("*.safetensors"):
            path.unlink()
        return real(*arguments)

    monkeypatch.setattr(SDPPlusTraining, "batches", batches_after_the_mishap)
    arguments = [*options[train_sdp_plus], "--cache_memory", "0"]
    assert_one_sentence(lambda: train_sdp_plus.main(arguments), "is gone or damaged; start again", capsys)


def assert_one_sentence(main: Callable[[], None], said: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ending:
        run(main)
    errors = capsys.readouterr().err
    assert ending.value.code == 2
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: ")
    assert said in errors.splitlines()[-1]
