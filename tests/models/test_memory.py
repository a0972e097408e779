"""The memory of normal images against its definition written out, image by image and token by token."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.calibration import Calibration
from models import memory
from models.dp_clip import DPClip, encode_adapted
from models.dual_path import encode_dual_path
from models.fidelity import Fidelity
from models.memory import MemoryDetector, NormalMemory, coreset, digest_of_image, distances, remember
from models.sdp import SDP, adapters_for
from tests import tiny_adapter, tiny_clip
from tests.compare import ROUNDING, relative_error
from utils.evaluation_types import Prediction

CORRECTED = Fidelity.named("corrected")


def unit(*shape: int, seed: int = 0) -> Tensor:
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).float()


def remembered(detector, images: Tensor, of: int | None = None) -> NormalMemory:
    tokens = remember(detector, images, ["nut"] * len(images), of=of or len(images))
    return NormalMemory([torch.stack(tap) for tap in zip(*tokens, strict=True)], [*map(digest_of_image, images)])


def plain_distance(tokens: Tensor, kept: Tensor) -> np.ndarray:
    """Distance of each of [N, C] to the nearest of [M, C], in float64."""
    x, y = (np.asarray(values, np.float64) for values in (tokens, kept))
    x, y = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (x, y))
    return np.array([min(1 - a @ b for b in y) for a in x])


@pytest.mark.parametrize("count", [1, 2, 7, 40, 50])
def test_a_coreset_is_the_greedy_k_centre_written_out(count):
    tokens = unit(40, 8)
    points = tokens.double().numpy()
    chosen = [int(np.argmax(points @ points.mean(0)))]
    while len(chosen) < min(count, 40):
        gaps = [min(1 - point @ points[i] for i in chosen) for point in points]
        chosen.append(int(np.argmax([gap if i not in chosen else -1 for i, gap in enumerate(gaps)])))
    expected = tokens if count >= 40 else tokens[chosen]
    assert torch.equal(coreset(tokens, count), expected)


def test_a_coreset_is_kept_where_there_are_too_many_tokens(backbone, monkeypatch):
    detector = sdp(backbone)
    images = tiny_clip.images(3)
    assert remembered(detector, images).record["tokens"] == 144
    monkeypatch.setattr(memory, "MOST_TOKENS", 60)
    few = remembered(detector, images)
    assert few.record["tokens"] == 20
    assert few.tokens[0].shape == (3, 20, 128)
    alone = remembered(detector, images[1:2], of=3)
    for tap, own in zip(few.tokens, alone.tokens, strict=True):  # an image's part does not depend on the others
        assert relative_error(tap[1], own[0]) < ROUNDING


@pytest.mark.parametrize("at_once", [1, 100, 1 << 26])
def test_distances_are_those_to_the_nearest_token(at_once, monkeypatch):
    monkeypatch.setattr(memory, "AT_ONCE", at_once)
    tokens, kept = unit(2, 9, 8), unit(5, 3, 8, seed=1)
    found = distances(tokens, kept)
    for b in range(2):
        for r in range(5):
            np.testing.assert_allclose(found[b, :, r], plain_distance(tokens[b], kept[r]), rtol=0, atol=1e-6)


def sdp(backbone, adapters=None) -> SDP:
    return SDP(backbone, {"nut": unit(2, 64).T.contiguous()}, CORRECTED, 2.0, adapters)


def dp_clip(backbone) -> DPClip:
    adapter = tiny_adapter.load(backbone, grn_over_batch=False)
    return DPClip(backbone, adapter, {"nut": unit(2, 64).T.contiguous()}, "industrial")


def original_tokens(detector, image: Tensor) -> list[Tensor]:
    """The taps' patch tokens of one image, each [N, C], from the encoders alone."""
    backbone, visual = detector.backbone, detector.backbone.clip.visual
    with torch.inference_mode():
        if isinstance(detector, DPClip):
            return [tap[0] for tap in encode_adapted(visual, detector.adapter, image[None]).tokens]
        taps = encode_dual_path(visual, image[None], backbone.features_list, shared_buffers=False, with_surgery=False)
        return [tap.ori[0, 1:] for tap in taps]


@pytest.mark.parametrize("method", ["sdp", "sdp_plus", "dp_clip"])
def test_maps_are_the_methods_own_and_the_distance_to_other_images(backbone, method):
    """Of a new image that to all that are remembered, of a remembered one that to the others."""
    made = {"sdp": sdp, "sdp_plus": lambda tower: sdp(tower, adapters_for(tower)), "dp_clip": dp_clip}
    detector, images = made[method](backbone), tiny_clip.images(4)
    normal, weight = images[:3], {"sdp": 2, "sdp_plus": 2, "dp_clip": 200}[method]
    found = MemoryDetector(detector, remembered(detector, normal)).predict(images, ["nut"] * 4)
    own = detector.predict(images, ["nut"] * 4)
    assert relative_error(found.text_prob, own.text_prob) < ROUNDING
    tokens = [original_tokens(detector, image) for image in images]
    for i in range(4):
        others = [j for j in range(3) if j != i]
        taps = [plain_distance(tokens[i][t], torch.cat([tokens[j][t] for j in others])) for t in range(4)]
        upsampling = detector.smooth_upsampling.double().numpy()
        added = weight * upsampling @ np.mean(taps, axis=0).reshape(12, 12) @ upsampling.T
        assert added.max() > 0.01
        assert relative_error(found.maps[i], own.maps[i].double().numpy() + added) < ROUNDING


@dataclass(eq=False)
class Plain:
    """A detector whose tokens are the image's pixels."""

    smooth_upsampling: Tensor
    memory_weight: float = 1.0

    def predict(self, images: Tensor, class_names, *, with_tokens: bool = False) -> Prediction:
        size = images.shape[-1]
        tokens = [images.flatten(2).transpose(1, 2)] * 2 if with_tokens else None  # [B, N, 3]
        return Prediction(torch.zeros(len(images), size, size), images.mean((1, 2, 3)), tokens)


@pytest.mark.parametrize("most", [9 * 12, 24])
@pytest.mark.parametrize("rate", [0.2, 0.35])
def test_leaving_an_image_out_of_its_own_memory_keeps_the_promise(rate, most, monkeypatch):
    """Every image in turn stands apart from the rest, which are remembered and calibrated on."""
    monkeypatch.setattr(memory, "MOST_TOKENS", most)
    detector = Plain(torch.eye(3))
    for seed in range(5):
        images = torch.from_numpy(np.random.default_rng(seed).normal(size=(13, 3, 3, 3))).float()
        alarms = 0
        for apart in range(13):
            rest = images[[i for i in range(13) if i != apart]]
            comparing = MemoryDetector(detector, remembered(detector, rest))
            normal, one = (comparing.predict(batch, ["nut"] * len(batch)) for batch in (rest, images[apart][None]))
            made = Calibration(normal.text_prob.tolist(), normal.maps.amax((1, 2)).tolist(), rate, {})
            assert made.promised_rate == rate
            alarms += made.score(one.text_prob.item(), one.maps.max().item()) > 0
        assert alarms <= rate * 13
