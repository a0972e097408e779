"""Comparisons of two runs, from their folders."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import evaluate
from tests.saved_maps_data import CLASSES, make_data_set, make_maps, mask_of, save_maps
from utils.errors import UserError
from utils.evaluation_types import ClassResult, ImageScore
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import IMAGE_MEASURES, measure_class
from utils.results import compare_results, write_comparison

DRAWS = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> Path:
    """Folders `a` and `b` of finished runs with their maps, b much the better."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed, shift in (("a", 1, 0.5), ("b", 2, 2.0)):
        maps = save_maps(folder / name / "maps", make_maps(data, seed, shift))
        out = ["--save_path", str(folder / name), "--num_workers", "0"]
        evaluate.main(["--maps", str(maps), "--data_path", str(data), *out])
    return folder


def compare(a: Path, b: Path, out: Path, *options: str) -> dict:
    arguments = ["--compare", str(a), str(b), "--save_path", str(out), "--num_workers", "0"]
    evaluate.main([*arguments, "--bootstrap", str(DRAWS), "--overwrite", *options])
    return json.loads((out / "compare.json").read_text())


def change_arguments(run: Path, **values: str | bool | None) -> None:
    content = json.loads((run / "results.json").read_text())
    content["arguments"] |= values
    (run / "results.json").write_text(json.dumps(content))


def copy_of(runs: Path, name: str, folder: Path) -> Path:
    return Path(shutil.copytree(runs / name, folder / name))


def measured(data: Path, name: str, bootstrap: Bootstrap, seed: int, shift: float) -> ClassResult:
    """Measure a class of a run, in the order of the data set, which is not that of the names."""
    paths = [entry["img_path"] for entry in json.loads((data / "meta.json").read_text())["test"][name]]
    every, masks = make_maps(data, seed, shift), np.stack([mask_of(data / path) for path in paths])
    maps = np.stack([every[path] for path in paths])
    highest = maps.max((1, 2)).tolist()
    images = [ImageScore(path, name, int("/good/" not in path), top) for path, top in zip(paths, highest, strict=True)]
    return measure_class(images, maps, masks, np.ones(len(paths), bool), bootstrap=bootstrap)


def test_masks_of_different_thresholds_are_refused_unless_one_is_given(runs, tmp_path):
    other = copy_of(runs, "b", tmp_path)
    change_arguments(other, mask_threshold=9, maps=str(runs / "b" / "maps"))
    with pytest.raises(
        UserError, match=rf"above different values, 0 in {runs / 'a'}, 9 in {other}: choose with --mask_t"
    ):
        compare(runs / "a", other, tmp_path / "out")
    assert compare(runs / "a", other, tmp_path / "out", "--mask_threshold", "0")["classes"]


def test_maps_that_a_run_was_not_measured_on_are_refused(data, runs, tmp_path, monkeypatch):
    for name in ("a", "b"):
        shutil.copytree(runs / name / "maps", tmp_path / name / "maps")
        monkeypatch.chdir(tmp_path / name)
        evaluate.main(["--maps", "maps", "--data_path", str(data), "--save_path", "run", "--num_workers", "0"])
    a, b = (tmp_path / name / "run" for name in ("a", "b"))
    assert compare(a, b, tmp_path / "out")["classes"] == compare(runs / "a", runs / "b", tmp_path / "out")["classes"]
    header, *rows = (a / "scores.csv").read_text().splitlines()
    head, highest = rows[0].rsplit(",", 1)
    (a / "scores.csv").write_text("\n".join([header, f"{head},{float(highest):.15g}", *rows[1:]]))
    assert compare(a, b, tmp_path / "out")["classes"]
    (a / "scores.csv").write_text("\n".join([header, f"{head},", *rows[1:]]))
    with pytest.raises(UserError, match=r"scores\.csv, line 2: '' is not a finite number"):
        compare(a, b, tmp_path / "out")
    (a / "scores.csv").write_text("\n".join([header, *rows]))
    change_arguments(a, maps="maps")  # now those of b
    with pytest.raises(UserError, match=r"the map of .* in maps has the maximum .*scores\.csv .*: measure .*run"):
        compare(a, b, tmp_path / "out")
    assert compare(a, b, tmp_path / "out", "--map_size", "16")["classes"]


