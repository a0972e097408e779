"""`predict.py` as a user runs it, on a tiny CLIP."""

import csv
import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import predict
import test_sdp
import train_dp_clip
from engine import arrivals
from engine.prediction_writer import PredictionWriter
from tests import small_data, tiny_adapter, tiny_clip
from tests.forked import fork, wait_for
from tests.scripts import record, run_calls
from utils.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> list[str]:
    config, weights = tiny_clip.save(tmp_path_factory.mktemp("model"))
    cache = tmp_path_factory.mktemp("cache")
    return ["--model", str(config), "--pretrained", str(weights), "--cache_dir", str(cache)]


@pytest.fixture(scope="module")
def bolts(tmp_path_factory) -> Path:
    return small_data.make(tmp_path_factory.mktemp("bolts"), ("bolt",))


@pytest.fixture(scope="module")
def normal(tmp_path_factory) -> Path:
    return small_data.draw_grey(tmp_path_factory.mktemp("normal"), 12)


def run(model: list[str], out: Path, *arguments: object) -> int:
    return predict.main([*map(str, arguments), "--save_path", str(out), "--num_workers", "0", *model])


def lines(out: Path) -> dict[str, dict]:
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    return {row["image_path"]: row for row in rows}


def table(out: Path) -> list[dict]:
    with (out / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_values_are_those_of_the_evaluation(bolts, model, tmp_path):
    arguments = ["--dataset", "mvtec", "--data_path", str(bolts), "--num_workers", "0", "--obj_name", "bolt"]
    test_sdp.main([*arguments, *model, "--save_path", str(tmp_path / "evaluated"), "--save_maps"])
    assert run(model, tmp_path / "out", bolts / "bolt" / "test", "--object", "bolt", "--save_maps") == 0
    evaluated = table(tmp_path / "evaluated")
    predicted = lines(tmp_path / "out")
    assert len(predicted) == len(evaluated) == 5
    for row in evaluated:
        mine = predicted[str(bolts / row["image_path"])]
        assert mine["text_prob"] == pytest.approx(float(row["text_prob"]), rel=1e-6)
        assert mine["map_max"] == pytest.approx(float(row["map_max"]), rel=1e-6)
        name = row["image_path"].removeprefix("bolt/test/")
        maps = [tmp_path / "evaluated" / "maps" / row["image_path"], tmp_path / "out" / "maps" / name]
        first, second = (np.load(f"{path}.npy") for path in maps)
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_without_calibration_nothing_is_called_anomalous(bolts, model, tmp_path):
    run(model, tmp_path, bolts)
    assert list(table(tmp_path)[0]) == ["image_path", "text_prob", "map_max", "error"]
    overlays = sorted((tmp_path / "overlays").rglob("*.png"))
    assert [path.name for path in overlays if "ground_truth" not in path.parts][:2] == ["000.png.png", "001.png.png"]
    assert cv2.imread(str(overlays[0])).shape == (70, 90, 3)
    page = (tmp_path / "report.html").read_text()
    assert "nothing is called anomalous" in page and "<title>SDP: " in page


def test_calibration_sets_thresholds_and_is_kept(bolts, normal, model, tmp_path):
    test = bolts / "bolt" / "test"
    options = ("--normal_dir", normal, "--false_alarm_rate", "0.2", "--save_masks")
    assert run(model, tmp_path / "a", test, *options) == 0
    rows = table(tmp_path / "a")
    saved = json.loads((tmp_path / "a" / "calibration.json").read_text())
    assert saved["promised_rate"] == 0.2
    for row in rows:
        assert (row["is_anomalous"] == "True") == (float(row["p_value"]) <= 0.2) == (float(row["score"]) > 0)
        marked = float(row["map_max"]) > saved["pixel_threshold"]
        assert (int(row["regions"]) > 0) == marked
        name = Path(row["image_path"]).relative_to(test)
        mask = cv2.imread(str(tmp_path / "a" / "masks" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        assert mask.shape == (70, 90)
        assert mask.any() == marked
    region = next(row for row in lines(tmp_path / "a").values() if row["regions"])["regions"][0]
    assert region.keys() == {"x", "y", "width", "height", "area", "peak", "peak_x", "peak_y"}
    with pytest.raises(UserError, match=r"predict\.json has another calibration than this run: give the same, or"):
        run(model, tmp_path / "a", test, "--resume")
    run(model, tmp_path / "b", test, "--calibration", tmp_path / "a" / "calibration.json")
    said = [(tmp_path / name / "predict.log").read_text() for name in ("a", "b")]
    assert ["calibrated on 12 normal images" in text for text in said] == [True, False]
    assert "with the calibration on 12 normal images, kept in" in said[1]
    for mine, other in zip(rows, table(tmp_path / "b"), strict=True):
        assert mine["p_value"] == other["p_value"]


def edit(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_calibration_goes_on_by_its_images_whatever_the_rounding_of_their_scores(bolts, normal, model, tmp_path):
    own, out = shutil.copytree(normal, tmp_path / "normal"), tmp_path / "out"
    options = (bolts / "bolt" / "test", "--normal_dir", own)

    def round_otherwise(settings: dict) -> None:
        for name in ("text_prob", "map_max"):
            settings["calibration"][name] = [value * 1.01 for value in settings["calibration"][name]]

    run(model, out, *options)
    edit(out / "predict.json", round_otherwise)
    kept = json.loads((out / "predict.json").read_text())["calibration"]
    (out / "overlays" / "good" / "000.png.png").unlink()
    run(model, out, *options, "--resume")
    assert json.loads((out / "predict.json").read_text())["calibration"] == kept
    saved = json.loads((out / "calibration.json").read_text())
    assert {key: saved[key] for key in kept} == kept
    small_data.write(own / "3.png", np.full((70, 90, 3), 80, np.uint8))
    with pytest.raises(UserError, match=r"predict\.json has another calibration than this run"):
        run(model, out, *options, "--resume")


def test_a_prediction_of_an_earlier_version_goes_on(bolts, normal, model, tmp_path):
    good, square = (bolts / "bolt" / "test" / kind for kind in ("good", "square"))

    def forget(settings: dict) -> None:
        del settings["config_sha256"], settings["folder"]
        del settings["calibration"]["origin"]["config_sha256"], settings["calibration"]["origin"]["normal_sha256"]

    run(model, tmp_path, good, "--normal_dir", normal)
    edit(tmp_path / "predict.json", forget)
    for normal_dir, said in ((square, "another calibration"), (normal, "smoothing 8.0, and this run has 4.0")):
        with pytest.raises(UserError, match=rf"predict\.json has {said}"):
            smoothing = ["--smoothing", "4"] * (normal_dir == normal)
            run(model, tmp_path, good, "--normal_dir", normal_dir, *smoothing, "--resume")
    assert run(model, tmp_path, good, square, "--normal_dir", normal, "--resume") == 0
    assert len(table(tmp_path)) == 5


def test_copies_of_normal_images_count_once(bolts, normal, model, tmp_path):
    shutil.copytree(normal, tmp_path / "copied")
    for i in range(12):
        Image.open(normal / f"{i}.png").save(tmp_path / "copied" / f"again_{i}.bmp")
        shutil.copy(normal / f"{i}.png", tmp_path / "copied" / f"._{i}.png")
    run(model, tmp_path / "a", bolts / "bolt" / "test", "--normal_dir", tmp_path / "copied")
    log = (tmp_path / "a" / "predict.log").read_text()
    assert f"--normal_dir {tmp_path / 'copied'} holds copies, which count once: 12 images" in log
    assert "calibrated on 12 normal images" in log
    assert "at most 15.4 % of normal images are called anomalous" in log
    assert "a false-alarm rate of 0.05 needs 39 normal images or more" in log


def test_results_of_earlier_runs_are_not_predicted(bolts, model, tmp_path):
    photographs = shutil.copytree(bolts / "bolt" / "test", tmp_path / "photographs")
    for results in ("a", "b"):
        run(model, photographs / results, photographs, "--threshold", "0", "--save_masks")
        assert len(table(photographs / results)) == 5
    assert run(model, photographs / "a", photographs, "--threshold", "0", "--save_masks", "--resume") == 0
    assert len(table(photographs / "a")) == 5


def test_a_calibration_with_an_image_adapter_of_another_form_is_refused(bolts, normal, model, backbone, tmp_path):
    """The authors' files do not say what their adapters end in."""
    authors = tmp_path / "image_adapter.pth"
    torch.save({"epoch": 1, "image_adapter": tiny_adapter.load(backbone).state_dict()}, authors)
    method = ("--method", "dp_clip", "--checkpoint", authors)
    run(model, tmp_path / "a", bolts, *method, "--normal_dir", normal)
    with pytest.raises(UserError, match="was made with relu False, and this run has True"):
        calibration = ("--calibration", tmp_path / "a" / "calibration.json")
        run(model, tmp_path / "b", bolts, *method, *calibration, "--relu")


@pytest.fixture
def junk(bolts, tmp_path) -> Path:
    folder = tmp_path / "junk"
    folder.mkdir()
    good = Image.open(bolts / "bolt" / "test" / "good" / "000.png")
    good.save(folder / "good.png")
    good.save(folder / """it's <b>"x"&amp;.png""")
    (folder / "text.png").write_text("no image")
    buffer = io.BytesIO()
    good.save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[:400])
    good.resize((1, 1)).save(folder / "dot.png")
    return folder


def test_what_cannot_be_read_is_reported_and_does_not_stop_the_rest(junk, model, tmp_path):
    out = tmp_path / "out"
    assert run(model, out, junk, junk / "gone.png", "--batch_size", "2") == 1
    rows = lines(out)
    assert {Path(path).name for path, row in rows.items() if "error" in row} == {"text.png", "cut.jpg", "gone.png"}
    assert len(rows) == len(table(out)) == 6
    assert "3 images predicted; 3 could not be" in (out / "predict.log").read_text()
    page = (out / "report.html").read_text()
    assert "<b>" not in page.split("<body", 1)[1]
    assert len(list((out / "overlays").iterdir())) == 3


def test_an_interrupted_run_keeps_what_it_had_and_goes_on(bolts, model, tmp_path, monkeypatch):
    run(model, tmp_path / "whole", bolts / "bolt" / "test", "--batch_size", "1")
    write = PredictionWriter.write
    seen = []

    def stop_at_the_third(self, index, found):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(index)
        write(self, index, found)

    monkeypatch.setattr(PredictionWriter, "write", stop_at_the_third)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(model, out, bolts / "bolt" / "test", "--batch_size", "1")
    assert len(lines(out)) == 2
    monkeypatch.undo()
    with (out / "scores.jsonl").open("a") as file:
        file.write(f'{"[" * 100_000}\n{{"image_path": ["{bolts}"], "text_prob": 0.5, "map_max": 1}}\n')
        file.write('{"image_path": "a.png", "text_prob": "high", "map_max": 1}\n{"image_path": "half a li')
    log = (out / "predict.log").read_text()
    with pytest.raises(UserError, match="holds a prediction already"):
        run(model, out, bolts / "bolt" / "test")
    assert (out / "predict.log").read_text() == log
    with pytest.raises(UserError, match=r"has smoothing 8\.0, and this run has 4\.0"):
        run(model, out, bolts / "bolt" / "test", "--resume", "--smoothing", "4")
    assert run(model, out, bolts / "bolt" / "test", "--batch_size", "1", "--resume") == 0
    assert (out / "scores.csv").read_text() == (tmp_path / "whole" / "scores.csv").read_text()
    for overlay in (out / "overlays").rglob("*.png"):
        other = tmp_path / "whole" / overlay.relative_to(out)
        assert overlay.read_bytes() == other.read_bytes()
    monkeypatch.setattr(PredictionWriter, "write", None)  # nothing is left to do
    assert run(model, out, bolts / "bolt" / "test", "--resume") == 0


@pytest.mark.parametrize("content", ["", "[" * 100_000, "[]", '{"colour_scale": 3}', '{"method": 1, "method": 2}'])
def test_settings_that_are_damaged_are_refused(bolts, model, tmp_path, content):
    (tmp_path / "scores.jsonl").touch()
    (tmp_path / "predict.json").write_text(content)
    with pytest.raises(UserError, match=r"predict\.json.*; nothing can go on here: delete the folder"):
        run(model, tmp_path, bolts, "--resume")


def test_images_that_failed_are_tried_again(junk, model, tmp_path):
    out = tmp_path / "out"
    assert run(model, out, junk) == 1
    Image.new("RGB", (40, 30)).save(junk / "text.png")
    (junk / "cut.jpg").unlink()
    assert run(model, out, junk, "--resume") == 0
    assert len(table(out)) == 4


@pytest.fixture
def photographs(bolts, tmp_path) -> Path:
    return Path(shutil.copytree(bolts / "bolt" / "test" / "square", tmp_path / "photographs"))


def test_an_image_that_was_replaced_is_predicted_again(photographs, model, tmp_path):
    out, image = tmp_path / "out", photographs / "001.png"
    run(model, out, photographs, "--save_maps")
    before, overlay = lines(out), (out / "overlays" / "001.png.png").read_bytes()
    small_data.write(image, 255 - cv2.imread(str(image)))
    assert run(model, out, photographs, "--save_maps", "--resume") == 0
    assert "1 images are predicted again" in (out / "predict.log").read_text()
    run(model, tmp_path / "alone", image, "--save_maps")
    after = lines(out)
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {str(image)}
    assert after[str(image)]["map_max"] == pytest.approx(lines(tmp_path / "alone")[str(image)]["map_max"], rel=1e-5)
    assert (out / "overlays" / "001.png.png").read_bytes() != overlay
    first, second = np.load(out / "maps" / "001.png.npy"), np.load(tmp_path / "alone" / "maps" / "001.png.npy")
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_the_same_relative_name_in_another_folder_is_not_done(photographs, model, tmp_path, monkeypatch):
    other = Path(shutil.copytree(photographs, tmp_path / "elsewhere" / "photographs"))  # with the files' times
    monkeypatch.chdir(tmp_path)
    run(model, tmp_path / "out", "photographs")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"has folder {photographs}, and this run has {other}: give the same, or"):
        run(model, tmp_path / "out", "photographs", "--resume")


@pytest.mark.parametrize("wanted, folder", [("--save_maps", "maps"), ("--save_masks", "masks"), (None, "overlays")])
def test_what_is_wanted_now_is_written_of_what_was_done_as_well(photographs, model, tmp_path, wanted, folder):
    marked = ("--threshold", "0")
    run(model, tmp_path / "whole", photographs, *marked, *filter(None, [wanted]))
    run(model, tmp_path / "out", photographs, *marked, *([] if wanted else ["--no_overlays"]))
    assert not (tmp_path / "out" / folder).exists()
    run(model, tmp_path / "out", photographs, *marked, *filter(None, [wanted]), "--resume")
    files = sorted((tmp_path / "out" / folder).iterdir())
    assert [path.name.removesuffix(path.suffix) for path in files] == ["000.png", "001.png", "002.png"]
    assert [path.read_bytes() for path in files] == [
        path.read_bytes() for path in sorted((tmp_path / "whole" / folder).iterdir())
    ]


@pytest.mark.parametrize("fidelity", ["released", "corrected"])
def test_dp_clip_predicts_each_image_as_if_alone(bolts, model, tmp_path, fidelity):
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), "--num_workers", "0"]
    more = ["--epochs", "1", "--fidelity", fidelity, "--save_path", str(tmp_path / "trained")]
    train_dp_clip.main([*data, *model, *more])
    trained = ("--method", "dp_clip", "--checkpoint", tmp_path / "trained" / "image_adapter.pth")
    test = bolts / "bolt" / "test"
    assert run(model, tmp_path / "all", test, *trained) == 0
    image = test / "square" / "000.png"
    assert run(model, tmp_path / "one", image, *trained) == 0
    mine, alone = lines(tmp_path / "all")[str(image)], lines(tmp_path / "one")[str(image)]
    assert mine["map_max"] == pytest.approx(alone["map_max"], rel=1e-5)
    assert mine["text_prob"] == pytest.approx(alone["text_prob"], rel=1e-5)


