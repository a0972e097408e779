"""`test_dp_clip.py` as a user runs it, on a tiny CLIP and small data sets."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import engine.loading
import test_dp_clip
import train_dp_clip
from models.adapter_checkpoint import DP_CLIP, load_adapters, read_adapters
from models.checkpoints import read_checkpoint
from models.dp_clip import ImageAdapter, image_adapter_for
from tests import small_data, tiny_adapter
from tests.compare import ROUNDING, relative_error
from tests.left_behind import table
from tests.scripts import record, run_calls
from utils.errors import UserError


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """Three data sets, called by their names, of which the first is trained on."""
    root = tmp_path_factory.mktemp("sets")
    small_data.make(root / "mvtec")
    small_data.make(root / "mpdd", ("cog",), seed=1)
    for i, mask in enumerate((np.zeros((70, 90), np.uint8), np.eye(70, 90, dtype=np.uint8) * 255)):
        small_data.write(root / "kvasir" / "images" / f"{i}.png", np.full((70, 90, 3), 90 + 40 * i, np.uint8))
        small_data.write(root / "kvasir" / "masks" / f"{i}.png", cv2.dilate(mask, np.ones((9, 9), np.uint8)))
    return root


@pytest.fixture(scope="module")
def training(sets, model, tmp_path_factory) -> Path:
    """A training of six epochs, with all checkpoints."""
    out = tmp_path_factory.mktemp("training") / "run"
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(sets / "mvtec"), "--num_workers", "0"]
    cache = ["--cache_dir", str(out.parent / "cache")]
    train_dp_clip.main([*data, *model, *cache, "--epochs", "6", "--save_path", str(out)])
    return out


def run(sets: Path, names: list[str], model: list[str], out: Path, checkpoint: Path, *more: str) -> dict:
    """Test, and return the results of the first data set, or of one of its epochs."""
    data = ["--dataset", *names, "--data_path", *(str(sets / name) for name in names), "--num_workers", "0"]
    paths = ["--save_path", str(out), "--cache_dir", str(out / "cache"), "--checkpoint", str(checkpoint)]
    test_dp_clip.main([*data, *model, *paths, *more])
    path = next(path for path in out.rglob("results.json") if len(names) == 1 or path.parent.name == names[0])
    return json.loads(path.read_text())


def scores(out: Path) -> np.ndarray:
    keys = ("score", "text_prob", "map_max")
    return np.array([[float(row[key]) for key in keys] for row in table(out / "scores.csv")])


def test_several_data_sets_are_tested_in_one_call_with_one_table(sets, model, training, tmp_path):
    names = ["mpdd", "kvasir"]
    more = ["--visualization", "--save_maps", "--legacy_pro"]
    results = run(sets, names, model, tmp_path, training / "image_adapter.pth", *more)
    assert results["method"] == "DP-CLIP"
    assert results["finished"] is True
    assert results["fidelity"]["name"] == "released"
    assert results["fidelity"]["grn_over_batch"] is True
    assert results["checkpoint"]["epoch"] == 6
    assert len(results["checkpoint"]["sha256"]) == 64
    assert results["arguments"]["domain"] == "industrial"
    lines = (tmp_path / "summary.md").read_text().splitlines()
    rows = {row.split("|")[1].strip(): row for row in lines[4:] if row[:1] == "|"}
    assert list(rows) == ["mpdd", "kvasir", "mean"]
    assert f"{100 * results['mean']['auroc_px']:.1f}" in rows["mpdd"]
    for name, images in (("mpdd", 5), ("kvasir", 2)):
        assert {path.name for path in (tmp_path / name).iterdir()} >= {
            *("results.json", "results.md", "scores.csv", "contact_sheet.png", "maps", "imgs")
        }
        assert len(list((tmp_path / name / "maps").rglob("*.npy"))) == images
    log = (tmp_path / "test.log").read_text()
    assert "'colon endoscopy image'" in log
    assert "| kvasir" in log


def test_image_scores_are_those_of_their_domain(sets, model, training, tmp_path):
    checkpoint = training / "image_adapter.pth"
    for domain in ("industrial", "medical"):
        run(sets, ["mpdd"], model, tmp_path / domain, checkpoint, "--domain", domain, "--save_maps")
        score, similarity, map_max = scores(tmp_path / domain).T
        maps = np.stack([np.load(path) for path in sorted((tmp_path / domain).rglob("*.npy"))])
        top = (map_max - maps.min()) / (maps.max() - maps.min())
        d = (similarity - similarity.min()) / (similarity.max() - similarity.min())
        np.testing.assert_allclose(score, (top + d) / 2 if domain == "industrial" else top, rtol=1e-6)


def test_several_epochs_give_a_curve(sets, model, training, tmp_path):
    epochs = [str(training / f"image_adapter_{epoch}.pth") for epoch in (1, 6)]
    results = run(sets, ["mpdd"], model, tmp_path, training / "image_adapter_3.pth", "--checkpoint", *epochs[::-1])
    rows = table(tmp_path / "summary.csv")
    assert [(row["epoch"], row["data_set"]) for row in rows] == [("1", "mpdd"), ("6", "mpdd")]
    assert cv2.imread(str(tmp_path / "summary.png")).shape[1] > 500
    last = json.loads((tmp_path / "epoch_6" / "results.json").read_text())
    assert float(rows[1]["ap_px"]) == last["mean"]["ap_px"]
    assert float(rows[1]["auroc_px"]) > float(rows[0]["auroc_px"])  # bright squares, as in the training
    assert results["checkpoint"]["epoch"] in (1, 6)


def test_text_features_are_computed_once(sets, model, training, tmp_path, monkeypatch):
    calls, original = [], engine.loading.class_text_features

    def counted(*arguments):
        calls.append(arguments[2])
        return original(*arguments)

    monkeypatch.setattr(engine.loading, "class_text_features", counted)
    epochs = [str(training / f"image_adapter_{epoch}.pth") for epoch in (1, 2)]
    run(sets, ["mpdd", "kvasir"], model, tmp_path, training, "--checkpoint", *epochs)
    assert sorted(calls) == ["cog", "colon endoscopy image"]


@pytest.mark.parametrize("fidelity", ["released", "corrected"])
def test_batch_size_matters_in_released_fidelity_only(sets, model, training, tmp_path, fidelity):
    for size in ("1", "4"):
        more = ["--fidelity", fidelity, "--batch_size", size]
        run(sets, ["mpdd"], model, tmp_path / size, training / "image_adapter.pth", *more)
    one, four = (scores(tmp_path / size) for size in ("1", "4"))
    assert (relative_error(four, one) < ROUNDING) == (fidelity == "corrected")
    log = (tmp_path / "4" / "test.log").read_text()
    assert ("the figures hold for --batch_size 4" in log) == (fidelity == "released")
    assert ("was trained with --fidelity released" in log) == (fidelity == "corrected")


def test_a_class_has_the_same_figures_whatever_else_is_tested(sets, model, training, tmp_path):
    """Also in released fidelity, where a batch's images influence each other."""
    checkpoint = training / "image_adapter.pth"
    run(sets, ["mvtec"], model, tmp_path / "both", checkpoint, "--batch_size", "4")
    run(sets, ["mvtec"], model, tmp_path / "nut", checkpoint, "--batch_size", "4", "--classes", "nut")
    assert np.array_equal(scores(tmp_path / "both")[5:], scores(tmp_path / "nut"))


