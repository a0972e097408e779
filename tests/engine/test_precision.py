"""Reduced precision and compilation give the maps of float32, but for rounding."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import logit
from scipy.stats import spearmanr

import test_dp_clip
import test_sdp
import test_sdp_plus
from datasets.image_set import ImageSet
from datasets.loader import Batch
from datasets.meta import Entry
from datasets.registry import get_spec
from engine.dp_clip_training import DPClipTraining
from engine.sdp_plus_training import SDPPlusTraining
from engine.tokens import TokenBatch, encode_patch_tokens
from engine.training_options import DPClipTrainingOptions, SDPPlusTrainingOptions
from models.dp_clip import DPClip
from models.fidelity import Fidelity
from models.sdp import IMAGE_TEMPERATURE, SDP, adapters_for
from tests import left_behind, tiny_adapter, tiny_clip
from tests.compare import ROUNDING, relative_error
from tests.left_behind import results
from utils.errors import run

METHODS = {"sdp": test_sdp.main, "sdp_plus": test_sdp_plus.main, "dp_clip": test_dp_clip.main}
CLASSES = ("a", "b")
IMAGES = [ImageSet(get_spec("folder"), Path(), [Entry(name, "", name, "", 1) for name in CLASSES])]


@pytest.fixture(scope="module")
def checkpoints(real_data, tmp_path_factory) -> dict[str, list[str]]:
    """The options of each method's checkpoint, trained for an epoch on real photographs."""
    own = ("--train_dataset", "folder", "--model", "demo")
    return left_behind.checkpoints(tmp_path_factory.mktemp("trained"), real_data / "hazelnut_toy", *own)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_ranks_the_pixels_of_real_images_as_float32_does(real_data, checkpoints, tmp_path, method):
    data = ["--dataset", "folder", "--data_path", str(real_data / "hazelnut_toy"), "--num_workers", "0"]
    for precision in ("fp32", "bf16"):
        out = ["--save_maps", "--save_path", str(tmp_path / precision), "--cache_dir", str(tmp_path / "cache")]
        METHODS[method]([*data, "--model", "demo", *checkpoints[method], "--precision", precision, *out])
    exact, reduced = (next((tmp_path / precision).rglob("maps")) for precision in ("fp32", "bf16"))
    paths = sorted(exact.rglob("*.npy"))
    assert len(paths) == 23
    for path in paths:
        one, other = np.load(path).ravel(), np.load(reduced / path.relative_to(exact)).ravel()
        assert not np.array_equal(one, other)
        assert spearmanr(one, other).statistic > 0.999, path
    for key in ("auroc_px", "f1_px", "ap_px", "aupro"):
        reduced_mean, exact_mean = (results(tmp_path / precision)["mean"][key] for precision in ("bf16", "fp32"))
        assert reduced_mean == pytest.approx(exact_mean, abs=0.01), key
    # Image scores of surfaces that the model does not know lie near each other, so that their ranks say little. A
    # cosine of unit vectors in bfloat16, of 8 bits, is off by up to 2^-8; SDP's logits are cosines times 100.
    exact, reduced = (probabilities(tmp_path / precision) for precision in ("fp32", "bf16"))
    difference = exact - reduced if method == "dp_clip" else (logit(exact) - logit(reduced)) / IMAGE_TEMPERATURE
    assert np.abs(difference).max() < 2**-8


def probabilities(folder: Path) -> np.ndarray:
    """What the text says of a run's images, [n]."""
    return np.array([float(row["text_prob"]) for row in left_behind.table(folder / "scores.csv")])


@pytest.fixture
def compiled(backbone, monkeypatch):
    """A backbone whose tower is traced whole as for compilation, without the minutes that making machine code takes."""
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    yield replace(backbone, compile=True)
    torch.compiler.reset()


def random_text(backbone) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    width = backbone.clip.visual.proj.shape[1]
    return {name: F.normalize(torch.randn(width, 2, generator=generator), dim=0) for name in CLASSES}


@pytest.mark.parametrize("name", ["released", "corrected"])
def test_a_compiled_tower_gives_sdp_plus_the_same_maps(backbone, compiled, name):
    adapters, fidelity, text = adapters_for(backbone), Fidelity.named(name), random_text(backbone)
    one, other = (
        SDP(tower, text, fidelity, 2.0, adapters).predict(tiny_clip.images(), CLASSES) for tower in (backbone, compiled)
    )
    assert relative_error(other.maps, one.maps) < ROUNDING
    assert relative_error(other.text_prob, one.text_prob) < ROUNDING


def test_a_compiled_tower_gives_dp_clip_the_same_maps_and_gradients(backbone, compiled):
    adapter, text = tiny_adapter.load(backbone), random_text(backbone)
    one, other = (
        DPClip(tower, adapter, text, "industrial").predict(tiny_clip.images(), CLASSES)
        for tower in (backbone, compiled)
    )
    assert relative_error(other.maps, one.maps) < ROUNDING
    settings = DPClipTrainingOptions(train_dataset=("folder",), save_path=Path(), milestones=())
    batch = Batch(tiny_clip.images(), tiny_clip.masks(), torch.ones(2, dtype=torch.bool), torch.arange(2))
    gradients = []
    for tower in (backbone, compiled):
        training = DPClipTraining(
            options=settings,
            backbone=tower,
            fidelity=Fidelity.named("released", "dp_clip"),
            images=IMAGES,
            text=torch.stack(list(text.values())),
            trained=adapter,
            fingerprints={},
        )
        adapter.zero_grad()
        training.forward_backward(batch, 1.0, 1.0)
        gradients.append({key: value.grad.clone() for key, value in adapter.named_parameters()})
    for key, gradient in gradients[0].items():
        assert relative_error(gradients[1][key], gradient) < 1e-4, key


def test_a_compiled_step_gives_sdp_plus_the_same_loss_and_gradients(backbone, compiled):
    images, fidelity, adapters = tiny_clip.images(), Fidelity.named("released"), adapters_for(backbone)
    tokens = encode_patch_tokens(backbone, images, fidelity).transpose(0, 1).clone()
    batch, text = TokenBatch(tokens, tiny_clip.masks(), [0, 1]), torch.stack(list(random_text(backbone).values()))
    settings = SDPPlusTrainingOptions(train_dataset=("folder",), save_path=Path())
    common = {"options": settings, "fidelity": fidelity, "images": IMAGES, "text": text, "fingerprints": {}}
    losses, gradients = [], []
    for tower in (backbone, compiled):
        adapters.zero_grad()
        losses.append(SDPPlusTraining(backbone=tower, trained=adapters, **common).forward_backward(batch, 1.0, 1.0))
        gradients.append({key: value.grad.clone() for key, value in adapters.named_parameters()})
    assert losses[1]["loss"] == pytest.approx(losses[0]["loss"], rel=ROUNDING)
    for key, gradient in gradients[0].items():
        assert relative_error(gradients[1][key], gradient) < 1e-4, key


def test_a_compiler_that_fails_is_said_in_one_sentence(capsys):
    def main() -> None:
        raise torch._inductor.exc.InvalidCxxCompiler

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: --compile does not work here, go on without it: ")