def test_the_shell_script_takes_lists_and_names_with_spaces(bolts, normal, model, tmp_path, monkeypatch):
    (tmp_path / "good ones").symlink_to(normal)
    settings = {
        "OBJECT": "steel bolt",
        "NORMAL_DIR": str(tmp_path / "good ones"),
        "SAVE_PATH": str(tmp_path / "my results"),
        "MODEL": model[1],
        "PRETRAINED": model[3],
        "NUM_WORKERS": "0",
    }
    image, gone = bolts / "bolt" / "test" / "good" / "000.png", tmp_path / "gone.png"
    _, calls = record(tmp_path, "predict.sh", "-", "--cache_dir", model[5], **settings)
    (tmp_path / "list.txt").write_text(f"{image}\n{gone}\n")
    with (tmp_path / "list.txt").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert run_calls(calls) == [1]
    assert "'steel bolt'" in (tmp_path / "my results" / "predict.log").read_text()
    assert list(lines(tmp_path / "my results")) == [str(image), str(gone)]


def test_another_config_of_the_same_weights_is_no_prediction_to_go_on_with(model, bolts, tmp_path):
    photographs = bolts / "bolt" / "test" / "good"
    assert run(model, tmp_path / "out", photographs, "--normal_dir", photographs) == 0
    config = json.loads(Path(model[1]).read_text())
    config["vision_cfg"]["head_width"] *= 2
    (tmp_path / "other.json").write_text(json.dumps(config))
    other = [model[0], str(tmp_path / "other.json"), *model[2:]]
    with pytest.raises(UserError, match=r"predict\.json has config_sha256"):
        run(other, tmp_path / "out", photographs, "--normal_dir", photographs, "--resume")
    with pytest.raises(UserError, match=r"calibration\.json was made with config_sha256"):
        run(other, tmp_path / "new", photographs, "--calibration", tmp_path / "out" / "calibration.json")