def test_differences_are_paired_draw_by_draw(data, runs, tmp_path):
    content = compare(runs / "a", runs / "b", tmp_path, "--seed", "9")
    assert set(content["classes"]) == set(CLASSES)
    bootstrap, gains = Bootstrap(DRAWS, seed=9), []
    for name in CLASSES:
        a, b = (measured(data, name, bootstrap, *made).draws for made in ((1, 0.5), (2, 2.0)))
        gains.append({key: b[key] - a[key] for key in a})
        for key, found in content["classes"][name].items():
            assert found["interval"] == pytest.approx(bootstrap.interval(gains[-1][key]))
    for key, found in content["mean"].items():
        of_classes = np.mean([gain[key] for gain in gains], axis=0)
        assert found["interval"] == pytest.approx(bootstrap.interval(of_classes))
        assert found["difference"] == pytest.approx(found["b"] - found["a"])


def test_measures_are_those_of_the_runs(runs, tmp_path):
    content = compare(runs / "a", runs / "b", tmp_path)
    for name in ("a", "b"):
        own = json.loads((runs / name / "results.json").read_text())
        for key, value in own["mean"].items():
            assert content["mean"][key][name] == value
    text = (tmp_path / "compare.md").read_text()
    assert "| B - A" in text
    assert "**+" in text
    assert f"- B: saved maps on folder, in {runs / 'b'}" in text
    assert "the same draws for both runs" in text
    assert content["runs"]["A"]["method"] == "saved maps"
    assert content["bootstrap"]["resamples"] == DRAWS


def test_a_run_does_not_differ_from_itself(runs, tmp_path):
    content = compare(runs / "a", runs / "a", tmp_path)
    for row in (content["mean"], *content["classes"].values()):
        for value in row.values():
            assert (value["difference"], value["interval"]) == (0, [0, 0])
    assert "**" not in (tmp_path / "compare.md").read_text()


@pytest.mark.parametrize("left_by_an_earlier_run", [True, False])
def test_without_maps_image_measures_are_compared_and_a_note_says_why(runs, tmp_path, left_by_an_earlier_run):
    b = copy_of(runs, "b", tmp_path)
    change_arguments(b, maps=None, save_maps=not left_by_an_earlier_run)
    if not left_by_an_earlier_run:
        shutil.rmtree(b / "maps")
    with_maps = compare(runs / "a", runs / "b", tmp_path / "with")
    without = compare(runs / "a", b, tmp_path / "without")
    assert set(without["mean"]) == set(IMAGE_MEASURES)
    for key in IMAGE_MEASURES:
        assert without["mean"][key]["difference"] == pytest.approx(with_maps["mean"][key]["difference"])
    assert without["notes"] == [f"no pixel measures: {b} has no maps (--save_maps)"]
    assert without["notes"][0] in (tmp_path / "without" / "compare.md").read_text()


def test_rows_in_another_order_are_the_same_images(runs, tmp_path):
    b = copy_of(runs, "b", tmp_path)
    header, *rows = (b / "scores.csv").read_text().splitlines()
    (b / "scores.csv").write_text("\n".join([header, *reversed(rows)]))
    change_arguments(b, maps="nowhere")
    shuffled, straight = (compare(runs / "a", run, tmp_path / "out") for run in (b, runs / "b"))
    assert shuffled["mean"]["auroc_sp"]["difference"] == straight["mean"]["auroc_sp"]["difference"]


