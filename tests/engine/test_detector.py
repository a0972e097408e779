"""The detector for Python: what predict.py finds, on the demonstration model; saved, loaded, and refused by reason."""

import importlib
import json
import logging
import random
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import predict
from engine.detector import Detector, Result
from models.presets import PRESETS
from tests import small_data
from tests.datasets.test_images import turned
from tests.random_weights import save_random_adapters
from utils.errors import UserError

METHODS = ("sdp", "sdp_plus", "dp_clip")
TILES = {"tile": 64, "overlap": 0.5, "tile_scale": 0.75, "tile_context": False}


@pytest.fixture(scope="module")
def washers(tmp_path_factory) -> Path:
    """Twelve normal washers and four others, of 128 x 100 pixels."""
    return small_data.draw_washers(tmp_path_factory.mktemp("washers"), good=12, broken=2, spot=2)


@pytest.fixture(scope="module")
def checkpoints(cache, tmp_path_factory) -> dict[str, Path | None]:
    """Method -> a checkpoint for the demonstration model, of random adapters."""
    folder, backbone = tmp_path_factory.mktemp("checkpoints"), Detector("sdp", **demo(cache)).predictor.backbone
    trained = {method: save_random_adapters(method, backbone, folder / f"{method}.pth") for method in METHODS[1:]}
    return {"sdp": None, **trained}


