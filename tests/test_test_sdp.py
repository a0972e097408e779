"""`test_sdp.py` and `test_SDP.sh` as a user runs them, on a tiny CLIP and a small data set."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr

import test_sdp
from demo.draw import Recipe, generate
from page.thumbnails import heat_map
from tests import small_data
from tests.compare import MEASURES, ROUNDING, relative_error
from tests.left_behind import results, table
from tests.scripts import record
from utils.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
PIXELS = ["auroc_px", "f1_px", "ap_px", "aupro"]
COLUMNS = ["objects", "auroc_px", "f1_px", "ap_px", "aupro", "auroc_sp", "f1_sp", "ap_sp"]


@pytest.fixture(scope="module")
def model(model) -> list[str]:
    return [*model, "--fidelity", "released"]


def run(data: Path, model: list[str], out: Path, *options: str) -> Path:
    arguments = ["--dataset", "mvtec", "--data_path", str(data), "--save_path", str(out), "--num_workers", "0"]
    test_sdp.main([*arguments, "--cache_dir", str(out / "cache"), *model, *options])
    return out


def scores(out: Path) -> dict[str, list[float]]:
    keys = ("score", "text_prob", "map_max")
    return {row["image_path"]: [float(row[key]) for key in keys] for row in table(out / "scores.csv")}


def test_results_say_which_precision_was_chosen_and_are_compared_by_it(bolts, model, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.loading.computes_bfloat16", lambda device: True)
    run(bolts, model, tmp_path, "--precision", "auto", "--no_report")
    assert json.loads((tmp_path / "results.json").read_text())["arguments"]["precision"] == "bf16"
    monkeypatch.setattr("engine.loading.computes_bfloat16", lambda device: False)
    with pytest.raises(UserError, match=r"precision \(bf16 there, fp32 here\)"):
        run(bolts, model, tmp_path, "--precision", "auto", "--no_report")


def test_outputs_are_complete(bolts, model, tmp_path):
    out = run(bolts, model, tmp_path, "--save_maps", "--visualization", "--legacy_pro", "--bootstrap", "50")
    header = (out / "results.md").read_text().splitlines()[2]
    assert [cell.strip() for cell in header.strip("|").split("|")] == [*COLUMNS[:5], "aupro_200", *COLUMNS[5:]]
    results = json.loads((out / "results.json").read_text())
    assert results["finished"] is True
    assert results["images"] == 10
    assert set(results["classes"]) == {"bolt", "nut"}
    assert results["fidelity"]["name"] == "released"
    assert results["fidelity"]["taps_share_buffers"] is True
    assert len(results["weights"]["sha256"]) == 64
    assert results["arguments"]["smoothing"] == 8.0
    assert {"torch", "open_clip_torch", "python"} <= results["environment"].keys()
    assert {"model", "text", "loading", "prediction", "measures", "output"} <= results["seconds"].keys()
    assert results["images_per_second"] > 0
    assert results["peak_memory_mib"]["host"] > 10
    assert results["intervals"]["mean"].keys() == results["mean"].keys() - {"aupro_200"}
    assert "SDP on mvtec" in (out / "test.log").read_text()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h1>SDP on mvtec</h1>" in page
    assert all(f'"{name}"' in page for name in scores(out))
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet.shape[1] > 4 * 3 * 96
    for name in scores(out):
        saved = np.load(out / "maps" / f"{name}.npy")
        assert saved.dtype == np.float32
        assert saved.shape == (96, 96)
        assert saved.max() == np.float32(scores(out)[name][2])
        assert cv2.imread(str(out / "imgs" / f"{name}.png")).shape[1] > 3 * 96


def test_repetition_and_workers_change_no_bit_and_batches_the_rounding_alone(bolts, model, tmp_path):
    reference = run(bolts, model, tmp_path / "a", "--batch_size", "4")
    again = run(bolts, model, tmp_path / "b", "--batch_size", "4", "--num_workers", "2")
    assert (again / "scores.csv").read_bytes() == (reference / "scores.csv").read_bytes()
    values = scores(reference)
    for size in ("1", "32"):
        other = scores(run(bolts, model, tmp_path / size, "--batch_size", size))
        assert list(other) == list(values)
        # Not the score: it divides by the range of a class's maxima, which is a small share of them here.
        for now, before in zip(*(np.array([*found.values()]).T[1:] for found in (other, values)), strict=True):
            assert relative_error(now, before) < ROUNDING
        assert results(tmp_path / size)["mean"] == pytest.approx(results(reference)["mean"], abs=MEASURES)


def test_several_data_sets_have_a_folder_each_and_one_table(bolts, model, tmp_path):
    small_data.make(tmp_path / "cogs", ("cog",), seed=1)
    both = ["--dataset", "mvtec", "mpdd", "--data_path", str(bolts), str(tmp_path / "cogs")]
    out = run(bolts, model, tmp_path / "out", *both)
    run(bolts, model, tmp_path / "alone")
    assert scores(out / "mvtec") == scores(tmp_path / "alone")
    results = json.loads((out / "mpdd" / "results.json").read_text())
    assert results["dataset"] == results["arguments"]["dataset"] == "mpdd"
    assert results["arguments"]["data_path"] == str(tmp_path / "cogs")
    assert results["arguments"]["save_path"] == str(out / "mpdd")
    lines = (out / "summary.md").read_text().splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert rows[2:] == ["mvtec", "mpdd", "mean"]
    assert "SDP, means over the classes" in (out / "test.log").read_text()


def test_no_report_leaves_the_page_out_and_an_old_one_is_removed(bolts, model, tmp_path):
    measured = json.loads((run(bolts, model, tmp_path) / "results.json").read_text())["mean"]
    assert (tmp_path / "report.html").is_file()
    run(bolts, model, tmp_path, "--no_report")
    assert not (tmp_path / "report.html").exists()
    assert json.loads((tmp_path / "results.json").read_text())["mean"] == measured


def test_unlabelled_images_get_scores_and_no_measures(model, tmp_path):
    for i in range(3):
        small_data.write(tmp_path / "parts" / f"{i}.png", np.full((50, 60, 3), 40 * i, np.uint8))
    out = tmp_path / "out"
    run(tmp_path / "parts", model, out, "--dataset", "folder", "--visualization", "--obj_name", "metal part")
    assert len(scores(out)) == 3
    assert set(json.loads((out / "results.json").read_text())["mean"].values()) == {None}
    assert "'metal part'" in (out / "test.log").read_text()
    assert len(list((out / "imgs").iterdir())) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        (["--features_list", "9"], "no block 9"),
        (["--image_size", "100"], "not a multiple of the patch size 8"),
        (["--prompts", "nowhere.json"], "--prompts nowhere.json"),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["--data_path", "nowhere"], "there is no folder nowhere"),
        (["--pretrained", "nowhere.pt"], "--pretrained nowhere.pt"),
    ],
)
def test_a_users_mistake_is_one_sentence(bolts, model, tmp_path, options, message):
    with pytest.raises(UserError, match=message) as caught:
        run(bolts, model, tmp_path, *options)
    assert "\n" not in str(caught.value)


def test_a_run_that_breaks_off_leaves_the_classes_it_finished(bolts, model, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(bolts, root)
    run(root, model, tmp_path / "whole", "--batch_size", "1")
    (root / "nut" / "test" / "square" / "002.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"nut/test/square/002\.png"):
        run(root, model, tmp_path / "broken", "--batch_size", "1", "--num_workers", "1")
    whole, broken = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "broken"))
    assert broken["finished"] is False
    assert broken["classes"] == {"bolt": whole["classes"]["bolt"]}
    assert "not finished" in (tmp_path / "broken" / "results.md").read_text()
    page = (tmp_path / "broken" / "report.html").read_text(encoding="utf-8")
    assert "not finished" in page
    assert "bolt/test/square/002.png" in page
    assert "nut/test" not in page


def test_kinds_of_anomaly_have_a_folded_table_of_their_own_which_a_resumed_run_keeps(bolts, model, tmp_path):
    root, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(bolts, root)
    (root / "meta.json").unlink(missing_ok=True)
    for part in ("test", "ground_truth"):
        (root / "bolt" / part / "dent").mkdir()
        name = "002.png" if part == "test" else "002_mask.png"
        (root / "bolt" / part / "square" / name).rename(root / "bolt" / part / "dent" / name)
    run(root, model, out)
    results = json.loads((out / "results.json").read_text())
    assert results["kinds"].keys() == {"bolt"}  # of the two kinds; the nuts have one
    assert {kind: found["images"] for kind, found in results["kinds"]["bolt"].items()} == {"dent": 1, "square": 2}
    dent = results["kinds"]["bolt"]["dent"]
    run(root, model, tmp_path / "alone", "--meta", str(only(root, "dent")))
    alone = json.loads((tmp_path / "alone" / "results.json").read_text())["classes"]["bolt"]
    assert {key: dent[key] for key in PIXELS} == {key: alone[key] for key in PIXELS}
    text = (out / "results.md").read_text()
    (folded,) = re.findall(
        "<details><summary>By kind of anomaly: .*?</summary>\n\n(.*?)\n\n</details>", text, re.DOTALL
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in folded.splitlines()]
    assert rows[0] == ["objects", "kind", "images", *COLUMNS[1:]]
    assert [row[:4] for row in rows[2:]] == [
        ["bolt", kind, str(found["images"]), f"{100 * found['auroc_px']:.1f}"]
        for kind, found in results["kinds"]["bolt"].items()
    ]
    assert '"kinds":{"dent":{"images":1,' in (out / "report.html").read_text(encoding="utf-8")
    run(root, model, tmp_path / "stopped", "--classes", "bolt")
    (tmp_path / "stopped" / "results.md").unlink()
    run(root, model, tmp_path / "stopped", "--classes", "bolt", "--resume")
    assert json.loads((tmp_path / "stopped" / "results.json").read_text())["kinds"] == results["kinds"]


def only(root: Path, kind: str) -> Path:
    """A list of the normal images and of one kind."""
    meta = json.loads((root / "meta.json").read_text())
    for name, entries in meta["test"].items():
        meta["test"][name] = [entry for entry in entries if entry["specie_name"] in ("good", kind)]
    (root / "only.json").write_text(json.dumps(meta))
    return root / "only.json"


@pytest.mark.parametrize("picture, classes", [(2, []), (7, ["bolt"])])
def test_a_run_interrupted_in_a_class_has_the_page_of_those_before(
    bolts, model, tmp_path, monkeypatch, picture, classes
):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == picture:
            raise KeyboardInterrupt
        return heat_map(*arguments)

    monkeypatch.setattr("page.page.heat_map", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(bolts, model, tmp_path)
    assert (tmp_path / "report.html").exists() == bool(classes)
    if classes:
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "bolt/test/square/002.png" in page
        assert "nut/test" not in page


def test_published_numbers_are_set_beside_the_measures_on_demand(bolts, model, tmp_path):
    text = (run(bolts, model, tmp_path / "a", "--compare_published") / "published.md").read_text()
    assert "**NOT COMPARABLE" in text
    assert "CLIP-AD, published" in text
    assert f"command: `{sys.orig_argv[0]}" in text
    run(bolts, model, tmp_path / "a")
    assert not (tmp_path / "a" / "published.md").exists()  # it would be of the earlier run
    with pytest.raises(UserError, match="no published numbers on folder are known"):
        run(bolts, model, tmp_path / "b", "--dataset", "folder", "--compare_published")
    assert not (tmp_path / "b" / "results.json").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_ranks_pixels_as_float32_does(tmp_path, precision):
    """On a model that knows what it sees: random weights rank pixels by little more than rounding."""
    generate(tmp_path / "data", Recipe(train=1, normal=1, anomalous=1, size=128), workers=1)
    for name in ("fp32", precision):
        options = ["--dataset", "demo", "--classes", "tile", "wood", "--save_maps", "--precision", name]
        run(tmp_path / "data", ["--model", "demo"], tmp_path / name, *options)
    paths = sorted((tmp_path / "fp32" / "maps").rglob("*.npy"))
    assert len(paths) == 4
    for path in paths:
        reference, reduced = np.load(path), np.load(str(path).replace("fp32", precision))
        assert not np.array_equal(reference, reduced)
        assert spearmanr(reference.ravel(), reduced.ravel()).statistic > 0.999


def test_the_shell_script_loops_over_data_sets_and_passes_arguments_on(bolts, model, tmp_path):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "mvtec").symlink_to(bolts)
    settings = {"DATASETS": "mvtec visa", "DATA_ROOT": str(tmp_path / "sets"), "SAVE_PATH": str(tmp_path / "out")}
    settings |= {"MODEL": model[1], "PRETRAINED": model[3], "NUM_WORKERS": "0", "VIRTUAL_ENV": sys.prefix}
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", PROJECT / "test_SDP.sh", "--legacy_pro", "--cache_dir", str(tmp_path / "cache")]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "skipping visa" in done.stderr
    assert "aupro_200" in (tmp_path / "out" / "mvtec" / "results.md").read_text()
    done, calls = record(tmp_path, "test_SDP.sh", **settings | {"DATASETS": "visa"})
    assert (done.returncode, calls) == (2, [])
    assert done.stderr.splitlines()[-1].startswith("error: none of the data sets")
