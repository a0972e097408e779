"""Runs that find results in their folder: refused where these are of other settings, else replaced or gone on with."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import evaluate
import test_sdp
import test_sdp_plus
import train_sdp_plus
from data.build import ensure_meta
from datasets.registry import get_spec
from engine.earlier_results import CLASSES, folder_name
from engine.evaluation import evaluate as evaluation_loop
from models.prompts import PROMPT_FOLDER
from tests import left_behind, small_data
from tests.compare import MEASURES, ROUNDING, relative_error
from tests.forked import run_shared
from utils.errors import UserError

WRITTEN = ("results.json", "results.md", "scores.csv", "report.html", "contact_sheet.png")
TIMED = ("seconds", "images_per_second", "peak_memory_mib", "command", "arguments")


@pytest.fixture(scope="module")
def model(model, cache) -> list[str]:
    return [*model, "--cache_dir", str(cache), "--num_workers", "0"]


@pytest.fixture
def data(tmp_path) -> Path:
    root = small_data.make(tmp_path / "data", ("bolt", "cog", "nut"))
    ensure_meta(get_spec("mvtec"), root)
    return root


def options(data: Path, model: list[str], out: Path, *more: str) -> list[str]:
    return ["--dataset", "mvtec", "--data_path", str(data), *model, "--save_path", str(out), *more]


def run(data: Path, model: list[str], out: Path, *more: str) -> dict:
    test_sdp.main(options(data, model, out, *more))
    return json.loads((out / "results.json").read_text())


@pytest.mark.parametrize(
    "more, message",
    [
        (["--smoothing", "4"], r"smoothing \(8\.0 there, 4\.0 here\)"),
        (["--image_size", "64", "--rep_vec", "kde"], r"rep_vec \(mean there, kde here\), image_size \(96 there, 64"),
        (["--classes", "nut"], r"classes \(not given there, nut here\)"),
        (["--bootstrap", "5"], r"bootstrap \(not given there, 5 here\)"),
        (["--dataset", "mpdd"], r"dataset \(mvtec there, mpdd here\)"),
    ],
)
def test_results_of_other_settings_are_kept_unless_they_are_to_be_replaced(data, model, tmp_path, more, message):
    out = tmp_path / "out"
    before = run(data, model, out)
    files = {name: (out / name).read_bytes() for name in WRITTEN[:4]}
    with pytest.raises(UserError, match=message) as caught:
        run(data, model, out, *more)
    assert "--overwrite" in str(caught.value)
    assert {name: (out / name).read_bytes() for name in files} == files
    assert "SDP on mvtec" in (out / "test.log").read_text()
    after = run(data, model, out, *more, "--overwrite")
    assert after["arguments"] != before["arguments"]
    assert run(data, model, out, *more)["classes"] == after["classes"]  # the same settings need no leave


def test_other_weights_prompts_and_methods_are_other_settings(data, model, tmp_path):
    out, prompts = tmp_path / "out", tmp_path / "own.json"
    sentences = {"normal": ["a {}"], "anomalous": ["a bad {}"], "templates": ["{}."]}
    prompts.write_text(json.dumps(sentences))
    run(data, model, out, "--prompts", str(prompts))
    prompts.write_text(json.dumps(sentences | {"normal": ["a good {}"]}))
    with pytest.raises(UserError, match=r"holds results of other settings, SHA-256 of the prompts \("):
        run(data, model, out, "--prompts", str(prompts))
    run(data, model, tmp_path / "saved", "--save_maps")
    maps = ["--maps", str(tmp_path / "saved" / "maps"), "--save_path", str(out)]
    with pytest.raises(UserError, match=r"method \(SDP there, saved maps here\)"):
        evaluate.main([*maps, "--dataset", "mvtec", "--data_path", str(data)])


def test_another_config_under_the_same_name_is_another_setting(data, model, tmp_path):
    config, out = tmp_path / "own.json", tmp_path / "out"
    content = json.loads(Path(model[1]).read_text())
    own = [model[0], str(config), *model[2:]]
    config.write_text(json.dumps(content))
    run(data, own, out)
    content["vision_cfg"]["head_width"] *= 2
    config.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"holds results of other settings, config_sha256 \("):
        run(data, own, out, "--resume")


def test_what_earlier_versions_did_not_record_is_another_setting_only_where_that_is_known(data, model, tmp_path):
    out, copy = tmp_path / "out", shutil.copy(model[1], tmp_path / "copy.json")
    run(data, model, out, "--save_maps")
    content = json.loads((out / "results.json").read_text())
    del content["arguments"]["intensity"], content["backbone"]["config_sha256"], content["prompts"]
    del content["arguments"]["mask_threshold"], content["phrases"]
    (out / "results.json").write_text(json.dumps(content))
    for more, said in (
        (["--mask_threshold", "9"], r"mask_threshold \(0 there, 9 here\)"),
        (["--intensity", "0,1"], r"intensity \(full there, 0\.0,1\.0 here\)"),
        (["--prompts", "medical"], r"prompts \(industrial there, medical here\)"),
        (["--model", str(copy)], rf"model \({model[1]} there, {copy} here\)"),
    ):
        with pytest.raises(UserError, match=f"holds results of other settings, {said}"):
            run(data, model, out, *more)
    assert run(data, model, out, "--resume") == content
    assert run(data, model, out)["classes"] == content["classes"]


def test_maps_that_earlier_versions_measured_may_be_measured_again(data, model, tmp_path):
    run(data, model, tmp_path / "out", "--save_maps")
    paths = ["--maps", str(tmp_path / "out" / "maps"), "--save_path", str(tmp_path / "measured")]
    results = tmp_path / "measured" / "results.json"
    for _ in range(2):
        evaluate.main([*paths, "--dataset", "mvtec", "--data_path", str(data)])
        content = json.loads(results.read_text())
        del content["arguments"]["intensity"]
        results.write_text(json.dumps(content))


def test_the_same_prompts_by_another_name_are_the_same_setting(data, model, tmp_path):
    own = shutil.copy(PROMPT_FOLDER / "industrial.json", tmp_path / "own.json")
    run(data, model, tmp_path / "out")
    run(data, model, tmp_path / "out", "--prompts", str(own), "--resume")


def test_a_damaged_file_is_refused_and_may_be_replaced(data, model, tmp_path):
    out = tmp_path / "out"
    run(data, model, out)
    (out / "results.json").write_text("[]")
    with pytest.raises(UserError, match=r"results\.json: should be "):
        run(data, model, out)
    run(data, model, out, "--overwrite")


def test_the_default_folder_names_method_model_and_data_set_and_ones_own_data(data, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for root in (data, tmp_path / "more" / "mine"):
        small_data.make(root, ("bolt",))
        test_sdp.main(["--dataset", "folder", "--data_path", str(root), *model])
    assert (tmp_path / "results/sdp/tiny/folder/data/results.md").is_file()
    assert (tmp_path / "results/sdp/tiny/folder/mine/results.md").is_file()
    test_sdp.main(["--dataset", "mvtec", "--data_path", str(data), "--model", "demo", *model[4:]])
    assert (tmp_path / "results/sdp/demo/mvtec/results.md").is_file()
    assert folder_name(get_spec("mvtec"), tmp_path) == "mvtec"
    with pytest.raises(UserError, match="--dataset names 1 data sets, --data_path 2 folders"):
        test_sdp.main(["--dataset", "folder", "--data_path", str(data), str(data), *model])


def test_other_phrases_are_other_settings(data, model, tmp_path):
    out = tmp_path / "out"
    run(data, model, out)
    phrases = tmp_path / "phrases.json"
    phrases.write_text(json.dumps({"nut": "hexagonal nut"}))
    with pytest.raises(UserError, match=r"phrases \(.*'nut': 'nut'.* there, .*'nut': 'hexagonal nut'.* here\)"):
        run(data, model, out, "--phrases", str(phrases))


def test_phrases_that_were_not_recorded_are_those_of_their_time(model, tmp_path):
    data, out = small_data.make(tmp_path / "data", ("metal_nut",)), tmp_path / "out"
    own = ["--dataset", "folder", "--data_path", str(data), *model, "--save_path", str(out)]
    for named, message in (
        ([], r"phrases \(.*'metal_nut'} there, .*'metal nut'} here\)"),
        (["--obj_name", "nut"], None),
    ):
        test_sdp.main([*own, *named, "--overwrite"])
        content = json.loads((out / "results.json").read_text())
        del content["phrases"]
        (out / "results.json").write_text(json.dumps(content))
        if message is None:
            test_sdp.main([*own, *named, "--resume"])
        else:
            with pytest.raises(UserError, match=message):
                test_sdp.main([*own, *named, "--resume"])


def break_off(data: Path, model: list[str], out: Path, *more: str, at: str = "nut/test/good/000.png") -> None:
    """Let a test end at an image that is broken for the while."""
    hidden = data / "hidden"
    (data / at).rename(hidden)
    (data / at).write_bytes(b"broken")
    with pytest.raises(UserError, match="is not an image"):
        run(data, model, out, *more)
    hidden.replace(data / at)


def count_images(monkeypatch) -> list[str]:
    """Record the classes that the evaluation loop is given."""
    given = []

    def counted(detector, loader, samples, **more):
        given.extend(dict.fromkeys(sample.cls_name for sample in samples))
        return evaluation_loop(detector, loader, samples, **more)

    monkeypatch.setattr("engine.evaluation.evaluate", counted)
    return given


def assert_same(one: Path, other: Path) -> None:
    for name in WRITTEN:
        before, after = ((folder / name).read_bytes() for folder in (one, other))
        if name == "report.html":  # which has the folders and times
            before, after = (content.split(b"<details>")[0] for content in (before, after))
        if name == "results.json":
            before, after = ({k: v for k, v in json.loads(text).items() if k not in TIMED} for text in (before, after))
        assert before == after, name


def test_a_resumed_test_leaves_what_an_undisturbed_one_does_without_computing_classes_twice(
    data, model, tmp_path, monkeypatch
):
    more = ["--visualization", "--bootstrap", "20", "--legacy_pro", "--batch_size", "1"]
    run(data, model, tmp_path / "whole", *more)
    break_off(data, model, tmp_path / "out", *more)
    given = count_images(monkeypatch)
    run(data, model, tmp_path / "out", *more, "--resume")
    assert given == ["nut"]
    assert_same(tmp_path / "whole", tmp_path / "out")
    run(data, model, tmp_path / "out", *more, "--resume")
    assert given == ["nut"]
    assert_same(tmp_path / "whole", tmp_path / "out")
    run(data, model, tmp_path / "out", *more)
    assert given == ["nut", "bolt", "cog", "nut"]


def test_several_processes_go_on_with_a_test_as_well(data, model, tmp_path):
    run(data, model, tmp_path / "whole", "--visualization", "--batch_size", "1")
    more = ["--visualization", "--batch_size", "1"]
    break_off(data, model, tmp_path / "out", *more)
    codes, output = run_shared(2, lambda: test_sdp.main(options(data, model, tmp_path / "out", *more, "--resume")))
    assert codes == [0, 0], output
    assert "kept what an earlier run found of bolt, cog" in output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["finished"], results["processes"]) == (True, 2)
    assert (tmp_path / "out" / "scores.csv").read_bytes() == (tmp_path / "whole" / "scores.csv").read_bytes()


def test_a_class_whose_images_or_file_changed_is_computed_again(data, model, tmp_path, monkeypatch):
    given = count_images(monkeypatch)
    run(data, model, tmp_path / "out")
    kept = tmp_path / "out" / CLASSES / "nut.json"
    changed = kept.read_text().replace('"auroc_px": ', '"auroc_px": 0.0, "was": ', 1)
    for damaged in ('{"name": "nut"', "[" * 100_000, changed):
        kept.write_text(damaged)
        run(data, model, tmp_path / "out", "--resume")
    image = data / "cog" / "test" / "good" / "000.png"
    image.write_bytes((data / "cog" / "test" / "good" / "001.png").read_bytes())
    results = run(data, model, tmp_path / "out", "--resume")
    assert given[3:] == ["nut", "nut", "nut", "cog", "nut"]
    assert results["classes"] == run(data, model, tmp_path / "again")["classes"]


def test_a_mask_of_several_files_is_known_by_each_of_them(data, model, tmp_path, monkeypatch):
    mask = data / "nut" / "ground_truth" / "square" / "001_mask.png"
    folder = mask.rename(mask.with_name("whole.png")).with_name("001_mask.png")
    folder.mkdir()
    for part in ("000.png", "001.png"):
        shutil.copy(mask.with_name("whole.png"), folder / part)
    given = count_images(monkeypatch)
    run(data, model, tmp_path / "out")
    small_data.write(folder / "001.png", np.zeros((70, 90), np.uint8))
    run(data, model, tmp_path / "out", "--resume")
    (folder / "001.png").unlink()
    run(data, model, tmp_path / "out", "--resume")
    run(data, model, tmp_path / "out", "--resume")
    assert given[3:] == ["nut", "nut"]


def test_classes_without_the_results_that_say_their_settings_are_not_kept(data, model, tmp_path, monkeypatch):
    given = count_images(monkeypatch)
    before = run(data, model, tmp_path / "out")
    (tmp_path / "out" / "results.json").unlink()
    assert run(data, model, tmp_path / "out", "--resume", "--smoothing", "2")["mean"] != before["mean"]
    assert given == ["bolt", "cog", "nut"] * 2


def test_settings_must_be_the_same_to_go_on(data, model, tmp_path):
    break_off(data, model, tmp_path / "out")
    with pytest.raises(UserError, match=r"smoothing \(8\.0 there"):
        run(data, model, tmp_path / "out", "--resume", "--smoothing", "2")
    with pytest.raises(SystemExit):
        run(data, model, tmp_path / "out", "--resume", "--overwrite")


WANTED = {"--save_maps": ("maps", ".npy"), "--visualization": ("imgs", ".png")}


@pytest.mark.parametrize("wanted", WANTED)
def test_what_is_wanted_now_is_written_of_classes_that_were_done_as_well(data, model, tmp_path, monkeypatch, wanted):
    folder, suffix = tmp_path / "out" / WANTED[wanted][0], WANTED[wanted][1]
    break_off(data, model, tmp_path / "out", "--no_report")
    given = count_images(monkeypatch)
    run(data, model, tmp_path / "out", "--resume", wanted)
    assert given == ["bolt", "cog", "nut"]
    assert (tmp_path / "out" / "report.html").exists()
    written = {path: path.read_bytes() for path in folder.rglob(f"*{suffix}")}
    assert len(written) == 15
    (folder / "cog" / "test" / "square" / f"001.png{suffix}").unlink()
    run(data, model, tmp_path / "out", "--resume", "--no_report")
    assert given == ["bolt", "cog", "nut"]
    run(data, model, tmp_path / "out", "--resume", wanted)
    assert given[3:] == ["cog", "nut"]
    assert {path: path.read_bytes() for path in folder.rglob(f"*{suffix}")} == written


def read_scores(out: Path) -> tuple[list[list[str]], list[list[float]]]:
    """The images of scores.csv, each with its class and label, and the numbers that its score is made of."""
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row[:3] for row in rows], [[*map(float, row[4:])] for row in rows]


def break_images(data: Path) -> None:
    (data / "bolt/test/good/001.png").write_bytes(b"not an image")
    (data / "bolt/test/square/000.png").unlink()
    (data / "nut/ground_truth/square/002_mask.png").write_bytes(b"nor a mask")


@pytest.mark.parametrize("batch_size", ["1", "2", "8"])
def test_images_that_cannot_be_read_are_left_out_counted_and_named(data, model, tmp_path, batch_size):
    before = run(data, model, tmp_path / "whole", "--batch_size", batch_size)
    assert (before["images"], before["whole_data_set"]) == (15, False)  # of MVTec's 1725
    break_images(data)
    more = ["--batch_size", batch_size, "--visualization", "--save_maps"]
    with pytest.raises(UserError, match=r"may not be read \(1\): bolt/test/square/000\.png"):
        run(data, model, tmp_path / "out", *more)
    results = run(data, model, tmp_path / "out", *more, "--skip_broken")
    assert (results["finished"], results["images"]) == (True, 12)
    note = "images left out, as they cannot be read (2): bolt/test/good/001.png, bolt/test/square/000.png"
    assert results["classes"]["bolt"]["notes"] == [note]
    assert f"- bolt: {note}" in (tmp_path / "out" / "results.md").read_text()
    assert f"note: bolt: {note}" in (tmp_path / "out" / "test.log").read_text()
    assert note in (tmp_path / "out" / "report.html").read_text()
    assert results["classes"]["cog"] == before["classes"]["cog"]
    for image in ("bolt/test/good/001.png", "nut/test/square/002.png"):  # as if they had not been listed
        (data / image).unlink()
    (data / "meta.json").unlink()
    without = run(data, model, tmp_path / "without", *more)
    images, scores = zip(*(read_scores(tmp_path / name) for name in ("without", "out")), strict=True)
    assert images[0] == images[1]
    for one, other in zip(*(np.transpose(rows) for rows in scores), strict=True):
        assert relative_error(one, other) < ROUNDING  # not the same bits, as the images are in other batches
    for name in ("bolt", "nut"):
        known = {key: value for key, value in without["classes"][name].items() if key != "notes"}
        assert {key: results["classes"][name][key] for key in known} == pytest.approx(known, abs=MEASURES)


def test_broken_images_are_skipped_by_workers_and_several_processes_too(data, model, tmp_path):
    run(data, model, tmp_path / "unbroken")
    break_images(data)
    more = ["--skip_broken", "--batch_size", "1"]
    run(data, model, tmp_path / "alone", *more, "--num_workers", "2")
    codes, output = run_shared(3, lambda: test_sdp.main(options(data, model, tmp_path / "together", *more)))
    assert codes == [0, 0, 0], output
    for name in ("scores.csv", "results.md"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "together" / name).read_bytes()


def test_a_class_without_a_readable_image_ends_the_run(data, model, tmp_path):
    run(data, model, tmp_path / "unbroken")
    shutil.rmtree(data / "cog" / "test")
    with pytest.raises(UserError, match="no image of class cog can be read"):
        run(data, model, tmp_path / "out", "--skip_broken")


@pytest.mark.parametrize("fault", ["cog/test/good/000.png", "meta.json", "empty"])
def test_a_data_set_that_fails_does_not_keep_the_others_from_being_tested(data, model, tmp_path, fault):
    other = small_data.make(tmp_path / "other", ("gear",), seed=1)
    both = ["--dataset", "mvtec", "mpdd", "--data_path", str(data), str(other)]
    run(data, model, tmp_path / "out" / "mvtec")
    if fault == "empty":
        shutil.rmtree(data)
        data.mkdir()
    elif fault == "meta.json":
        (data / fault).write_text("{}")
    else:
        (data / fault).unlink()
    with pytest.raises(UserError, match=r"not tested to the end, .*: .*mvtec$"):
        test_sdp.main([*both, *model, "--save_path", str(tmp_path / "out")])
    lines = (tmp_path / "out" / "test.log").read_text().splitlines()
    assert [str(data) in line for line in lines if " ERROR " in line] == [True]
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "| mpdd" in summary
    assert "- mpdd: made with tiny" in summary
    assert "| mvtec" not in summary
    assert (tmp_path / "out" / "mpdd" / "results.json").is_file()


def test_where_all_data_sets_fail_each_is_named(model, tmp_path):
    both = ["--dataset", "mvtec", "mpdd", "--data_path", str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(UserError, match=r"not tested to the end, for the reasons above: mvtec, mpdd$"):
        test_sdp.main([*both, *model, "--save_path", str(tmp_path / "out")])
    for name in ("a", "b"):
        assert f"ERROR there is no folder {tmp_path / name}" in (tmp_path / "out" / "test.log").read_text()


def test_of_several_data_sets_each_gives_those_of_the_classes_that_it_has(data, model, tmp_path):
    folders = [str(data), *(str(small_data.make(tmp_path / name, (name,), seed=1)) for name in ("gear", "wheel"))]
    out = ["--dataset", "mvtec", "mpdd", "btad", "--data_path", *folders, *model, "--save_path", str(tmp_path / "out")]
    test_sdp.main([*out, "--classes", "gear", "nut"])
    found = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/results.json")}
    assert {name: [*content["classes"]] for name, content in found.items()} == {"mvtec": ["nut"], "mpdd": ["gear"]}
    said = f"WARNING {folders[2]} is left out: it has none of the --classes"
    assert said in (tmp_path / "out" / "test.log").read_text()
    with pytest.raises(UserError, match="none of the data sets has a class screw in its test split"):
        test_sdp.main([*out, "--classes", "gear", "screw"])


def test_a_file_of_phrases_is_for_the_classes_of_all_data_sets_together(data, model, tmp_path):
    other, phrases = small_data.make(tmp_path / "other", ("gear",), seed=1), tmp_path / "phrases.json"
    both = ["--dataset", "mvtec", "mpdd", "--data_path", str(data), str(other), "--phrases", str(phrases)]
    phrases.write_text(json.dumps({"nut": "hexagonal nut", "gear": "cogwheel"}))
    test_sdp.main([*both, *model, "--save_path", str(tmp_path / "out"), "--classes", "bolt", "nut", "gear"])
    found = [left_behind.results(tmp_path / "out" / name)["phrases"] for name in ("mvtec", "mpdd")]
    assert found == [{"bolt": "bolt", "nut": "hexagonal nut"}, {"gear": "cogwheel"}]
    phrases.write_text(json.dumps({"gear": "cogwheel", "screw": "long screw"}))
    with pytest.raises(UserError, match=r"phrases\.json has \"?'?screw.*, and the classes are bolt, cog, nut, gear$"):
        test_sdp.main([*both, *model, "--save_path", str(tmp_path / "more")])
    trained = ["--train_dataset", "mvtec", "--train_dataset_dir", str(data), "--epochs", "1", "--phrases", str(phrases)]
    validated = ["--test_dataset", "mpdd", "--test_dataset_dir", str(other), "--save_path", str(tmp_path / "training")]
    with pytest.raises(UserError, match=r"phrases\.json has .*screw"):
        train_sdp_plus.main([*trained, *validated, *model, "--no_cache"])
    phrases.write_text(json.dumps({"gear": "cogwheel", "nut": "hexagonal nut"}))
    train_sdp_plus.main([*trained, *validated, *model, "--no_cache"])


def test_sdp_plus_takes_a_checkpoint_for_each_data_set(data, model, tmp_path):
    other = small_data.make(tmp_path / "other", ("gear",), seed=1)
    for name, root in (("on_bolts", data), ("on_gears", other)):
        trained = ["--train_dataset", "mvtec", "--train_dataset_dir", str(root), "--epochs", "1"]
        train_sdp_plus.main([*trained, *model, "--no_cache", "--save_path", str(tmp_path / name)])
    files = [str(tmp_path / name / "epoch_1.pth") for name in ("on_gears", "on_bolts")]
    both = ["--dataset", "mvtec", "mpdd", "--data_path", str(data), str(other)]
    test_sdp_plus.main([*both, *model, "--checkpoint", *files, "--save_path", str(tmp_path / "out")])
    for name, file in zip(("mvtec", "mpdd"), files, strict=True):
        results = json.loads((tmp_path / "out" / name / "results.json").read_text())
        assert results["checkpoint"]["path"] == results["arguments"]["checkpoint"] == file
        assert "was trained on" not in (tmp_path / "out" / name / "results.md").read_text() or name == "mvtec"
    gone = ["--checkpoint", str(tmp_path / "gone.pth"), files[1], "--save_path", str(tmp_path / "some")]
    with pytest.raises(UserError, match=r"not tested to the end, for the reasons above: mvtec$"):
        test_sdp_plus.main([*both, *model, *gone])
    assert f"there is no checkpoint {tmp_path / 'gone.pth'}" in (tmp_path / "some" / "test.log").read_text()
    results = [json.loads((tmp_path / out / "mpdd" / "results.json").read_text()) for out in ("out", "some")]
    assert results[0]["mean"] == results[1]["mean"]
    with pytest.raises(UserError, match="--dataset names 2 data sets, --checkpoint 3 files"):
        test_sdp_plus.main([*both, *model, "--checkpoint", *files, files[0], "--save_path", str(tmp_path / "more")])
