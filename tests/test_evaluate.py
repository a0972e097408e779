"""`evaluate.py` as a user runs it: on a run's maps, and on maps of other programs."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from sklearn.metrics import average_precision_score, roc_auc_score

import evaluate
import test_sdp
from datasets.meta import read_meta
from engine.saved_maps import MAXIMUM_IS_SCORE
from tests import left_behind
from tests.plain_measures import pixel_measures
from tests.saved_maps_data import CLASSES, SHAPE, make_data_set, make_maps, mask_of, save_maps
from utils.errors import UserError
from utils.measures.class_measures import IMAGE_MEASURES, PIXEL_MEASURES


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def maps(data) -> dict[str, np.ndarray]:
    return make_maps(data)


def run(data: Path, maps: Path, out: Path, *options: str) -> dict:
    arguments = ["--maps", str(maps), "--data_path", str(data), "--save_path", str(out), "--num_workers", "0"]
    evaluate.main([*arguments, "--overwrite", *options])
    return json.loads((out / "results.json").read_text())


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    return {row["image_path"]: row for row in left_behind.table(out / "scores.csv")}


def measures(content: dict) -> dict:
    keys = (*PIXEL_MEASURES, *IMAGE_MEASURES)
    return {name: {key: values[key] for key in keys} for name, values in content["classes"].items()}


def test_the_maps_of_a_run_give_its_measures(data, model, cache, tmp_path):
    options = ["--dataset", "mvtec", "--data_path", str(data), "--save_path", str(tmp_path / "run"), "--save_maps"]
    test_sdp.main([*options, "--num_workers", "0", *model, "--cache_dir", str(cache)])
    more = ["--scores", str(tmp_path / "run" / "scores.csv"), "--legacy_pro"]
    again = run(data, tmp_path / "run" / "maps", tmp_path / "again", *more)
    original = left_behind.results(tmp_path / "run")
    assert measures(again) == measures(original)
    assert "aupro_200" in again["mean"]
    for name, row in rows_of(tmp_path / "again").items():
        before = rows_of(tmp_path / "run")[name]
        assert (row["score"], row["map_max"], row["label"]) == (before["score"], before["map_max"], before["label"])
        assert row["text_prob"] == ""


def test_measures_are_those_of_the_maps(data, maps, tmp_path):
    content = run(data, save_maps(tmp_path / "maps", maps), tmp_path / "out")
    for name in CLASSES:
        own = {path: values for path, values in maps.items() if path.startswith(f"{name}/")}
        masks = np.stack([mask_of(data / path) for path in own])
        scores = np.stack(list(own.values()))
        found = content["classes"][name]
        assert found["auroc_px"] == pytest.approx(roc_auc_score(masks.ravel(), scores.ravel()), abs=1e-12)
        assert found["aupro"] == pixel_measures(scores.copy(), masks)[0]["pro"]
        labels = [0 if "/good/" in path else 1 for path in own]
        assert found["ap_sp"] == pytest.approx(average_precision_score(labels, scores.max((1, 2))), abs=1e-12)
    assert content["finished"] is True
    assert content["method"] == "saved maps"
    origin, *notes = content["notes"]
    assert notes == [MAXIMUM_IS_SCORE]
    assert origin.startswith(f"measured from the maps in {tmp_path / 'maps'}; 2 of 2 classes, 18 of 18 images; ")
    assert f"- {MAXIMUM_IS_SCORE}" in (tmp_path / "out" / "results.md").read_text()
    assert float(rows_of(tmp_path / "out")["bolt/test/good/000.png"]["score"]) == pytest.approx(
        maps["bolt/test/good/000.png"].max()
    )
    assert "results are in" in (tmp_path / "out" / "evaluate.log").read_text()


def test_intervals_lie_around_the_measures(data, maps, tmp_path):
    options = ["--bootstrap", "200", "--confidence", "99", "--seed", "5"]
    folder = save_maps(tmp_path / "maps", maps)
    content = run(data, folder, tmp_path / "out", *options)
    for name, values in measures(content).items():
        for key, value in values.items():
            low, high = content["intervals"]["classes"][name][key]
            assert low <= value <= high
            assert low < high
    text = (tmp_path / "out" / "results.md").read_text()
    assert "- in brackets: 99 % bootstrap intervals" in text
    assert "in brackets" in (tmp_path / "out" / "evaluate.log").read_text()
    again = run(data, folder, tmp_path / "again", *options, "--num_workers", "2")
    assert again["intervals"] == content["intervals"]
    assert run(data, folder, tmp_path / "out")["classes"] == content["classes"]


def test_the_page_is_written_if_asked_for(data, maps, tmp_path):
    folder = save_maps(tmp_path / "maps", maps)
    run(data, folder, tmp_path / "out", "--report")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('"picture":{') == len(maps)
    assert all(f'"{name}"' in page for name in maps)
    run(data, folder, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()


def test_kind_of_file_and_workers_change_nothing(data, maps, tmp_path):
    reference = run(data, save_maps(tmp_path / "npy", maps), tmp_path / "a")
    for name, values in maps.items():
        path = (tmp_path / "tiff" / name).with_suffix(".tiff")
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, values)
    other = run(data, tmp_path / "tiff", tmp_path / "b", "--num_workers", "2", "--dataset", "mvtec")
    assert measures(other) == measures(reference)


def test_a_list_of_images_is_enough_where_their_masks_are(data, maps, tmp_path):
    """The images are not needed, only what a meta file says of them; JSON lines do as well."""
    reference = run(data, save_maps(tmp_path / "maps", maps), tmp_path / "a")
    root = tmp_path / "truth"
    for name in CLASSES:
        shutil.copytree(data / name / "ground_truth", root / name / "ground_truth")
    shutil.copy(data / "meta.json", root / "meta.json")
    assert measures(run(root, tmp_path / "maps", tmp_path / "b")) == measures(reference)
    entries = [entry for group in read_meta(root / "meta.json", root)["test"].values() for entry in group]
    lines = (
        {"image_path": e.img_path, "mask_path": e.mask_path, "class_name": e.cls_name, "label": e.anomaly}
        for e in entries
    )
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    again = run(root, tmp_path / "maps", tmp_path / "c", "--meta", str(tmp_path / "list.jsonl"))
    assert measures(again) == measures(reference)


def test_maps_of_another_size_are_measured_at_their_own(data, maps, tmp_path):
    halved = {name: values[::2, ::2] for name, values in maps.items()}
    content = run(data, save_maps(tmp_path / "maps", halved), tmp_path / "out")
    assert 0.5 < content["classes"]["bolt"]["auroc_px"] < 1
    halved["bolt/test/good/002.png"] = maps["bolt/test/good/002.png"]
    save_maps(tmp_path / "maps", halved)
    mixed = run(data, tmp_path / "maps", tmp_path / "mixed", "--report")
    assert mixed["classes"]["bolt"]["auroc_px"] != content["classes"]["bolt"]["auroc_px"]
    assert any("several sizes" in note for note in mixed["classes"]["bolt"]["notes"])
    assert mixed["classes"]["nut"] == content["classes"]["nut"]
    content = run(data, tmp_path / "maps", tmp_path / "out", "--map_size", "16")
    assert not any("several sizes" in note for note in content["classes"]["bolt"]["notes"])
    by_class = {n: v if n.startswith("nut") else v[::2, ::2] for n, v in maps.items()}
    assert run(data, save_maps(tmp_path / "two", by_class), tmp_path / "out")["finished"] is True


@pytest.mark.parametrize(
    "rows, message",
    [
        (["image_path,points", "a,1"], "has no column 'score'"),
        (["image_path,score", "a,high"], "line 2: 'high' is not a finite number"),
        (["image_path,score", "a,nan"], "line 2: 'nan' is not a finite number"),
        (["image_path,score", "a,1", "a,2"], "line 3: the image a has a score already"),
        (["image_path,score", "bolt/test/good/000.png,1"], "no score for 17 of 18 images, the first of them bolt"),
    ],
)
def test_unfit_scores_are_one_sentence(data, maps, tmp_path, rows, message):
    (tmp_path / "scores.csv").write_text("\n".join(rows))
    folder = save_maps(tmp_path / "maps", maps)
    with pytest.raises(UserError, match=message) as caught:
        run(data, folder, tmp_path / "out", "--scores", str(tmp_path / "scores.csv"))
    assert "\n" not in str(caught.value)


def test_scores_of_other_images_are_warned_of(data, maps, tmp_path):
    rows = ["image_path,score", "other.png,3", *(f"{name},{i}" for i, name in enumerate(maps))]
    (tmp_path / "scores.csv").write_text("\n".join(rows))
    folder = save_maps(tmp_path / "maps", maps)
    content = run(data, folder, tmp_path / "out", "--scores", str(tmp_path / "scores.csv"))
    assert MAXIMUM_IS_SCORE not in content["notes"]
    assert "of no image: 1, the first of them other.png" in (tmp_path / "out" / "evaluate.log").read_text()
    assert rows_of(tmp_path / "out")["bolt/test/crack/001.png"]["score"] == "1.0"


def test_scores_are_found_however_a_path_is_written(data, maps, tmp_path):
    rows = ["image_path,score", *(f"./{name.replace('/', '//', 1)},{i}" for i, name in enumerate(maps))]
    (tmp_path / "scores.csv").write_text("\n".join(rows))
    folder = save_maps(tmp_path / "maps", maps)
    run(data, folder, tmp_path / "out", "--scores", str(tmp_path / "scores.csv"))
    assert [row["score"] for row in rows_of(tmp_path / "out").values()] == [f"{i}.0" for i in range(len(maps))]
    (tmp_path / "scores.csv").write_text("\n".join([*rows, f"{next(iter(maps))},3"]))
    with pytest.raises(UserError, match=r"line 20: the image bolt/test/crack/000\.png has a score already"):
        run(data, folder, tmp_path / "again", "--scores", str(tmp_path / "scores.csv"))


def test_swapped_sides_of_maps_are_warned_of_and_noted(data, maps, tmp_path):
    folder = save_maps(tmp_path / "maps", {name: values.T for name, values in maps.items()})
    for out in ("out", "again"):
        content = run(data, folder, tmp_path / out)
        said = "the maps, 32 x 24, have their sides swapped: the masks lie the other way"
        assert [note for note in content["notes"] if "sides swapped" in note] == [f"bolt: {said}", f"nut: {said}"]
        assert f"WARNING bolt: {said}" in (tmp_path / out / "evaluate.log").read_text()
        assert f"- nut: {said}" in (tmp_path / out / "results.md").read_text()


def test_names_that_differ_in_space_are_two_images(data, maps, tmp_path):
    run(data, save_maps(tmp_path / "maps", maps), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    table = tmp_path / "b" / "scores.csv"
    table.write_text(table.read_text().replace("bolt/test/good/000.png,", "bolt/test/good/000.png ,"))
    with pytest.raises(UserError, match=r"the images differ: bolt/test/good/000\.png is in .*a, not in .*b"):
        evaluate.main(["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--save_path", str(tmp_path / "out")])


def test_masks_begin_where_the_options_say(data, maps, tmp_path):
    grey, saved = shutil.copytree(data, tmp_path / "grey"), save_maps(tmp_path / "maps", maps)
    for path in grey.rglob("*_mask.png"):
        cv2.imwrite(str(path), cv2.imread(str(path)) // 255 * 20 + 20)
    before = run(data, saved, tmp_path / "before")
    assert before["arguments"]["mask_threshold"] == 0
    content = run(grey, saved, tmp_path / "grey_out", "--mask_threshold", "30")
    assert content["arguments"]["mask_threshold"] == 30
    assert measures(content) == measures(before)


def test_a_users_mistake_is_one_sentence(data, tmp_path):
    (tmp_path / "maps").mkdir()
    with pytest.raises(UserError, match="maps has no map for 18 of 18 images"):
        run(data, tmp_path / "maps", tmp_path / "out")


def test_data_of_the_tests_is_as_they_suppose(maps):
    assert {values.shape for values in maps.values()} == {SHAPE}
    assert len(maps) == 18