def test_unpublished_numbers_are_missed_before_any_data_set_is_tested(sets, model, training, tmp_path):
    checkpoint = training / "image_adapter.pth"
    with pytest.raises(UserError, match="no published numbers on folder are known"):
        run(sets, ["mpdd", "folder"], model, tmp_path, checkpoint, "--compare_published")
    assert {path.name for path in tmp_path.iterdir()} == {"test.log", ".lock"}


@pytest.fixture
def authors(backbone, tmp_path) -> Path:
    """A file as the authors' code leaves it, with response normalisations of three axes."""
    state = tiny_adapter.load(backbone).state_dict()
    state = {key: value.view(1, 1, -1) if ".grn." in key else value for key, value in state.items()}
    path = tmp_path / "image_adapter.pth"
    torch.save({"epoch": 7, "image_adapter": state, "image_optimizer": {"state": {}}}, path)
    return path


def test_the_authors_form_loads_as_released(sets, model, backbone, authors, tmp_path):
    results = run(sets, ["mpdd"], model, tmp_path / "out", authors)
    assert results["fidelity"]["name"] == "released"
    assert results["checkpoint"]["epoch"] == 7
    untrained = image_adapter_for(backbone, tiny_adapter.settings())
    adapter = load_adapters(read_adapters(authors, DP_CLIP), untrained, backbone)
    for key, value in tiny_adapter.load(backbone).state_dict().items():
        assert torch.equal(adapter.state_dict()[key], value)


def test_options_say_what_the_authors_file_does_not(sets, model, authors, tmp_path):
    for name, more in {"plain": [], "relu": ["--relu"], "weight": ["--image_adapt_weight", "0.5"]}.items():
        run(sets, ["mpdd"], model, tmp_path / name, authors, *more)
    plain, relu, weight = (scores(tmp_path / name) for name in ("plain", "relu", "weight"))
    assert not np.allclose(plain, relu)
    assert not np.allclose(plain, weight)


