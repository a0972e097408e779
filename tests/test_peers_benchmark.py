"""The comparison with anomalib, but for what needs anomalib: what both are given, our side of it, and the tables."""

import json
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import one_peer
import open_clip
import peers
import pytest
import torch
from PIL import Image

from engine.detector import Detector
from tests import tiny_clip
from tests.plain_measures import plain_pro, plain_ranking
from utils.errors import UserError


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    folder = tmp_path / "demo" / peers.PHRASE / "test" / "good"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return paths


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> str:
    """The config of the tiny CLIP, which then stands in the place of open_clip's models."""
    monkeypatch.setattr("peers.random_clip", lambda _: open_clip.CLIP(**tiny_clip.config()))
    return str(tiny_clip.save(tmp_path)[0])


def test_our_side_predicts_from_the_files_what_a_detector_does_from_the_pictures(pictures, tiny, tmp_path):
    peers.prepare(tmp_path, pictures, tiny, maps=4, size=32)
    inputs = json.loads((tmp_path / "inputs.json").read_text())
    maps = one_peer.our_model(**inputs)(torch.from_numpy(np.load(tmp_path / "images.npy"))).maps
    given = {"object": inputs["phrase"], "backbone": tiny, "pretrained": inputs["weights"]}
    expected = [one.prediction.anomaly_map for one in Detector("sdp", cache_dir=tmp_path, **given)(pictures)]
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)
    said = json.loads(json.dumps(one_peer.main("ours", "predict", tmp_path, time.time(), 2)))
    assert all(value > 0 for value in (*said["set-up"], *said["task"]))
    assert said["packages"]["torch"] == torch.__version__.split("+")[0]


def test_our_side_measures_the_maps_in_the_files(pictures, tiny, tmp_path):
    peers.prepare(tmp_path, pictures, tiny, maps=6, size=32)
    maps, masks = (np.load(tmp_path / f"{name}.npy") for name in ("maps", "masks"))
    auroc, _, f1 = plain_ranking(masks.ravel(), maps.ravel())
    image_auroc, _, image_f1 = plain_ranking(masks.any((1, 2)), maps.max((1, 2)))
    said = json.loads(json.dumps(one_peer.main("ours", "measure", tmp_path, 0.0)))
    expected = {"pixel AUROC": auroc, "pixel F1-max": f1, "PRO": plain_pro(maps, masks)}
    expected |= {"image AUROC": image_auroc, "image F1-max": image_f1}
    assert dict(zip(one_peer.VALUES, said["values"], strict=True)) == pytest.approx(expected, abs=1e-9)
    assert all(value > 0 for value in said["task"])


def test_the_tables_hold_medians_of_the_rounds_and_the_largest_difference(pictures, tmp_path, monkeypatch, capsys):
    asked = []

    def answer(program, task, folder, began, *size):
        asked.append((program, task, *size))
        times = 2 if program == "anomalib" else 1
        said = {"packages": {}, "threads": 1, "set-up": [9.0, times * 8.0, 100.0], "each": [0.5] * 5}
        return said | {"task": [times, times * len(asked), times * 200.0], "values": [0.5, 0.5, 0.5 + times / 8, 1, 1]}

    monkeypatch.setattr("peers.PROGRAMS", dict.fromkeys(peers.PROGRAMS, Path(sys.executable)))
    monkeypatch.setattr("peers.ask", answer)
    monkeypatch.setattr("peers.in_own_process", lambda *_: None)
    given = {"data_path": str(tmp_path / "demo"), "folder": tmp_path, "model": "tiny", "maps": 4, "size": 32}
    peers.main(Namespace(**given, images=2, batch_size=[1, 8], repeats=3))
    both = [(program, *task) for task in (("predict", 1), ("predict", 8), ("measure",)) for program in peers.PROGRAMS]
    assert asked == both * 3
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (set_up,) = (line for line in lines if line[:1] == ["set-up"])
    assert set_up == ["set-up", "9.000", "8.000", "100", "9.000", "16.000", "100", "2.0", "1.00"]
    (first,) = (line for line in lines if line[-10:-8] == ["batch", "1"])
    assert first[-8:] == ["1.000", "7.000", "200", "2.000", "16.000", "400", "2.3", "2.00"]  # of runs 7 and 8 of 18
    assert lines[-1] == ["largest", "difference:", "1.2e-01"]


def test_without_anomalibs_environment_one_sentence_says_what_makes_it(tmp_path, monkeypatch):
    monkeypatch.setitem(peers.PROGRAMS, "anomalib", tmp_path / "python")
    with pytest.raises(UserError, match=r"run bash benchmarks/peers\.sh"):
        peers.main(Namespace())