@pytest.fixture
def no_logs(monkeypatch) -> None:
    """Take away where logs go to that an entry point left in this process."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def demo(cache: Path, **options: Any) -> dict[str, Any]:
    return {"object": "washer", "backbone": "demo", "device": "cpu", "cache_dir": cache} | options


def words_of(options: dict[str, Any]) -> list[str]:
    """Options as a command line has them."""
    return [f"--no-{name}" if value is False else f"--{name}={value}" for name, value in options.items()]


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def fields(result: Result) -> dict[str, Any]:
    return {name: value for name, value in vars(result).items() if name not in ("prediction", "scale", "map")}


def same(first: list[Result], second: list[Result]) -> bool:
    """Whether results agree to the last bit."""
    pairs = list(zip(first, second, strict=True))
    return all(fields(a) == fields(b) and np.array_equal(a.map, b.map) for a, b in pairs)


@pytest.mark.parametrize("way", ["whole", "tiles", "memory"])
@pytest.mark.parametrize("method", METHODS)
def test_results_are_those_of_predict(washers, checkpoints, cache, tmp_path, method, way):
    rate, tiles, memory = 0.5, TILES if way == "tiles" else {}, way == "memory"
    words = [washers, "--object", "washer", "--model", "demo", "--method", method, "--cache_dir", cache, "--save_maps"]
    words += ["--normal_dir", washers / "good", "--false_alarm_rate", rate, "--num_workers", 0, "--device", "cpu"]
    words += ["--checkpoint", checkpoints[method]] if checkpoints[method] else []
    words += [*words_of(tiles), *["--normal_memory"] * memory]
    assert predict.main([*map(str, words), "--save_path", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]

    detector = Detector(method, **demo(cache, checkpoint=checkpoints[method], **tiles))
    detector.calibrate(washers / "good", false_alarm_rate=rate, memory=memory)
    results = detector(washers)
    assert len(rows) == len(results) == 16
    assert sum(result.is_anomalous for result in results) > 0
    for row, result in zip(rows, results, strict=True):
        assert {name: row[name] for name in fields(result)} == fields(result)
        name = str(Path(row["image_path"]).relative_to(washers))
        saved_map = np.load(tmp_path / "maps" / f"{name}.npy")
        assert result.map.dtype == np.float32
        np.testing.assert_array_equal(result.map, cv2.resize(saved_map, (128, 100)))
        with Image.open(tmp_path / "overlays" / f"{name}.png") as overlay:
            np.testing.assert_array_equal(np.asarray(result.show()), np.asarray(overlay))


def test_a_memory_is_kept_where_another_fails_and_gone_after_a_calibration_without_one(washers, cache):
    detector = Detector("sdp", **demo(cache))
    plain = detector(washers)
    detector.calibrate(washers / "good", 0.25, memory=True)
    results = detector(washers)
    with pytest.raises(UserError, match="normal_images: 1 image, which is too few: give at least 2"):
        detector.calibrate(images(washers)[:1], memory=True)
    assert same(detector(washers), results)
    detector.calibrate(washers / "good", 0.25)
    assert [one.map_max for one in detector(washers)] == [one.map_max for one in plain]


def test_a_large_picture_is_shown_as_predict_shows_it(washers, cache, tmp_path):
    with Image.open(images(washers)[0]) as washer:
        washer.resize((1500, 200)).save(tmp_path / "large.png")
        washer.save(tmp_path / "small.png")
    words = [tmp_path, "--object", "washer", "--model", "demo", "--cache_dir", cache, "--num_workers", 0, "--tile", 512]
    assert predict.main([*map(str, words), "--device", "cpu", "--save_path", str(tmp_path / "out")]) == 0
    results = Detector("sdp", **demo(cache, tile=512))([tmp_path / "large.png", tmp_path / "small.png"])
    assert results[0].map.shape == (200, 1500)
    for name, result in zip(("large", "small"), results, strict=True):
        with Image.open(tmp_path / "out" / "overlays" / f"{name}.png.png") as overlay:
            np.testing.assert_array_equal(np.asarray(result.show()), np.asarray(overlay))


@pytest.mark.parametrize("tiles", [{}, TILES], ids=["whole", "tiles"])
def test_a_picture_of_too_many_pixels_is_refused_in_every_form(washers, cache, tiles):
    allowed, detector = (Detector("sdp", **demo(cache, max_pixels=count, **tiles)) for count in (12_800, 12_799))
    path = images(washers)[0]
    with Image.open(path) as unread, Image.open(path) as read:
        for picture in (path, str(path), unread, read.copy(), np.asarray(read)):
            assert allowed(picture).map_max
            said = "cannot read the image .*: it has 128 x 100 pixels, more than --max_pixels 12799"
            with pytest.raises(UserError, match=said):
                detector(picture)


def test_without_a_calibration_nothing_is_called_anomalous(washers, cache):
    detector = Detector("sdp", **demo(cache))
    result = detector(images(washers)[0])
    assert isinstance(result, Result)
    assert result.score == result.map_max
    assert (result.p_value, result.is_anomalous, result.regions) == (None, None, None)
    marked = Detector("sdp", **demo(cache, threshold=result.map_max - 1))(str(images(washers)[0]))
    assert marked.score == result.score
    assert marked.regions[0]["peak"] == result.map_max


def test_the_calibration_of_predict_can_be_taken(washers, cache, tmp_path):
    detector = Detector("sdp", **demo(cache))
    detector.calibrate(images(washers / "good"), false_alarm_rate=0.2)
    detector.calibration.save(tmp_path / "calibration.json")
    again = Detector("sdp", **demo(cache, calibration=tmp_path / "calibration.json"))
    assert same(detector(images(washers)), again(images(washers)))
    with pytest.raises(UserError, match=r"was made with smoothing 8\.0, and this run has 4\.0"):
        Detector("sdp", **demo(cache, calibration=tmp_path / "calibration.json", smoothing=4))


@pytest.mark.parametrize("kind", ["rgb", "turned", "alpha", "16 bits", "grey"])
def test_paths_pictures_and_arrays_give_the_same(washers, cache, tmp_path, kind):
    detector, path = Detector("sdp", **demo(cache)), tmp_path / "a.png"
    with Image.open(images(washers)[0]) as image:
        values = np.asarray(image)
    if kind == "16 bits":
        values = np.random.default_rng(0).integers(0, 65536, values.shape, dtype=np.uint16)
        assert cv2.imwrite(str(path), values[..., ::-1])
    elif kind == "turned":
        Image.fromarray(values).save(path, exif=turned(6))
        values = np.rot90(values, 3)
    else:
        values = {"rgb": values, "alpha": np.dstack([values, values[..., :1]]), "grey": values[..., 0]}[kind]
        Image.fromarray(values).save(path)
    with Image.open(path) as image:
        results = [detector(one) for one in (path, str(path), image, values)]
    assert results[0].map.shape == values.shape[:2]
    assert all(same([result], results[:1]) for result in results)


def test_a_list_is_predicted_in_batches(washers, cache, monkeypatch):
    paths = images(washers)[:5]
    detector = Detector("sdp", **demo(cache, batch_size=2))
    sizes, predict_batch = [], detector.predictor.detector.predict
    monkeypatch.setattr(
        detector.predictor.detector,
        "predict",
        lambda pictures, names: sizes.append(len(pictures)) or predict_batch(pictures, names),
    )
    results = detector(iter(paths))
    assert sizes == [2, 2, 1]
    assert [result.score for result in results] == pytest.approx([detector(path).score for path in paths], rel=1e-5)
    assert detector([]) == []
    assert [len(detector(folder)) for folder in (washers / "spot", str(washers / "spot"))] == [2, 2]


def test_a_result_shows_itself_on_one_scale_for_the_pictures_given_together(washers, cache):
    results = Detector("sdp", **demo(cache))(washers / "spot")
    assert results[0].scale == results[1].scale
    assert results[0].show().size == (128, 100)
    assert results[0]._repr_png_().startswith(b"\x89PNG")
    other = results[0].show(type(results[0].scale)(100, 101))  # on which nothing is coloured
    with Image.open(images(washers / "spot")[0]) as image:
        np.testing.assert_array_equal(np.asarray(other), np.asarray(image))
    assert "array" not in repr(results[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_detector_predicts_the_same(washers, checkpoints, cache, tmp_path, method):
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"normal": ["{}"], "anomalous": ["broken {}"], "templates": ["a photo of a {}."]}))
    own = {"intensity": "0,250", "prompts": prompts, "checkpoint": checkpoints[method] and tmp_path / "trained.pth"}
    own |= TILES if method == "sdp_plus" else {}
    if own["checkpoint"]:
        shutil.copy(checkpoints[method], own["checkpoint"])
    detector = Detector(method, **demo(cache, **own))
    plain = detector(washers)
    detector.save(tmp_path / "plain.safetensors")
    detector.calibrate(washers / "good", false_alarm_rate=0.25, memory=method == "dp_clip")
    judged = detector(washers)
    detector.save(tmp_path / "nuts" / "nut.safetensors")
    for path in (prompts, own["checkpoint"]):
        if path is not None:
            path.unlink()
    elsewhere = {"device": "cpu", "cache_dir": tmp_path / "elsewhere"}
    assert same(Detector(method, saved=tmp_path / "plain.safetensors", **elsewhere)(washers), plain)
    loaded = Detector(method, saved=str(tmp_path / "nuts" / "nut.safetensors"), **elsewhere)
    assert same(loaded(washers), judged)
    assert not (tmp_path / "elsewhere" / "text").exists()  # as the text features are in the file
    loaded.save(tmp_path / "again.safetensors")
    assert same(Detector(method, saved=tmp_path / "again.safetensors", **elsewhere)(washers), judged)
    assert method != "sdp" or (tmp_path / "again.safetensors").stat().st_size < 20_000


def test_a_threshold_is_saved_unless_a_calibration_brings_one(washers, cache, tmp_path):
    detector = Detector("sdp", **demo(cache, threshold=-3))
    detector.save(tmp_path / "a.safetensors")
    plain = {"cache_dir": cache, "device": "cpu"}
    assert same(
        [Detector("sdp", saved=tmp_path / "a.safetensors", **plain)(images(washers)[0])], [detector(images(washers)[0])]
    )
    detector.calibrate(washers / "good", 0.5)
    detector.save(tmp_path / "b.safetensors")
    assert Detector("sdp", saved=tmp_path / "b.safetensors", **plain).options.threshold is None
    detector.calibration.save(tmp_path / "calibration.json")
    calibrated = Detector("sdp", saved=tmp_path / "a.safetensors", calibration=tmp_path / "calibration.json", **plain)
    assert same([calibrated(images(washers)[0])], [detector(images(washers)[0])])


@pytest.fixture(scope="module")
def saved(washers, cache, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "washer.safetensors"
    detector = Detector("sdp", **demo(cache))
    detector.calibrate(washers / "good", 0.5)
    detector.save(path)
    return path


def test_weights_may_lie_elsewhere_but_must_be_the_same(saved, cache, washers, tmp_path):
    weights = Path(shutil.copy(PRESETS["demo"].pretrained, tmp_path / "copy.safetensors"))
    options = {"saved": saved, "pretrained": weights, "cache_dir": cache, "device": "cpu"}
    assert Detector("sdp", **options)(images(washers)[0]).p_value is not None
    state = load_file(weights)
    state["visual.proj"] = state["visual.proj"] * 1.001
    save_file(state, weights)
    with pytest.raises(
        UserError, match=rf"{saved} was made with weights_sha256 \w+, and this run has \w+: it "
    ) as caught:
        Detector("sdp", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"smoothing": 4}, r"was made with smoothing 8\.0, and this run has 4\.0"),
        ({"object": "nut"}, "was made with phrases washer, and this run has nut"),
        ({"precision": "bf16"}, "was made with precision fp32, and this run has bf16"),
        ({"prompts": "medical"}, "was made with prompts_sha256"),
        ({"image_size": 64}, "was made with image_size 128, and this run has 64"),
        ({"intensity": "0,100"}, "was made with intensity not given, and this run has 0.0 100.0"),
        ({"tile": 80}, "was made with tile not given, and this run has 80"),
        ({"checkpoint": "x.pth"}, "--method sdp takes no --checkpoint"),
        ({"threshold": 1}, "--threshold: .* has a calibration, which brings the threshold; leave it out"),
        ({"threshold": 1, "calibration": "c.json"}, "give --calibration or --threshold, not both"),
    ],
)
def test_a_saved_detector_is_not_made_another(saved, cache, options, message):
    with pytest.raises(UserError, match=message):
        Detector("sdp", saved=saved, **{"cache_dir": cache, "device": "cpu"} | options)


def test_a_saved_detector_is_loaded_as_its_method(saved):
    with pytest.raises(UserError, match="holds a detector of sdp: load it as that, not as sdp_plus"):
        Detector("sdp_plus", saved=saved)


def test_a_file_that_is_damaged_or_something_else_is_refused(saved, cache, checkpoints, tmp_path):
    content = saved.read_bytes()
    for at in range(9, len(content), max(1, len(content) // 60)):
        (tmp_path / "damaged.safetensors").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(UserError, match=r"damaged\.safetensors"):
            Detector("sdp", saved=tmp_path / "damaged.safetensors")
    others = {PRESETS["demo"].pretrained: "holds no saved detector", checkpoints["sdp_plus"]: "holds no saved detector"}
    for path, message in {**others, tmp_path / "none": "there is no"}.items():
        with pytest.raises(UserError, match=message):
            Detector("sdp", saved=path)


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("sdp", {"smooting": 3}, "there is no option 'smooting': choose from .*smoothing"),
        ("sdp", {"save_path": "x"}, "there is no option 'save_path'"),
        ("sdp", {"num_workers": 2}, "there is no option 'num_workers'"),
        ("sdp", {"smoothing": -1}, "argument --smoothing: '-1' is not a number from 0 to 1000"),
        ("sdp", {"image_size": 100}, "--image_size 100 is not a multiple of the patch size"),
        ("sdp", {"backbone": "no such"}, "--model no such: "),
        ("sdp", {"tile": 8}, "argument --tile: '8' is not a whole number from 16 to 32768"),
        ("sdp", {"tile_context": False}, "--tile_context goes with --tile"),
        ("sdp", {"device": "tpu"}, "--device tpu: not a device"),
        ("sdp", {"intensity": "auto"}, "--intensity auto needs all images at once: give full or LO,HI"),
        ("sdp", {"relu": True}, "--relu is not an option of --method sdp"),
        ("sdp", {"checkpoint": "x.pth"}, "--method sdp takes no --checkpoint"),
        ("sdp_plus", {}, "--method sdp_plus needs trained adapters"),
        ("clip", {}, "argument --method: invalid choice: 'clip'"),
    ],
)
def test_a_mistake_is_one_sentence(cache, no_logs, capfd, method, options, message):
    with pytest.raises(UserError, match=message) as caught:
        Detector(method, **demo(cache, **options))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_images_that_cannot_be_read_are_one_sentence(washers, cache, tmp_path):
    detector, good = Detector("sdp", **demo(cache)), images(washers)[0]
    (tmp_path / "text.png").write_text("no image")
    for given, message in {
        "gone.png": r"there is no image gone\.png",
        (good, tmp_path / "text.png"): r"text\.png is not an image",
        (good, torch.zeros(3, 8, 8)): "an array of NumPy, and not of type Tensor",
        7: "not of type int",
        tmp_path / "no.txt": "there is no image",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            detector(given)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="normal_images: 1 image, which is too few: give at least 2"):
        detector.calibrate([good, good])
    with pytest.raises(UserError, match="--normal_memory compares patches of whole images: leave out --tile"):
        Detector("sdp", **demo(cache, tile=64)).calibrate(washers / "good", memory=True)
    with pytest.raises(UserError, match="argument --false_alarm_rate: '2' is not"):
        detector.calibrate(washers / "good", false_alarm_rate=2)
    assert detector.calibration is None


def test_what_is_wrong_with_the_pictures_is_warned_of(washers, cache, warnings_of):
    detector, pictures = Detector("sdp", **demo(cache)), [np.zeros((9, 9), np.uint16), np.full((9, 9), 900, np.uint16)]
    detector(pictures)
    assert "images of 16 bits have values from 0 to 900, and 0 to 65535 are shown as black to white" in warnings_of()
    assert "give --intensity=0,1023" in warnings_of()  # not auto, which a detector refuses
    detector(pictures)
    assert warnings_of().count("16 bits") == 1
    detector.calibrate([*images(washers / "good")[:3], images(washers / "good")[0], "gone.png"])
    assert "left out of the calibration: there is no image gone.png" in warnings_of()
    assert "normal_images holds copies, which count once: 1 image" in warnings_of()
    assert "a false-alarm rate of 0.05 needs 39 normal images or more; with 3 no less than 50.0 %" in warnings_of()


def test_nothing_is_printed_and_no_setting_of_the_process_is_changed(washers, cache, no_logs, capfd):
    def settings() -> tuple:
        generators = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
        root = logging.getLogger()
        of_torch = torch.backends.cudnn.allow_tf32, torch.is_grad_enabled()
        return generators, (root.level, list(root.handlers)), of_torch, Image.MAX_IMAGE_PIXELS

    importlib.import_module("sklearn.neighbors")  # which draws from Python's generator where rich is installed
    before = settings()
    detector = Detector("sdp", **demo(cache, rep_vec="kde"))
    detector.calibrate(washers / "good", 0.5)
    detector(washers)[0].show()
    assert settings() == before
    assert capfd.readouterr() == ("", "")
