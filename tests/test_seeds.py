"""Trainings by several seeds, tests of them, and comparisons by the spread over the seeds, as a user runs them."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch

import evaluate
import test_dp_clip
import test_sdp
import test_sdp_plus
import train_dp_clip
import train_sdp_plus
from models.checkpoints import read_checkpoint, save_checkpoint
from tests import small_data, tiny_clip
from tests.forked import run_shared
from tests.left_behind import results
from utils.errors import UserError
from utils.results import percent
from utils.spread import welch

MAINS: dict[str, tuple[Callable, Callable]] = {
    "sdp_plus": (train_sdp_plus.main, test_sdp_plus.main),
    "dp_clip": (train_dp_clip.main, test_dp_clip.main),
}
LAST = {"sdp_plus": "epoch_2.pth", "dp_clip": "image_adapter_2.pth"}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A model, data to train on, and two data sets to test on."""
    folder = tmp_path_factory.mktemp("home")
    tiny_clip.save(folder)
    small_data.make(folder / "train", ("bolt",))
    for seed, name in enumerate(("mpdd", "btad"), start=1):
        small_data.make(folder / name, ("cog",), seed=seed)
    return folder


def model(home: Path) -> list[str]:
    files = ["--model", str(home / "tiny.json"), "--pretrained", str(home / "tiny.safetensors"), "--num_workers", "0"]
    return [*files, "--cache_dir", str(home / "cache"), "--fidelity", "corrected"]


def train(method: str, home: Path, out: Path, *more: str) -> None:
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(home / "train"), "--save_path", str(out)]
    MAINS[method][0]([*data, *model(home), "--epochs", "2", "--learning_rate", "0.01", *more])
    logging.basicConfig(force=True)


def test(method: str, home: Path, out: Path, *checkpoints: Path, names: tuple[str, ...] = ("mpdd",)) -> Path:
    data = ["--dataset", *names, "--data_path", *(str(home / name) for name in names), "--save_path", str(out)]
    given = ["--checkpoint", *map(str, checkpoints)] if checkpoints else []
    main = MAINS[method][1] if checkpoints else test_sdp.main
    main([*data, *model(home), "--no_report", *given])
    return out


test.__test__ = False


@pytest.fixture(scope="module", params=MAINS)
def trained(request, home) -> tuple[str, Path]:
    train(request.param, home, home / request.param, "--seeds", "2", "1")
    return request.param, home / request.param


@pytest.fixture(scope="module")
def tested(trained, home) -> Path:
    method, folder = trained
    return test(method, home, home / "tested" / method, folder)


def test_each_seed_gives_the_bits_of_a_training_of_its_own(trained, home, tmp_path):
    method, folder = trained
    assert sorted(path.name for path in folder.iterdir()) == ["seed_1", "seed_2"]
    train(method, home, tmp_path / "alone", "--seeds", "2")
    alone, there = (torch.load(path / LAST[method]) for path in (tmp_path / "alone", folder / "seed_2"))
    key = {"sdp_plus": "linear_layers", "dp_clip": "image_adapter"}[method]
    assert all(torch.equal(value, there[key][name]) for name, value in alone[key].items())
    assert (alone["seed"], alone["training"]) == (2, there["training"])
    other = torch.load(folder / "seed_1" / LAST[method])
    assert any(not torch.equal(value, other[key][name]) for name, value in alone[key].items())


def test_seeds_go_on_where_they_were_stopped(trained, home, tmp_path):
    method, folder = trained
    shutil.copytree(folder / "seed_2", tmp_path / "seed_2")
    before = (tmp_path / "seed_2" / LAST[method]).read_bytes()
    with pytest.raises(UserError, match=rf"{tmp_path / 'seed_2'} holds a training already: go on with it by --resume"):
        train(method, home, tmp_path, "--seeds", "1", "2")
    assert not (tmp_path / "seed_1" / "last.pth").exists()
    train(method, home, tmp_path, "--seeds", "1", "2", "--resume")
    assert (tmp_path / "seed_2" / LAST[method]).read_bytes() == before
    assert (tmp_path / "seed_1" / LAST[method]).read_bytes() == (folder / "seed_1" / LAST[method]).read_bytes()


def test_processes_train_all_seeds_together(home, tmp_path):
    codes, output = run_shared(2, lambda: train("sdp_plus", home, tmp_path, "--seeds", "1", "2", "--epochs", "1"))
    assert codes == [0, 0], output
    assert all((tmp_path / f"seed_{seed}" / "epoch_1.pth").is_file() for seed in (1, 2))


