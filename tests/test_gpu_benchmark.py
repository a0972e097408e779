"""The benchmark of CUDA devices, on the CPU with the demonstration model."""

import subprocess
import sys
from functools import partial

import gpu
import pytest
import torch

from models.backbone import load_backbone
from models.fidelity import Fidelity
from models.presets import PRESETS
from tests.scripts import PROJECT


@pytest.fixture
def uncompiled(monkeypatch):
    """Compilation that only traces, without the minutes that making machine code takes."""
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="aot_eager"))
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
    torch.compiler.reset()


def test_every_way_is_measured_beside_open_clips_own(uncompiled):
    demo = PRESETS["demo"]
    settings = {"model": demo.model, "pretrained": demo.pretrained, "image_size": 64, "features_list": None}
    load = partial(load_backbone, **settings, fidelity=Fidelity.named("corrected"), device=torch.device("cpu"))
    rows = gpu.measure_all(load, torch.randn(2, 3, 64, 64), repeats=1)
    methods = ["open_clip's encode_image", "SDP", "SDP+", "DP-CLIP"]
    expected = [
        (method, arithmetic, compiled)
        for arithmetic in ("fp32", "tf32", "bf16")
        for compiled in (False, True)
        for method in methods
    ]
    assert [row[:3] for row in rows] == expected
    assert all(rate > 0 and share > 0 and peak > 0 for *_, rate, share, peak in rows)
    assert [share for method, *_, share, _ in rows if method == methods[0]] == [1.0] * 6
    assert all(len(row) == len(gpu.HEADERS) for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_one_sentence_says_so():
    done = subprocess.run(
        [sys.executable, PROJECT / "benchmarks" / "gpu.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: benchmarks/gpu.py measures a CUDA device, and PyTorch finds none here\n"