@pytest.mark.parametrize(
    "width, embed_dim, changes, message",
    [
        (96, 64, {}, r"other\.pth does not fit .*tiny\.json; give --model and that of its training"),
        (128, 32, {}, r"other\.pth does not fit .*tiny\.json; give --model and that of its training"),
        (128, 64, {"image_adapt_layers": (0,)}, r"layer_adapters\.1\.fc\.weight \[128, 128\] is missing there"),
        (128, 64, {"features_list": (4, 8)}, r"seg_proj\.2\.fc\.weight \[64, 128\] is missing there"),
        (128, 64, {"image_adapt_layers": (0, 1, 2)}, r"layer_adapters\.2\.fc\.weight \[128, 128\] has no counterpart"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_both_shapes(
    sets, model, tmp_path, width, embed_dim, changes, message
):
    path = tmp_path / "other.pth"
    state = ImageAdapter(width, embed_dim, tiny_adapter.settings(**changes)).state_dict()
    torch.save({"epoch": 1, "image_adapter": state}, path)
    with pytest.raises(UserError, match=message) as caught:
        run(sets, ["mpdd"], model, tmp_path / "out", path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--relu"], r"--relu is True, but .*image_adapter\.pth was trained with False"),
        (["--no-grn"], r"--grn is False, but .*image_adapter\.pth was trained with True"),
        (["--image_adapt_layers", "0"], "--image_adapt_layers is 0, but .* was trained with 0 1"),
        (["--image_adapt_weight", "0.2"], "--image_adapt_weight is 0.2, but .* was trained with 0.1"),
        (["--features_list", "2", "4"], "was trained on blocks 2 4 6 8"),
        (["--dataset", "mpdd", "mpdd"], "names one data set twice"),
        (["--checkpoint", "nowhere.pth"], "there is no checkpoint nowhere.pth"),
    ],
)
def test_a_users_mistake_is_one_sentence(sets, model, training, tmp_path, more, message):
    with pytest.raises(UserError, match=message) as caught:
        run(sets, ["mpdd"], model, tmp_path, training / "image_adapter.pth", *more)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_tested_together_are_refused(sets, model, training, tmp_path):
    last = str(training / "image_adapter.pth")
    with pytest.raises(UserError, match=r"there is no checkpoint nowhere\.pth"):
        run(sets, ["mpdd"], model, tmp_path, training, "--checkpoint", last, "nowhere.pth")
    with pytest.raises(UserError, match="two files of one epoch"):
        run(sets, ["mpdd"], model, tmp_path, training, "--checkpoint", last, str(training / "image_adapter_6.pth"))
    other = read_checkpoint(training / "image_adapter_1.pth") | {"fidelity": "corrected"}
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(UserError, match="were trained with different --fidelity"):
        run(sets, ["mpdd"], model, tmp_path, training, "--checkpoint", last, str(tmp_path / "other.pth"))


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"epoch": "../../elsewhere"}, "epoch: should be a valid integer, .*elsewhere"),
        ({"settings": {"image_adapt_weight": "much"}}, "settings/image_adapt_weight: should be .*much"),
        ({"settings": {"image_adapt_layers": ["first"]}}, "settings/image_adapt_layers entry 1: should be .*first"),
        ({"settings": [0.1]}, r"settings: should be a valid dictionary, not \[0\.1\]"),
        ({"fidelity": "other"}, "fidelity: should be 'released' or 'corrected', not 'other'"),
    ],
)
def test_entries_of_another_form_are_refused(authors, entry, message):
    torch.save(torch.load(authors, weights_only=True) | entry, authors)
    with pytest.raises(UserError, match=message):
        read_adapters(authors, DP_CLIP)


def test_a_files_further_entries_are_left_alone(authors):
    torch.save(torch.load(authors, weights_only=True) | {"text_adapter": torch.zeros(3)}, authors)
    assert set(read_adapters(authors, DP_CLIP).origin) == {"epoch", "settings"}


def test_another_methods_checkpoint_is_refused(sets, model, tmp_path):
    path = tmp_path / "epoch_5.pth"
    torch.save({"linear_layers": {"fc.0.weight": torch.zeros(1, 1)}}, path)
    with pytest.raises(UserError, match="holds no adapters of DP-CLIP"):
        run(sets, ["mpdd"], model, tmp_path / "out", path)


def test_the_shell_scripts_train_and_test(sets, model, tmp_path):
    settings = {"MODEL": model[1], "PRETRAINED": model[3], "SHOT": "1", "EPOCHS": "1", "NUM_WORKERS": "0"}
    settings |= {"TRAIN_ON": "mvtec mpdd", "DATASETS": "mvtec kvasir visa", "DATA_ROOT": str(sets)}
    settings["CHECKPOINT"] = str(tmp_path / "trained" / "image_adapter.pth")
    cache = ["--cache_dir", str(tmp_path / "cache")]
    _, calls = record(tmp_path, "train_DP_CLIP.sh", *cache, SAVE_PATH=str(tmp_path / "trained"), **settings)
    run_calls(calls)
    assert "on 6 images" in (tmp_path / "trained" / "train.log").read_text()
    done, calls = record(tmp_path, "test_DP_CLIP.sh", *cache, SAVE_PATH=str(tmp_path / "tested"), **settings)
    assert "skipping visa" in done.stderr
    run_calls(calls)
    assert "| kvasir" in (tmp_path / "tested" / "summary.md").read_text()
    done, calls = record(tmp_path, "test_DP_CLIP.sh", **settings | {"DATASETS": "visa"})
    assert (done.returncode, calls) == (2, [])
    assert done.stderr.splitlines()[-1].startswith("error: none of the data sets")