@pytest.fixture
def started(model, tmp_path):
    """Starts predict.py in a process; gives a function that asks it, one that reads an answer, and one that ends it."""
    (ask_end, ask), (answer, answer_end) = os.pipe(), os.pipe()
    pids = []

    def start(*arguments: object) -> tuple[Callable, Callable, Callable]:
        def main() -> int:
            os.dup2(ask_end, 0)
            for end in (ask_end, ask, answer):
                os.close(end)
            sys.stdin = os.fdopen(0)
            log = os.open(tmp_path / "stderr", os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 2)
            arrivals.POLL, arrivals.PATIENCE = 0.05, 2.0
            return predict.main([*map(str, arguments), "--num_workers", "0", *model])

        with os.fdopen(answer_end, "w") as output:
            pids.append(fork(main, output))
        os.close(ask_end)
        lines, to_ask = os.fdopen(answer), os.fdopen(ask, "w")

        def end(by: signal.Signals | None = None) -> tuple[int, str]:
            to_ask.close() if by is None else os.kill(pids[0], by)
            code, rest = wait_for(pids)[0], lines.read()
            pids.clear()
            return code, rest

        return lambda text: print(text, file=to_ask, flush=True), lambda: json.loads(lines.readline()), end

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_a_program_that_waits_for_each_answer_gets_it(started, bolts, tmp_path):
    good = bolts / "bolt" / "test" / "good" / "000.png"
    ask, answer, end = started("-", "--threshold", "0")
    for path in (good, tmp_path / "gone.png", good):
        ask(path)
        row = answer()
        assert row["image_path"] == str(path)
        assert ("regions" in row, "error" in row) == (path == good, path != good)
    assert end() == (1, "")
    assert "2 images predicted; 1 could not be" in (tmp_path / "stderr").read_text()
    assert not (tmp_path / "results").exists()


