"""The line below every table that says what its figures were made with, and of what share of the data set they are."""

import json
import re
from dataclasses import replace

import pytest

import engine.origin
import predict
import test_sdp
from engine.origin import DEMO_MODEL, is_demonstration
from models.presets import PRESETS
from tests import small_data
from utils.files import sha256_of

LINE = re.compile(
    r"made with demo, demo\.safetensors \(SHA-256 [0-9a-f]{8}\), 128 px, corrected fidelity, "
    r"prompts industrial \(SHA-256 [0-9a-f]{8}\); (.*); \d{4}-\d\d-\d\d, commit (not known|[0-9a-f]{9}\+?)"
)


@pytest.mark.parametrize(
    "dataset, classes, share, whole",
    [
        ("mvtec", [], "2 of 15 classes, 10 of 1725 images", False),
        ("folder", [], "2 of 2 classes, 10 of 10 images", True),
        ("folder", ["--classes", "nut"], "1 of 2 classes, 5 of 10 images", False),
        ("demo", [], "2 of 2 classes, 10 of 10 images", True),
    ],
)
def test_every_table_has_its_origin_below(tmp_path, dataset, classes, share, whole):
    data, out = small_data.make(tmp_path / "data"), tmp_path / "out"
    paths = ["--data_path", str(data), "--save_path", str(out), "--cache_dir", str(tmp_path / "cache")]
    test_sdp.main(["--dataset", dataset, *paths, "--model", "demo", "--num_workers", "0", *classes])
    results = json.loads((out / "results.json").read_text())
    assert results["whole_data_set"] is whole
    line, *notes = results["notes"]
    assert LINE.fullmatch(line)[1] == share
    assert notes == ([DEMO_MODEL] if dataset != "demo" else [])
    for name in ("results.md", "test.log", "report.html"):
        text = (out / name).read_text()
        assert line in text
        assert (DEMO_MODEL in text) == (dataset != "demo")
    assert f"- {dataset}: {line}" in (out / "summary.md").read_text()


def test_a_prediction_says_it_on_its_page(tmp_path):
    photographs = small_data.make(tmp_path / "data", ("bolt",)) / "bolt" / "test" / "good"
    out, cache = tmp_path / "out", ["--cache_dir", str(tmp_path / "cache")]
    predict.main([str(photographs), "--model", "demo", "--save_path", str(out), "--num_workers", "0", *cache])
    page = (out / "report.html").read_text()
    assert "made with demo, demo.safetensors" in page
    assert DEMO_MODEL in page
    assert DEMO_MODEL in (out / "predict.log").read_text()


def test_without_the_demonstration_weights_no_others_are_taken_for_them(tmp_path, monkeypatch):
    demo = PRESETS["demo"]
    digest = sha256_of(demo.pretrained)
    assert is_demonstration(digest)
    monkeypatch.setattr(engine.origin, "PRESETS", {"demo": replace(demo, pretrained=str(tmp_path / "gone"))})
    assert not is_demonstration(digest)
    assert not is_demonstration(None)