def test_a_test_of_a_training_is_one_of_all_seeds(trained, tested):
    method, folder = trained
    content = json.loads((tested / "seeds.json").read_text())
    runs = [results(tested / f"seed_{seed}")["mean"] for seed in (1, 2)]
    assert content["seeds"] == [1, 2]
    assert content["classes"].keys() == {"cog"}
    for key, found in content["mean"].items():
        assert found == pytest.approx({"mean": mean(run[key] for run in runs), "std": stdev(run[key] for run in runs)})
    value = content["mean"]["ap_px"]
    assert f"{percent(value['mean'])} ± {percent(value['std'])}" in (tested / "seeds.md").read_text()
    row = json.loads((tested / "seed_2" / "rows.jsonl").read_text().splitlines()[-1])
    assert (row["seed"], row["epoch"], row["class_name"], row["trained_on"]) == (2, 2, None, ["mvtec"])
    recorded = results(tested / "seed_2")["checkpoint"]
    assert recorded["path"] == str(folder / "seed_2" / LAST[method])


def test_several_data_sets_have_all_seeds_each(trained, home, tmp_path):
    method, folder = trained
    given = [folder, folder] if method == "sdp_plus" else [folder / f"seed_{seed}" / LAST[method] for seed in (1, 2)]
    out = test(method, home, tmp_path, *given, names=("mpdd", "btad"))
    found = {path.relative_to(out).as_posix() for path in out.rglob("results.json")}
    assert found == {f"{name}/seed_{seed}/results.json" for name in ("mpdd", "btad") for seed in (1, 2)}
    assert all((out / name / "seeds.md").is_file() for name in ("mpdd", "btad"))
    assert "btad, seed 2" in (out / "summary.md").read_text()


def test_checkpoints_that_are_no_seeds_of_one_training_are_refused(trained, home, tmp_path):
    method, folder = trained
    first, last = folder / "seed_1" / LAST[method].replace("2", "1"), folder / "seed_2" / LAST[method]
    content = read_checkpoint(last)
    content |= {"training": content["training"] | {"learning_rate": 9.0}}
    save_checkpoint(tmp_path / LAST[method], content)
    for files, message in (
        ((first, last), "differ in more than the seed, in epoch: test them in separate runs"),
        ((folder / "seed_1", tmp_path / LAST[method]), "differ in more than the seed, in learning_rate"),
        ((folder / "seed_1", folder / "seed_2", folder / "seed_1" / LAST[method]), "are of one seed, 1"),
        ((tmp_path / "..",), "there is no .* in this folder; give that of a training"),
    ):
        with pytest.raises(UserError, match=message):
            test(method, home, tmp_path / "out", *files)
    if method == "sdp_plus":
        with pytest.raises(UserError, match="they are seeds of one training: to test each data set with all of them"):
            test(method, home, tmp_path / "out", folder / "seed_1", folder / "seed_2", names=("mpdd", "btad"))


def test_methods_are_compared_by_the_spread_over_the_seeds(tested, home, tmp_path, capsys):
    sdp = test("sdp", home, tmp_path / "runs" / "sdp")
    evaluate.main(["--compare", str(sdp), str(tested), "--save_path", str(tmp_path / "compared")])
    content = json.loads((tmp_path / "compared" / "compare.json").read_text())
    runs = [results(tested / f"seed_{seed}")["mean"] for seed in (1, 2)]
    found = content["mean"]["auroc_px"]
    difference, half = welch([results(sdp)["mean"]["auroc_px"]], [run["auroc_px"] for run in runs], 95)
    assert found["interval"] == pytest.approx([difference - half, difference + half])
    assert (found["a_std"], found["b_std"]) == (None, pytest.approx(stdev(run["auroc_px"] for run in runs)))
    (said,) = (note for note in content["notes"] if "points of auroc_px" in note)
    assert f"SDP by {percent(abs(difference))} ± {percent(half)} points of auroc_px over 2 seeds: " in said
    assert said.endswith("more than the spread" if abs(difference) > half else "within the spread")

    shutil.copytree(tested, tmp_path / "runs" / "seeds")
    capsys.readouterr()
    evaluate.main(["--collect", str(tmp_path / "runs")])
    text = capsys.readouterr().out
    _, after = said.split(" by ")
    assert f" by {after}" in text
    assert f"{percent(mean(run['ap_px'] for run in runs))} ± {percent(stdev(run['ap_px'] for run in runs))}" in text
    with pytest.raises(UserError, match="is of one seed, whose spread is not known"):
        evaluate.main(["--compare", str(tested), str(tested / "seed_1"), "--save_path", str(tmp_path / "refused")])