def test_results_of_a_list_are_named_by_their_path_below_the_working_folder(started, bolts, tmp_path, monkeypatch):
    monkeypatch.chdir(bolts)
    ask, answer, end = started("-", "--save_path", tmp_path / "out", "--save_maps")
    (tmp_path / "else.png").symlink_to(bolts / "bolt" / "test" / "good" / "000.png")
    for path in ("bolt/test/good/000.png", tmp_path / "else.png"):
        ask(path)
        assert answer()["image_path"] == str(path)
    assert end() == (0, "")
    maps = tmp_path / "out" / "maps"
    found = {path.relative_to(maps).as_posix() for path in maps.rglob("*.npy")}
    assert found == {"bolt/test/good/000.png.npy", f"_{tmp_path}/else.png.npy"}


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_folder_is_watched_until_a_signal_and_what_was_done_is_not_done_again(started, bolts, tmp_path, model, by):
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    folder.mkdir()
    content = (bolts / "bolt" / "test" / "good" / "000.png").read_bytes()
    _, answer, end = started(folder, "--watch", "--save_path", out)
    with (folder / "a.png").open("wb") as file:
        file.write(content[:200])
        file.flush()
        time.sleep(0.3)  # so that it is read in vain
        file.write(content[200:])
    first = answer()
    assert (first["image_path"], "error" in first) == (str(folder / "a.png"), False)
    (folder / "broken.png").write_bytes(content[:200])
    assert "cannot read the image" in answer()["error"]
    shutil.copy(bolts / "bolt" / "test" / "square" / "000.png", folder / "a.png")
    assert answer()["map_max"] != first["map_max"]
    assert end(by) == (1, "")
    assert [Path(row["image_path"]).name for row in table(out)] == ["a.png", "broken.png"]
    assert (out / "overlays" / "a.png.png").is_file()
    assert "broken.png" in (out / "report.html").read_text()
    (folder / "broken.png").unlink()
    assert run(model, out, folder, "--resume") == 0
    assert "1 image, 0 still to be predicted" in (out / "predict.log").read_text()


