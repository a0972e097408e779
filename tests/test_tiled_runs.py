"""Tests, trainings and predictions by tiles as a user runs them, on a tiny CLIP."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import evaluate
import predict
import test_dp_clip
import test_sdp
import test_sdp_plus
import train_sdp_plus
from tests import left_behind, small_data
from tests.compare import ROUNDING, relative_error
from tests.forked import run_shared
from tests.left_behind import results, table
from utils.errors import UserError

TESTS = {"sdp": test_sdp, "sdp_plus": test_sdp_plus, "dp_clip": test_dp_clip}
SHAPES = [(150, 220), (200, 130), (70, 90)]  # the last is smaller than a tile
TILES = ("--tile", "96")


@pytest.fixture(scope="module")
def sheets(tmp_path_factory) -> Path:
    """A class whose images have three sizes, with bright lines a pixel or two wide for defects."""
    root, rng = tmp_path_factory.mktemp("sheets"), np.random.default_rng(0)
    for i, shape in enumerate(SHAPES):
        for kind in ("good", "line"):
            image, mask = rng.integers(60, 120, (*shape, 3), np.uint8), np.zeros(shape, np.uint8)
            if kind == "line":
                mask[20 : 20 + 1 + i % 2, 10:60] = 255
                image[mask > 0] = 250
                small_data.write(root / "sheet" / "ground_truth" / kind / f"{i:03}_mask.png", mask)
            small_data.write(root / "sheet" / "test" / kind / f"{i:03}.png", image)
    return root


@pytest.fixture(scope="module")
def checkpoints(bolts, model, tmp_path_factory) -> dict[str, list[str]]:
    own = ("--prompts", "industrial")
    return left_behind.checkpoints(tmp_path_factory.mktemp("training"), bolts, *model, dp_clip=own)


def options(root: Path, model: list[str], out: Path, *more: str) -> list[str]:
    paths = ["--data_path", str(root), "--save_path", str(out), "--cache_dir", str(root / ".cache")]
    return ["--dataset", "folder", *paths, "--num_workers", "0", *model, *more]


def rows(out: Path) -> dict[str, dict]:
    return {row["image_path"]: row for row in table(out / "scores.csv")}


def maps(out: Path) -> dict[str, np.ndarray]:
    return {str(path.relative_to(out / "maps"))[:-4]: np.load(path) for path in sorted((out / "maps").rglob("*.npy"))}


@pytest.mark.parametrize("method", TESTS)
def test_every_method_has_maps_of_the_images_own_size(method, sheets, checkpoints, model, tmp_path):
    def run(name: str, *more: str) -> Path:
        TESTS[method].main(options(sheets, model, tmp_path / name, *checkpoints[method], "--save_maps", *more))
        return tmp_path / name

    whole, tiled = run("whole"), run("tiled", *TILES, "--visualization", "--bootstrap", "20")
    one_by_one = run("one", *TILES, "--batch_size", "1", "--num_workers", "2")
    for name, own in maps(tiled).items():
        assert own.shape == SHAPES[int(name[-7:-4])]
        assert relative_error(maps(one_by_one)[name], own) < ROUNDING
        row = rows(tiled)[name]
        assert float(row["map_max"]) == own.max()
        assert float(row["text_prob"]) == pytest.approx(float(rows(whole)[name]["text_prob"]), rel=1e-5)
        picture = cv2.imread(str(tiled / "imgs" / f"{name}.png"))
        assert picture.shape[1] >= 2 * own.shape[1]
    said = results(tiled)
    assert said["tiles"] == {"tile": 96, "overlap": 0.25, "tile_scale": 1.0, "tile_context": True}
    assert {key: said["arguments"][key] for key in said["tiles"]} == said["tiles"]
    assert "tiles" not in results(whole)
    origin = "by tiles of 96 px, overlap 0.25, and the whole image"
    for file in ("results.md", "report.html", "test.log"):
        assert origin in (tiled / file).read_text()
        assert origin not in (whole / file).read_text()
    assert any("several sizes" in note for note in said["classes"]["sheet"]["notes"])
    assert not any("nothing is left" in note for note in said["classes"]["sheet"]["notes"])
    assert said["mean"]["auroc_px"] is not None


def test_context_scale_and_overlap_are_what_they_are_called(sheets, model, tmp_path):
    def found(name: str, *more: str) -> dict[str, np.ndarray]:
        test_sdp.main(options(sheets, model, tmp_path / name, "--save_maps", *TILES, *more))
        return maps(tmp_path / name)

    default, alone = found("default"), found("alone", "--no-tile_context")
    same = found("same", "--overlap", "0.25", "--tile_scale", "1", "--tile_context")
    others = [found("overlap", "--overlap", "0.5"), found("scale", "--tile_scale", "2"), alone]
    for name, own in default.items():
        np.testing.assert_array_equal(same[name], own)
        assert all(other[name].shape == own.shape for other in others)
    assert all(any(not np.array_equal(other[name], own) for name, own in default.items()) for other in others)
    assert "tiles of 96 px at scale 2, overlap 0.25, and" in (tmp_path / "scale" / "results.md").read_text()
    assert "tiles of 96 px, overlap 0.25, alone" in (tmp_path / "alone" / "results.md").read_text()


def test_results_of_other_tiles_are_refused_and_the_same_are_gone_on_with(sheets, model, tmp_path):
    test_sdp.main(options(sheets, model, tmp_path))
    with pytest.raises(UserError, match=r"other settings, tile \(not given there, 96 here\)"):
        test_sdp.main(options(sheets, model, tmp_path, *TILES))
    test_sdp.main(options(sheets, model, tmp_path, *TILES, "--overwrite"))
    with pytest.raises(UserError, match=r"other settings, overlap \(0.25 there, 0.5 here\)"):
        test_sdp.main(options(sheets, model, tmp_path, *TILES, "--overlap", "0.5"))
    before = (tmp_path / "scores.csv").read_bytes()
    test_sdp.main(options(sheets, model, tmp_path, *TILES, "--resume", "--max_pixels", "1000000"))
    assert (tmp_path / "scores.csv").read_bytes() == before


def test_saved_maps_of_tiles_are_measured_alike(sheets, model, tmp_path):
    test_sdp.main(options(sheets, model, tmp_path / "a", *TILES, "--save_maps"))
    paths = ["--data_path", str(sheets), "--save_path", str(tmp_path / "b")]
    evaluate.main(["--maps", str(tmp_path / "a" / "maps"), *paths])
    for key in ("auroc_px", "ap_px", "aupro"):
        assert results(tmp_path / "b")["mean"][key] == results(tmp_path / "a")["mean"][key]
    test_sdp.main(options(sheets, model, tmp_path / "c", *TILES, "--save_maps", "--smoothing", "3"))
    out = ["--save_path", str(tmp_path / "compared"), "--bootstrap", "20"]
    evaluate.main(["--compare", str(tmp_path / "a"), str(tmp_path / "c"), *out])
    compared = json.loads((tmp_path / "compared" / "compare.json").read_text())
    assert compared["mean"]["aupro"]["difference"] is not None
    test_sdp.main(options(sheets, model, tmp_path / "whole", "--save_maps"))
    with pytest.raises(UserError, match=r"sheet are of several sizes in .*, 96 x 96 in .*: bring them to one size"):
        evaluate.main(["--compare", str(tmp_path / "a"), str(tmp_path / "whole"), *out, "--overwrite"])


def test_images_that_cannot_be_read_and_several_processes_change_no_other(sheets, model, tmp_path):
    test_sdp.main(options(sheets, model, tmp_path / "whole", *TILES, "--save_maps"))
    root = shutil.copytree(sheets, tmp_path / "sheets")
    (root / "sheet" / "test" / "good" / "bad.png").write_bytes(b"no image")
    entries = json.loads((root / "meta.json").read_text())
    entries["test"]["sheet"].insert(1, entries["test"]["sheet"][0] | {"img_path": "sheet/test/good/bad.png"})
    (root / "meta.json").write_text(json.dumps(entries))
    more = ["--skip_broken", "--save_maps", *TILES]
    codes, output = run_shared(2, lambda: test_sdp.main(options(root, model, tmp_path / "shared", *more)))
    assert codes == [0, 0], output
    for name, own in maps(tmp_path / "whole").items():
        assert relative_error(maps(tmp_path / "shared")[name], own) < ROUNDING
    assert any("bad.png" in note for note in results(tmp_path / "shared")["classes"]["sheet"]["notes"])


def test_a_validation_is_by_tiles_too(bolts, sheets, model, tmp_path):
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), "--epochs", "1", "--num_workers", "0"]
    test = ["--test_dataset", "folder", "--test_dataset_dir", str(sheets)]
    paths = ["--cache_dir", str(tmp_path / "cache"), "--save_path", str(tmp_path / "run")]
    train_sdp_plus.main([*data, *test, *model, *paths, *TILES])
    found = results(tmp_path / "run" / "validation" / "epoch_1")
    assert found["tiles"]["tile"] == 96
    test_sdp_plus.main(options(sheets, model, tmp_path, *TILES, "--checkpoint", str(tmp_path / "run" / "epoch_1.pth")))
    assert results(tmp_path)["mean"] == pytest.approx(found["mean"])
    train_sdp_plus.main([*data, *test, *model, *paths, "--resume"])  # which no parameter depends on


@pytest.mark.parametrize(
    ("program", "more", "said"),
    [
        (test_sdp, ("--overlap", "0.5"), "--overlap goes with --tile"),
        (test_sdp, ("--no-tile_context",), "--tile_context goes with --tile"),
        (predict, ("--tile_scale", "1"), "--tile_scale goes with --tile"),
        (train_sdp_plus, TILES, "--tile goes with --test_dataset"),
        (test_sdp, ("--tile", "7"), "'7' is not a whole number from 16 to 32768"),
        (test_sdp, (*TILES, "--overlap", "1"), "'1' is not a number from 0 to 0.9"),
        (test_sdp, (*TILES, "--resume", "--overwrite"), "--resume goes on with what --overwrite replaces"),
    ],
)
def test_options_that_would_do_nothing_are_refused(program, more, said, capsys):
    needed = {test_sdp: ["--dataset", "demo"], predict: ["a.png"]}
    needed[train_sdp_plus] = ["--train_dataset", "demo", "--save_path", "a"]
    with pytest.raises(SystemExit):
        program.main([*needed[program], *more])
    assert said in capsys.readouterr().err


def test_predictions_are_those_of_the_evaluation(sheets, model, tmp_path):
    test_sdp.main(options(sheets, model, tmp_path / "a", *TILES, "--save_maps", "--obj_name", "sheet"))
    normal = tmp_path / "normal"
    for i, shape in enumerate([*SHAPES, *SHAPES]):
        small_data.write(normal / f"{i}.png", np.random.default_rng(i + 9).integers(60, 120, (*shape, 3), np.uint8))
    common = [str(sheets / "sheet" / "test"), "--object", "sheet", "--num_workers", "0", *model, *TILES]
    common += ["--cache_dir", str(tmp_path / "cache"), "--save_maps", "--save_masks"]
    assert predict.main([*common, "--save_path", str(tmp_path / "b"), "--normal_dir", str(normal)]) == 0
    own, other = maps(tmp_path / "b"), maps(tmp_path / "a")
    assert len(own) == 6
    for name, found in own.items():
        assert relative_error(found, other[f"sheet/test/{name}"]) < ROUNDING
        assert cv2.imread(str(tmp_path / "b" / "overlays" / f"{name}.png")).shape[:2] == found.shape
        assert cv2.imread(str(tmp_path / "b" / "masks" / f"{name}.png")).shape[:2] == found.shape
    settings = json.loads((tmp_path / "b" / "predict.json").read_text())
    assert [settings[key] for key in ("tile", "overlap", "tile_scale", "tile_context")] == [96, 0.25, 1.0, True]
    assert "by tiles of 96 px" in (tmp_path / "b" / "report.html").read_text()
    calibrated = ["--calibration", str(tmp_path / "b" / "calibration.json")]
    assert predict.main([*common, "--save_path", str(tmp_path / "c"), *calibrated]) == 0
    assert rows(tmp_path / "c").keys() == rows(tmp_path / "b").keys()
    with pytest.raises(UserError, match=r"calibration\.json was made with overlap 0\.25, and this run has 0\.5"):
        predict.main([*common, "--save_path", str(tmp_path / "d"), *calibrated, "--overlap", "0.5"])
    with pytest.raises(UserError, match=r"predict\.json has tile 96, and this run has 64"):
        predict.main([*common, "--save_path", str(tmp_path / "c"), "--tile", "64", "--resume", "--threshold", "1"])


def test_a_picture_beyond_max_pixels_is_refused_in_one_sentence(sheets, model, tmp_path):
    common = ["--object", "sheet", "--num_workers", "0", *model, "--cache_dir", str(tmp_path / "cache")]
    photographs = [str(sheets / "sheet" / "test" / "good" / f"00{i}.png") for i in range(3)]
    assert predict.main([*photographs, *common, *TILES, "--save_path", str(tmp_path), "--max_pixels", "30000"]) == 1
    said = f"cannot read the image {photographs[0]}: it has 220 x 150 pixels, more than --max_pixels 30000"
    log = (tmp_path / "predict.log").read_text().splitlines()
    assert [line.partition(" WARNING ")[2] for line in log if " WARNING " in line] == [said]
