"""`export.py` as a user runs it, on the demonstration model, and what `predict.py` finds with what it wrote."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import export
import predict
from engine import installation
from engine.detector import Detector
from engine.exporting import TOLERANCE, verify
from engine.onnx_predictor import MAP, TEXT_PROB, OnnxDetector
from models import linear
from models.presets import PRESETS
from tests import small_data
from tests.compare import relative_error
from tests.random_weights import save_random_adapters
from tests.test_predict import table
from utils.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

METHODS = ("sdp", "sdp_plus", "dp_clip")
RUNTIMES = ("onnxruntime", "openvino")
TAPS = {"sdp": (4,), "sdp_plus": (2, 4), "dp_clip": (1, 2)}  # few, as an export takes long


@pytest.fixture(scope="module")
def washers(tmp_path_factory) -> Path:
    """Eight normal washers and three broken ones."""
    return small_data.draw_washers(tmp_path_factory.mktemp("washers"), good=8, broken=3)


@pytest.fixture(scope="module")
def options(cache, tmp_path_factory) -> dict[str, list[str]]:
    """Method -> what names its detector: SDP+ and DP-CLIP, in released fidelity, have random adapters."""
    folder = tmp_path_factory.mktemp("checkpoints")
    own = ["--object", "washer", "--model", "demo", "--cache_dir", str(cache)]
    words = {"sdp": ["--method", "sdp", "--features_list", *map(str, TAPS["sdp"]), *own]}
    for method, fidelity in (("sdp_plus", "corrected"), ("dp_clip", "released")):
        detector = Detector("sdp", backbone="demo", features_list=TAPS[method], device="cpu", cache_dir=cache)
        path = save_random_adapters(method, detector.predictor.backbone, folder / f"{method}.pth", fidelity)
        words[method] = ["--method", method, "--checkpoint", str(path), *own]
    return words


def run(*arguments: object) -> int:
    rate = ["--false_alarm_rate", "0.25"] if "--normal_dir" in arguments else []
    return predict.main([*map(str, arguments), "--num_workers", "0", *rate])


@pytest.fixture(scope="module")
def predicted(washers, options, tmp_path_factory) -> dict[str, Path]:
    """Method -> what PyTorch predicts, calibrated on the normal washers."""
    folders = {method: tmp_path_factory.mktemp(method) for method in METHODS}
    for method, folder in folders.items():
        words = (washers, "--normal_dir", washers / "good", "--save_maps", "--save_path", folder)
        assert run(*words, *options[method]) == 0
    return folders


@pytest.fixture(scope="module")
def exported(washers, options, predicted, cache, tmp_path_factory) -> dict[str, Path]:
    """Method -> its model: each takes images in another form, and SDP+'s is of a saved detector."""
    folder = tmp_path_factory.mktemp("exported")
    files = {method: folder / f"{method}.onnx" for method in METHODS}
    verified = ["--verify", str(washers)]
    sdp = ["--calibration", str(predicted["sdp"] / "calibration.json"), "--batch_size", "3"]
    assert export.main([*options["sdp"], *sdp, "--output", str(files["sdp"]), *verified]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "prefers_convolutions", lambda: True)
        given = dict(zip(options["sdp_plus"][::2], options["sdp_plus"][1::2], strict=True))
        given = {name.removeprefix("--"): value for name, value in given.items()}
        detector = Detector(given.pop("method"), backbone=given.pop("model"), device="cpu", **given)
        detector.calibrate(washers / "good", false_alarm_rate=0.25)
        detector.save(folder / "saved.safetensors")
        saved = ["--method", "sdp_plus", "--saved", str(folder / "saved.safetensors"), "--cache_dir", str(cache)]
        assert export.main([*saved, "--output", str(files["sdp_plus"]), "--input", "nchw", *verified]) == 0
    form = ["--input", "normalised", "--opset", "18"]
    assert export.main([*options["dp_clip"], "--output", str(files["dp_clip"]), *form, *verified]) == 0
    return files


