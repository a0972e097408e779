"""The guide's data set and method do what it says, run from the page itself."""

import json
import re
import textwrap
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

import data.build
import data.layouts
import engine.options
import engine.predicting
import engine.prediction_options
import engine.testing
from engine.detectors import METHODS
from tests import small_data
from utils.errors import UserError

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def guide() -> dict[str, object]:
    """What the code blocks of the guide define."""
    defined: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(textwrap.dedent(block), defined)
    return defined


def test_a_reader_and_an_entry_give_a_data_set_its_list(guide, tmp_path, monkeypatch):
    for name in ("sound/0.png", "sound/1.png", "faulty/2.png", "faulty/3.png"):
        small_data.write(tmp_path / name, np.full((40, 40, 3), 90, np.uint8))
    for name in ("masks/2_mask.png", "masks/3.png"):
        small_data.write(tmp_path / name, np.pad(np.full((8, 8), 255, np.uint8), 16))
    layouts = MappingProxyType({**data.layouts.LAYOUTS, "castings": guide["CASTINGS"]})
    monkeypatch.setattr(data.build, "LAYOUTS", layouts)
    meta = json.loads(data.build.build_meta(guide["SPEC"], tmp_path).read_text())
    entries = meta["test"]["casting"]
    assert [(entry["anomaly"], entry["mask_path"]) for entry in entries] == [
        (0, ""),
        (0, ""),
        (1, "masks/2_mask.png"),
        (1, "masks/3.png"),
    ]
    assert guide["SPEC"].phrase("casting") == "metal casting"


def test_one_entry_gives_a_method_everything_that_a_test_writes(guide, bolts, tmp_path, monkeypatch):
    monkeypatch.setattr(engine.testing, "METHODS", {**METHODS, "brightness": guide["brightness"]})
    options = engine.options.TestOptions(
        dataset=("mvtec",), data_path=(bolts,), model="demo", num_workers=0, save_path=tmp_path, save_maps=True
    )
    engine.testing.test(options, "brightness")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["method"] == "Brightness"
    assert results["mean"]["auroc_px"] > 0.99  # the defects are bright squares
    assert len(list((tmp_path / "maps").rglob("*.npy"))) == 10
    assert "Brightness on mvtec" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_method_without_text_features_is_not_one_to_predict_with(guide, monkeypatch):
    monkeypatch.setattr(engine.predicting, "METHODS", {**METHODS, "brightness": guide["brightness"]})
    options = engine.prediction_options.DetectorOptions(method="brightness", model="demo")
    with pytest.raises(UserError, match="--method brightness has no text features"):
        engine.predicting.Predictor(options)