def test_one_image_is_answered_in_words(bolts, normal, model, tmp_path, capsys):
    image = bolts / "bolt" / "test" / "square" / "000.png"
    run(model, tmp_path / "raw", image)
    row = lines(tmp_path / "raw")[str(image)]
    said = capsys.readouterr().out
    assert said.startswith(f"{image}: no verdict without normal images")
    assert f"map maximum {row['map_max']:.4g}\n  highest at x {row['peak_x']}, y {row['peak_y']}\n" in said
    run(model, tmp_path / "sure", image, "--normal_dir", normal)
    row = lines(tmp_path / "sure")[str(image)]
    said = capsys.readouterr().out
    kind = "anomalous" if row["is_anomalous"] else "normal"
    assert said.startswith(f"{image}: {kind}, score {row['score']:.3g} (anomalous above 0), p-value")
    region = row["regions"][0]
    assert f"marked: x {region['x']} to {region['x'] + region['width']}, y {region['y']} to" in said
    run(model, tmp_path / "more", bolts / "bolt")
    assert capsys.readouterr().out == ""


def test_the_page_marks_and_links_and_names_what_could_not_be_read(junk, normal, model, tmp_path):
    Image.new("RGB", (90, 30)).save(junk / "a:b #%.png")
    run(model, tmp_path / "out", junk, "--normal_dir", normal, "--false_alarm_rate", "0.9")
    page = (tmp_path / "out" / "report.html").read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    rows = {Path(image["image_path"]).name: image for image in data["images"]}
    wide = rows["a:b #%.png"]
    assert (data["threshold"], wide["href"]) == (0, "../junk/a%3Ab%20%23%25.png")
    assert wide["picture"]["aspect"] == pytest.approx(3, rel=0.02)
    assert {Path(path).name for path in data["unread"]} == {"text.png", "cut.jpg"}
    regions = {Path(path).name: row.get("regions") for path, row in lines(tmp_path / "out").items()}
    assert any(regions[name] for name in rows)
    for name, row in rows.items():
        assert row["picture"]["outline"].count("M") >= len(regions[name])