def assert_agree(folder: Path, reference: Path) -> None:
    """Whether two predictions with maps are the same but for the rounding of another runtime."""
    rows, expected = table(folder), table(reference)
    assert [row["image_path"] for row in rows] == [row["image_path"] for row in expected]
    for name in {"text_prob", "map_max", "score"} & rows[0].keys():
        values = ([float(row[name]) for row in one] for one in (rows, expected))
        assert relative_error(*values) <= TOLERANCE
    for row, right in zip(rows, expected, strict=True):
        if "broken" in row["image_path"]:  # a normal one has its own score among those it is compared with
            verdicts = [[one.get(name) for name in ("p_value", "is_anomalous")] for one in (row, right)]
            assert verdicts[0] == verdicts[1]
    maps = sorted(path.relative_to(reference) for path in reference.rglob("*.npy"))
    values = [[np.load(one / path) for path in maps] for one in (folder, reference)]
    assert relative_error(*values) <= TOLERANCE


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("method", METHODS)
def test_a_runtime_finds_what_pytorch_finds(washers, predicted, exported, tmp_path, method, runtime):
    pytest.importorskip(runtime)
    own = () if method != "dp_clip" else ("--calibration", predicted[method] / "calibration.json")
    words = ("--runtime", runtime, "--onnx", exported[method], "--save_path", tmp_path, "--save_maps", "--save_masks")
    assert run(washers, *words, *own) == 0
    assert_agree(tmp_path, predicted[method])
    for name in (
        "report.html",
        "scores.jsonl",
        "calibration.json",
        "overlays/broken/00.png.png",
        "masks/good/00.png.png",
    ):
        assert (tmp_path / name).is_file()
    settings, before = (json.loads((one / "predict.json").read_text()) for one in (tmp_path, predicted[method]))
    assert (before.pop("runtime"), settings.pop("runtime")) == ("pytorch", runtime)
    assert runtime in settings["environment"]
    for name in before.keys() - {"environment", "colour_scale", "calibration"}:
        assert settings[name] == before[name], name


def test_tiles_go_with_a_runtime_too_but_not_another_ones_results(washers, options, exported, tmp_path):
    words = (washers / "broken", "--tile", 96, "--threshold", 0, "--save_maps")
    assert run(*words, *options["dp_clip"], "--save_path", tmp_path / "torch") == 0
    runtime = ("--runtime", "onnxruntime", "--onnx", exported["dp_clip"])
    assert run(*words, *runtime, "--save_path", tmp_path / "onnx") == 0
    assert_agree(tmp_path / "onnx", tmp_path / "torch")
    with pytest.raises(UserError, match="has runtime pytorch, and this run has onnxruntime"):
        run(*words, *runtime, "--save_path", tmp_path / "torch", "--resume")