def change(run: Path, old: str, new: str) -> None:
    text = (run / "scores.csv").read_text()
    assert old in text
    (run / "scores.csv").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("bolt/test/crack/001.png", "bolt/test/crack/901.png", r"bolt/test/crack/001\.png is in .*a, not in .*b"),
        ("bolt/test/crack/001.png,bolt,1", "bolt/test/crack/001.png,bolt,0", r"disagree on bolt/test/crack/001"),
        ("bolt/test/crack/001.png,bolt", "bolt/test/crack/001.png,nut", r"disagree on bolt/test/crack/001"),
        ("bolt/test/crack/001.png,bolt,1,", "bolt/test/crack/001.png,bolt,2,", "label '2' is not 0, 1 or empty"),
        ("bolt/test/crack/001.png,bolt,1,", "bolt/test/crack/001.png,bolt,1,x", "not a finite number"),
        ("image_path", "path", "no column 'image_path'"),
    ],
)
def test_different_images_are_refused_and_the_first_is_named(runs, tmp_path, old, new, message):
    b = copy_of(runs, "b", tmp_path)
    change(b, old, new)
    with pytest.raises(UserError, match=message) as caught:
        compare(runs / "a", b, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_an_image_that_only_b_has_is_named(runs, tmp_path):
    b = copy_of(runs, "b", tmp_path)
    with (b / "scores.csv").open("a") as file:
        file.write("bolt/test/new.png,bolt,1,0.5,,0.5\n")
    with pytest.raises(UserError, match=r"bolt/test/new\.png is in .*b, not in .*a"):
        compare(runs / "a", b, tmp_path / "out")


def test_folders_without_a_finished_run_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match="is no folder of a run: there is no "):
        compare(runs / "a", tmp_path / "nowhere", tmp_path / "out")
    b = copy_of(runs, "b", tmp_path)
    path = b / "results.json"
    whole = path.read_text()
    for text, message in (
        ("{", "not valid JSON"),
        ("[]", r"results\.json: should be a valid dictionary|results\.json: should be an object"),
        ("[" * 100_000, "not valid JSON"),
        (whole.replace('"finished": true', '"finished": 1'), r"results\.json, finished: should be a valid boolean"),
        (whole.replace('"maps": ', '"maps": 3, "was": '), r"results\.json, arguments/maps: should be a valid string"),
        (
            whole.replace('"mask_threshold": ', '"mask_threshold": "x", "was": '),
            r"results\.json, arguments/mask_threshold: should be a valid integer",
        ),
        (whole.replace('"mean": ', '"mean": [], "was": ', 1), r"results\.json, mean: should be an object"),
        (whole.replace('"method": ', '"method": "SDP", "method": ', 1), "the key 'method' is there twice"),
        (whole.replace('"finished": true', '"finished": false'), "not finished"),
        (whole.replace('"finished": true', '"complete": false'), "not finished"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            compare(runs / "a", b, tmp_path / "out")


def test_the_ground_truth_may_be_elsewhere_but_must_be_of_these_images(data, runs, tmp_path):
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    here = compare(runs / "a", runs / "b", tmp_path / "out")
    there = compare(runs / "a", runs / "b", tmp_path / "out", "--dataset", "mvtec", "--data_path", str(moved))
    assert there["classes"] == here["classes"]
    with pytest.raises(UserError, match="--data_path nowhere: there is no such folder"):
        compare(runs / "a", runs / "b", tmp_path / "out", "--data_path", "nowhere")
    lost = copy_of(runs, "a", tmp_path)
    change_arguments(lost, data_path=str(tmp_path / "gone"))
    without = compare(lost, runs / "b", tmp_path / "out")
    assert set(without["mean"]) == set(IMAGE_MEASURES)
    assert "not where A found it" in without["notes"][0]
    (moved / "meta.json").unlink()
    (moved / "bolt" / "test" / "good" / "001.png").unlink()
    with pytest.raises(UserError, match=r"bolt/test/good/001\.png is in .*a, not in .*moved"):
        compare(runs / "a", runs / "b", tmp_path / "out", "--data_path", str(moved))


def test_an_image_that_runs_left_out_as_broken_is_left_out_of_the_comparison(data, runs, tmp_path):
    data = shutil.copytree(data, tmp_path / "data")
    meta = json.loads((data / "meta.json").read_text())
    broken = next(entry for entry in meta["test"]["bolt"] if entry["mask_path"])
    meta["test"]["bolt"].remove(broken)
    left_out = broken["img_path"]
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    for name in ("a", "b"):
        options = ["--maps", str(runs / name / "maps"), "--data_path", str(data), "--meta", str(tmp_path / "meta.json")]
        evaluate.main([*options, "--save_path", str(tmp_path / name), "--num_workers", "0"])
    expected = compare(tmp_path / "a", tmp_path / "b", tmp_path / "out")
    for name in ("a", "b"):
        change_arguments(tmp_path / name, meta=None)
    with pytest.raises(UserError, match=rf"{left_out} is in {data}, not in {tmp_path / 'a'}"):
        compare(tmp_path / "a", tmp_path / "b", tmp_path / "out")
    for name in ("a", "b"):
        change_arguments(tmp_path / name, skip_broken=True)
    (data / broken["mask_path"]).unlink()
    assert compare(tmp_path / "a", tmp_path / "b", tmp_path / "out")["classes"] == expected["classes"]


def test_a_comparison_of_other_runs_is_kept(runs, tmp_path):
    compare(runs / "a", runs / "b", tmp_path)
    before = (tmp_path / "compare.json").read_bytes()
    with pytest.raises(UserError, match=r"holds results of other settings, compare \(.*a .*b there, .*b .*a here\)"):
        arguments = ["--compare", str(runs / "b"), str(runs / "a"), "--save_path", str(tmp_path)]
        evaluate.main([*arguments, "--bootstrap", str(DRAWS), "--num_workers", "0"])
    assert (tmp_path / "compare.json").read_bytes() == before


def test_maps_of_two_sizes_are_compared_at_one(data, runs, tmp_path):
    small = {name: values[::2, ::2] for name, values in make_maps(data, 2, 2.0).items()}
    maps = save_maps(tmp_path / "b" / "maps", small)
    evaluate.main(["--maps", str(maps), "--data_path", str(data), "--save_path", str(tmp_path / "b")])
    with pytest.raises(UserError, match=r"24 x 32 in .*a, 12 x 16 in .*b: bring them to one size"):
        compare(runs / "a", tmp_path / "b", tmp_path / "out")
    content = compare(runs / "a", tmp_path / "b", tmp_path / "out", "--map_size", "12")
    assert content["mean"]["auroc_px"]["difference"] > 0


def test_an_undefined_measure_has_no_difference_and_a_class_may_be_called_mean(tmp_path):
    a = ClassResult("mean", [], {"auroc_px": None, "auroc_sp": 0.5}, [], {"auroc_sp": np.array([0.4, 0.6])})
    b = ClassResult("mean", [], {"auroc_px": None, "auroc_sp": 0.75}, [], {"auroc_sp": np.array([0.7, 0.8])})
    comparison = compare_results([a], [b], Bootstrap(2))
    assert comparison["mean"]["auroc_px"] == {"a": None, "b": None, "difference": None, "interval": None}
    assert comparison["classes"]["mean"]["auroc_sp"]["difference"] == 0.25
    runs = {name: {"title": "", "folder": ""} for name in "AB"}
    text = write_comparison(tmp_path, comparison, runs, "draws", [])
    assert re.search(r"\| mean +\| +- \| +\*\*\+25\.0 \[", text)
    with pytest.raises(ValueError, match="same classes"):
        compare_results([a], [], Bootstrap(2))


@pytest.mark.parametrize("options", [["--scores", "scores.csv"], ["--legacy_pro"], ["--classes", "bolt"]])
def test_options_of_maps_alone_are_refused(runs, capsys, options):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--compare", str(runs / "a"), str(runs / "b"), *options])
    assert caught.value.code == 2
    assert "goes with --maps" in capsys.readouterr().err
