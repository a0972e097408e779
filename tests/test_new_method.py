"""A method of one's own: a detector, and an entry beside those that are there."""

import json
from collections.abc import Sequence

import numpy as np
from torch import Tensor

import engine.options
import engine.testing
from engine.detectors import METHODS, Entry, Method
from utils.evaluation_types import Prediction


class Brightness:
    """Calls anomalous what is bright."""

    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        return Prediction(maps=images.mean(dim=1), text_prob=None)

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        return map_max


def brightness() -> Method:
    return Method(
        name="Brightness",
        text_features=lambda options, backbone, phrases: {},
        detector=lambda options, backbone, fidelity, trained, text: Brightness(),
        record=lambda options, trained: {},
    )


def test_one_entry_gives_a_method_everything_that_a_test_writes(bolts, tmp_path, monkeypatch):
    monkeypatch.setattr(engine.testing, "METHODS", {**METHODS, "brightness": Entry(brightness)})
    options = engine.options.TestOptions(
        dataset=("mvtec",), data_path=(bolts,), model="demo", num_workers=0, save_path=tmp_path, save_maps=True
    )
    engine.testing.test(options, "brightness")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["method"] == "Brightness"
    assert results["mean"]["auroc_px"] > 0.99  # the defects are bright squares
    assert len(list((tmp_path / "maps").rglob("*.npy"))) == 10
    assert "Brightness on mvtec" in (tmp_path / "report.html").read_text(encoding="utf-8")