def test_the_metadata_say_how_to_use_the_model(exported, predicted):
    model = onnx.load(exported["sdp"])
    said = {one.key: one.value for one in model.metadata_props}
    assert json.loads(said["class_names"]) == ["washer"]
    assert (said["method"], said["fidelity"], said["features_list"]) == ("sdp", "corrected", "[4]")
    assert (said["smoothing"], said["opset"]) == ("8.0", "20")
    assert said["weights_sha256"] == Detector("sdp", backbone="demo", device="cpu").predictor.backbone.weights.sha256
    preprocessing = json.loads(said["preprocessing"])
    assert (preprocessing["size"], preprocessing["colour_order"], preprocessing["layout"]) == (128, "RGB", "nhwc")
    assert preprocessing["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    calibration = json.loads((predicted["sdp"] / "calibration.json").read_text())
    for name in ("promised_rate", "text_threshold", "map_threshold", "pixel_threshold"):
        assert float(said[name]) == calibration[name]
    assert [one.version for one in model.opset_import if one.domain == ""] == [20]


def test_batches_are_of_any_size_unless_their_images_influence_each_other(exported):
    axes = {}
    for method, path in exported.items():
        shape = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
        axes[method] = [one.dim_param or one.dim_value for one in shape]
    assert axes == {"sdp": ["batch", 128, 128, 3], "sdp_plus": ["batch", 3, 128, 128], "dp_clip": [1, 3, 128, 128]}


def test_linear_layers_are_exported_as_products(exported):
    """Not as the convolutions that some processors run faster."""
    assert [node.op_type for node in onnx.load(exported["sdp_plus"]).graph.node].count("Conv") == 1


def test_a_model_that_differs_is_told(washers, options, exported, cache, capsys):
    other = Detector("sdp", backbone="demo", object="washer", device="cpu", cache_dir=cache, smoothing=4.0)
    dataset = other.predictor.dataset([washers / "broken" / "00.png"])
    model = OnnxDetector.load(exported["sdp"], "onnxruntime")
    nothing = replace(model, run=lambda images: {MAP: np.full((1, 128, 128), np.nan), TEXT_PROB: np.zeros(1)})
    for one in (model, nothing):
        assert verify(other.predictor, None, one, [dataset[0][1].image]) == 1
        assert "the exported model differs too much: do not use it" in capsys.readouterr().err


def flip(content: bytes) -> bytes:
    """Change one bit of a weight."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "is damaged: its content is another than was written; export it again"),
        (lambda content: content[: len(content) // 2], "this is no model that export.py wrote, or a part of one"),
        (lambda content: b"", "cannot be read, cannot mmap an empty file"),
        (lambda content: b"once upon a time", "this is no model that export.py wrote, or a part of one"),
        (None, "cannot be read, No such file or directory"),
    ],
    ids=["bit", "half", "empty", "text", "absent"],
)
def test_a_damaged_model_is_refused(washers, exported, tmp_path, damage: Callable[[bytes], bytes] | None, said):
    path = tmp_path / "model.onnx"
    if damage is not None:
        path.write_bytes(damage(exported["sdp"].read_bytes()))
    with pytest.raises(UserError, match=f"--onnx {path}.*{said}"):
        run(washers, "--runtime", "onnxruntime", "--onnx", path, "--save_path", tmp_path / "out")


@pytest.mark.parametrize(
    ("method", "words", "said"),
    [
        ("sdp", ["--threshold", "1"], "has a calibration, which brings the threshold; leave it out"),
        ("sdp", ["--tile", "64"], "was calibrated with tile not given, and this run has 64: calibrate again"),
        ("sdp", ["--intensity", "0,9"], "was calibrated with intensity not given, and this run has 0.0 9.0"),
        ("dp_clip", ["--save_masks"], "--save_masks needs what pixels are marked by"),
    ],
)
def test_a_calibration_that_does_not_fit_the_run(washers, exported, tmp_path, method, words, said):
    with pytest.raises(UserError, match=said):
        run(washers, "--runtime", "onnxruntime", "--onnx", exported[method], "--save_path", tmp_path, *words)


def test_an_intensity_that_a_model_was_not_exported_with_is_warned_of(washers, exported, tmp_path):
    words = ("--runtime", "onnxruntime", "--onnx", exported["dp_clip"])
    said = "dp_clip.onnx was exported with intensity not given, and this run has 0.0 200.0"
    for intensity, is_other in (("full", False), ("0,200", True)):
        out = tmp_path / intensity
        assert run(washers / "broken", *words, "--intensity", intensity, "--save_path", out) == 0
        for name in ("predict.log", "report.html"):
            assert (said in (out / name).read_text()) == is_other, name


def test_bf16_is_computed_or_refused(washers, predicted, exported, tmp_path):
    openvino = pytest.importorskip("openvino")
    words = ("--runtime", "openvino", "--onnx", exported["dp_clip"], "--precision", "bf16", "--save_path", tmp_path)
    try:
        assert run(washers, *words, "--save_maps") == 0
    except UserError as refusal:
        assert "--precision bf16: OpenVINO does not compute in it on this processor" in str(refusal)
        # Without the capability it may still compute so, as with AVX-512 but no BF16: the maps tell.
        assert "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return
    maps = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.npy"))
    values = [[np.load(one / path) for path in maps] for one in (tmp_path, predicted["dp_clip"])]
    assert TOLERANCE < relative_error(*values) < 0.1
    with pytest.raises(UserError, match="precision fp32, and this run has bf16"):
        run(washers, *words, "--calibration", predicted["dp_clip"] / "calibration.json", "--resume")


@pytest.mark.parametrize(
    ("module", "main", "words"),
    [
        ("onnxscript", export.main, ["--output", "nut.onnx", "--model", "demo"]),
        (
            "onnxruntime",
            export.main,
            ["--output", "nut.onnx", "--model", "demo", "--verify", str(PRESETS["demo"].model)],
        ),
        ("openvino", predict.main, [str(PRESETS["demo"].model), "--runtime", "openvino", "--onnx", "nut.onnx"]),
    ],
)
def test_a_package_that_is_missing_is_told(monkeypatch, tmp_path, module, main, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installation, "find_spec", lambda name: None if name == module else name)
    with pytest.raises(UserError, match=f"needs {module}: pip install -r requirements-extras.txt"):
        main(words)


def test_a_saved_detector_that_cannot_be_exported(cache, tmp_path):
    path = tmp_path / "saved.safetensors"
    Detector("sdp", backbone="demo", object="washer", cache_dir=cache, tile=64).save(path)
    with pytest.raises(UserError, match="was made with tiles, which cannot be exported: save it without"):
        export.main(["--saved", str(path), "--output", str(tmp_path / "model.onnx")])
    assert list(tmp_path.iterdir()) == [path]


def test_an_image_that_cannot_be_read_is_told_before_the_export(washers, options, tmp_path):
    broken = Path(shutil.copy(washers / "good" / "00.png", tmp_path / "broken.png"))
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(UserError, match=r"broken\.png"):
        export.main([*options["sdp"], "--output", str(tmp_path / "model.onnx"), "--verify", str(broken)])
    assert not (tmp_path / "model.onnx").exists()