def test_no_page_is_left_where_no_image_can_be_shown_and_it_is_said(photographs, model, tmp_path):
    out, image = tmp_path / "out", photographs / "000.png"
    assert run(model, out, image) == 0
    assert (out / "report.html").exists()
    image.write_text("no image")
    assert run(model, out, image, "--resume") == 1
    assert not (out / "report.html").exists()
    assert f"there is no {out / 'report.html'}, as there is no image to show" in (out / "predict.log").read_text()
    assert [row["error"] for row in table(out)] == [f"{image} is not an image, or of a kind that cannot be read"]


EXPORTED = ("a.png", "--runtime", "onnxruntime", "--onnx", "nut.onnx")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("a.png", "--save_masks"), "--save_masks needs what pixels are marked by"),
        (("a.png", "--false_alarm_rate", "0.2"), "--false_alarm_rate goes with --normal_dir"),
        (("a.png", "--calibration", "c", "--false_alarm_rate", "0.05"), "--false_alarm_rate goes with --normal_dir"),
        (("a.png", "--threshold", "nan"), "argument --threshold: 'nan' is not a finite number"),
        (("a.png", "--threshold", "1e999"), "argument --threshold: '1e999' is not a finite number"),
        (("a.png", "--method", "dp_clip", "--smoothing", "4"), "--smoothing is not an option of --method dp_clip"),
        (("a.png", "--method", "sdp_plus", "--no-grn"), "--grn is not an option of --method sdp_plus"),
        (("a.png", "--normal_memory"), "--normal_memory needs normal images: --normal_dir, or a --calibration that"),
        (("a.png", "--normal_memory", "--normal_dir", "a", "--tile", "96"), "whole images: leave out --tile"),
        (("in", "-", "--watch"), "--watch takes folders, not - for a list"),
        (("in", "--watch", "--intensity", "auto"), "--intensity auto needs all images at once"),
        (("-", "--save_maps"), "--save_maps needs a folder for the results: give --save_path"),
        ((*EXPORTED, "--model", "demo"), "--model is what the exported model brings: leave it out with --onnx"),
        ((*EXPORTED, "--object", "nut"), "--object is what the exported model brings"),
        ((*EXPORTED, "--method", "sdp"), "--method is what the exported model brings"),
        ((*EXPORTED, "--domain", "industrial"), "--domain is what the exported model brings"),
        ((*EXPORTED, "--smoothing", "2"), "--smoothing is what the exported model brings"),
        ((*EXPORTED, "--device", "cuda"), "--device cuda is not where exported models are run"),
        ((*EXPORTED, "--precision", "bf16"), "--precision bf16 is not one of onnxruntime's here"),
        ((*EXPORTED, "--compile"), "--compile is for PyTorch alone"),
        ((*EXPORTED, "--normal_memory", "--normal_dir", "good"), "--normal_memory is for PyTorch alone"),
        ((*EXPORTED, "--runtime", "pytorch"), "runs the model that --onnx names: give both, or neither"),
    ],
)
def test_options_that_would_do_nothing_or_contradict_each_other_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        predict.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
