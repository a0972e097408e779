"""SDP+ against the released code's numbers, and against the definition written out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.dual_path import encode_dual_path
from models.fidelity import Fidelity
from models.losses import dice_loss, focal_loss
from models.sdp import SDP, LinearAdapters, adapter_upsampling, anomalous_probabilities, training_loss
from tests import tiny_clip
from tests.compare import ROUNDING, relative_error

CLASSES = ["bottle", "metal_nut"]
RELEASED = Fidelity.named("released")


@pytest.fixture
def adapters(backbone) -> LinearAdapters:
    return tiny_clip.linear_adapters(backbone)


@pytest.fixture
def text(golden) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(golden[f"text_mean_mvtec_{name}"]) for name in CLASSES}


def patch_tokens(backbone, images) -> list[torch.Tensor]:
    with torch.no_grad():
        taps = encode_dual_path(
            backbone.clip.visual, images, backbone.features_list, shared_buffers=True, with_surgery=False
        )
    return [tap.ori[:, 1:] for tap in taps]


@pytest.mark.parametrize("smoothing, key", [(0, "sdp_plus_map_unsmoothed"), (8, "sdp_plus_map")])
def test_maps_meet_the_goldens(backbone, golden, text, adapters, smoothing, key):
    detector = SDP(backbone, text, RELEASED, smoothing, adapters)
    prediction = detector.predict(tiny_clip.images(), CLASSES)
    assert relative_error(prediction.maps, golden[key]) < ROUNDING
    assert relative_error(prediction.text_prob, golden["sdp_text_prob"]) < ROUNDING


def test_five_training_steps_meet_the_goldens(backbone, golden, text, adapters):
    tokens = patch_tokens(backbone, tiny_clip.images())
    both = torch.stack([text[name] for name in CLASSES])
    optimizer = torch.optim.Adam(adapters.parameters(), lr=1e-4)
    steps = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = training_loss(adapters(tokens, both), tiny_clip.masks(), adapter_upsampling(backbone))
        loss.backward()
        norms = [parameter.grad.norm() for parameter in adapters.parameters()]
        steps.append([loss.item(), torch.stack(norms).norm().item()])
        optimizer.step()
    assert relative_error(np.array(steps)[:, 0], golden["sdp_plus_train_loss_gradnorm"][:, 0]) < ROUNDING
    assert relative_error(np.array(steps)[:, 1], golden["sdp_plus_train_loss_gradnorm"][:, 1]) < ROUNDING


def test_probabilities_are_those_of_the_softmax_written_out(backbone, text, adapters):
    tokens = patch_tokens(backbone, tiny_clip.images())
    both = torch.stack([text[name] for name in CLASSES])
    with torch.no_grad():
        probabilities = anomalous_probabilities(adapters(tokens, both), adapter_upsampling(backbone))
        for layer, x, probability in zip(adapters.fc, tokens, probabilities, strict=True):
            embedded = F.linear(x.double(), layer.weight.double(), layer.bias.double())
            logits = 100 * F.normalize(embedded, dim=-1) @ both.double()  # [B, N, 2]
            image = logits.transpose(1, 2).unflatten(2, (12, 12))
            pixels = F.interpolate(image, size=96, mode="bilinear", align_corners=True)
            assert relative_error(probability, pixels.softmax(dim=1)[:, 1]) < ROUNDING


def test_losses_are_those_of_two_columns_written_out():
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(3, 2, 8, 8, generator=generator).softmax(dim=1)
    mask = torch.rand(3, 8, 8, generator=generator) < 0.3
    mask[1] = False
    one_hot = torch.stack([~mask, mask], dim=1).float().clamp(1e-5, 1 - 1e-5)
    pt = (one_hot * columns).sum(dim=1) + 1e-5
    assert torch.allclose(focal_loss(columns[:, 1], mask), (-((1 - pt) ** 2) * pt.log()).mean(), rtol=1e-6)
    dice = [
        1 - (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1) for p, m in zip(columns[:, 1], mask.float(), strict=True)
    ]
    assert torch.allclose(dice_loss(columns[:, 1], mask), torch.stack(dice).mean(), rtol=1e-6)


@pytest.mark.parametrize("features_list", [(2, 4, 6, 8), (3,), (7,), (8,)])
@pytest.mark.parametrize("shared_buffers", [True, False])
def test_leaving_out_the_surgery_path_changes_nothing_else(backbone, features_list, shared_buffers):
    arguments = (backbone.clip.visual, tiny_clip.images(), features_list)
    with torch.no_grad():
        both = encode_dual_path(*arguments, shared_buffers=shared_buffers)
        one = encode_dual_path(*arguments, shared_buffers=shared_buffers, with_surgery=False)
    for a, b in zip(both, one, strict=True):
        assert b.surgery is None
        assert torch.equal(a.ori, b.ori)
