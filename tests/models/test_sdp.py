"""SDP against the released code's numbers, and the corrected taps against a plain implementation."""

from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from models.anomaly_map import gaussian_matrix, resample, upsampling_matrix
from models.backbone import Backbone
from models.dual_path import Tap, attend, encode_dual_path
from models.fidelity import Fidelity
from models.prompts import read_prompts
from models.representative import RepVec, RepVecChoice
from models.sdp import SDP
from models.text import class_text_features
from tests import tiny_clip
from tests.compare import ROUNDING, relative_error
from tests.plain_sdp import plain_dual_path, plain_token_scores

CLASSES = ["bottle", "metal_nut"]
RELEASED, CORRECTED = Fidelity.named("released"), Fidelity.named("corrected")


def encode(backbone: Backbone, features_list=tiny_clip.FEATURES_LIST, images=None, **options) -> list[Tap]:
    images = tiny_clip.images() if images is None else images
    with torch.inference_mode():
        return encode_dual_path(backbone.clip.visual, images, features_list, **options)


def test_released_taps_meet_the_goldens(backbone, golden):
    for number, tap in zip(tiny_clip.FEATURES_LIST, encode(backbone, shared_buffers=True), strict=True):
        assert relative_error(tap.ori, golden[f"ori_{number}"]) < ROUNDING
        assert relative_error(tap.surgery, golden[f"surgery_{number}"]) < ROUNDING


TEXT_CASES = [(method, RepVecChoice(method), "mvtec") for method in get_args(RepVec)]
TEXT_CASES += [("dbscan", RepVecChoice("dbscan", 1.5, 25), "visa")]


@pytest.mark.parametrize("method, choice, data_set", TEXT_CASES)
def test_text_features_meet_the_goldens(backbone, golden, method, choice, data_set):
    for name in CLASSES:
        text = class_text_features(backbone, read_prompts("industrial"), name, choice, cache_dir=None)
        assert relative_error(text, golden[f"text_{method}_{data_set}_{name}"]) < ROUNDING


@pytest.mark.parametrize("smoothing, key", [(0, "sdp_map_unsmoothed"), (8, "sdp_map")])
def test_maps_and_scores_meet_the_goldens(backbone, golden, smoothing, key):
    text = {name: torch.from_numpy(golden[f"text_mean_mvtec_{name}"]) for name in CLASSES}
    prediction = SDP(backbone, text, RELEASED, smoothing).predict(tiny_clip.images(), CLASSES)
    assert relative_error(prediction.maps, golden[key]) < ROUNDING
    assert relative_error(prediction.text_prob, golden["sdp_text_prob"]) < ROUNDING


@pytest.mark.parametrize("features_list", [(2, 4, 6, 8), (1, 3, 7), (8,), (5,), (4,)])
def test_corrected_taps_are_those_of_a_plain_implementation(backbone, features_list):
    with torch.inference_mode():
        reference = plain_dual_path(backbone.clip.visual, tiny_clip.images(), features_list)
    taps = encode(backbone, features_list, shared_buffers=False)
    for tap, (ori, surgery) in zip(taps, reference, strict=True):
        assert relative_error(tap.ori, ori) < ROUNDING
        assert relative_error(tap.surgery, surgery) < ROUNDING


def test_fidelity_changes_all_but_the_last_tap(backbone):
    released, corrected = (encode(backbone, shared_buffers=shared) for shared in (True, False))
    for number, a, b in zip(tiny_clip.FEATURES_LIST, released, corrected, strict=True):
        differs = relative_error(a.ori, b.ori) > 0.05
        assert differs == (number < 8)
        assert torch.allclose(a.surgery[:, 1:], b.surgery[:, 1:], atol=1e-5)  # taps end their stages


def test_a_released_tap_inside_a_stage_sees_the_whole_stage(backbone):
    inside, end = encode(backbone, (3, 4), shared_buffers=True)
    assert relative_error(inside.surgery[:, 1:], end.surgery[:, 1:]) < 1e-6
    assert relative_error(inside.surgery[:, 0], end.surgery[:, 0]) > 1e-3


@pytest.mark.parametrize("features_list", [(2, 4, 6, 8), (3,), (7,), (8,)])
@pytest.mark.parametrize("shared_buffers", [True, False])
def test_leaving_out_the_original_tokens_changes_nothing_else(backbone, features_list, shared_buffers):
    whole = encode(backbone, features_list, shared_buffers=shared_buffers)
    lean = encode(backbone, features_list, shared_buffers=shared_buffers, with_ori=False)
    for a, b in zip(whole, lean, strict=True):
        assert b.ori is None
        assert relative_error(b.surgery, a.surgery) < ROUNDING


@pytest.mark.parametrize("shared_buffers, blocks", [(True, (3, 4, 7, 8)), (False, (3, 7, 8))])
def test_stages_that_no_tap_reads_are_not_summed(backbone, monkeypatch, shared_buffers, blocks):
    summed = []

    def counted(attn, q, k, v):
        summed.extend([attn] if q is v else [])
        return attend(attn, q, k, v)

    monkeypatch.setattr("models.dual_path.attend", counted)
    encode(backbone, (3, 8), shared_buffers=shared_buffers)
    numbers = {block.attn: number for number, block in enumerate(backbone.clip.visual.transformer.resblocks, 1)}
    assert tuple(numbers[attn] for attn in summed) == blocks


def test_original_path_is_open_clips(backbone):
    tap = encode(backbone, (8,), shared_buffers=False)[0]
    visual = backbone.clip.visual
    with torch.inference_mode():
        expected = visual(tiny_clip.images())
        assert relative_error(visual.ln_post(tap.ori[:, 0]) @ visual.proj, expected) < ROUNDING
    assert relative_error(tap.surgery[:, 0], expected) < ROUNDING


def test_encoding_lets_gradients_through_without_touching_its_input(backbone):
    images = tiny_clip.images().requires_grad_()
    before = images.detach().clone()
    taps = encode_dual_path(backbone.clip.visual, images, (4, 8), shared_buffers=False)
    sum(tap.surgery.square().mean() for tap in taps).backward()
    assert torch.equal(images.detach(), before)
    assert images.grad.abs().max() > 0


@pytest.mark.parametrize("trained", [False, True])
def test_maps_do_not_depend_on_the_batch(backbone, golden, trained):
    text = {name: torch.from_numpy(golden[f"text_mean_mvtec_{name}"]) for name in CLASSES}
    detector = SDP(backbone, text, CORRECTED, 8, tiny_clip.linear_adapters(backbone) if trained else None)
    images, names = tiny_clip.images(5), ["bottle", "metal_nut", "bottle", "bottle", "metal_nut"]
    together = detector.predict(images, names)
    for i, name in enumerate(names):
        alone = detector.predict(images[i : i + 1], [name])
        assert relative_error(alone.maps[0], together.maps[i]) < ROUNDING
        assert abs(alone.text_prob[0] - together.text_prob[i]) < 1e-5


def test_map_is_the_sum_over_the_full_products(backbone, golden):
    """The closed form against the definition with its tensors of size D."""
    text = torch.from_numpy(golden["text_mean_mvtec_bottle"])
    taps = encode(backbone, shared_buffers=True)
    grid = plain_token_scores([tap.surgery for tap in taps], text).unflatten(1, (12, 12))
    expected = F.interpolate(grid[:, None], size=96, mode="bilinear", align_corners=False)[:, 0]
    prediction = SDP(backbone, {"bottle": text}, RELEASED, 0).predict(tiny_clip.images(), ["bottle"] * 2)
    assert relative_error(prediction.maps, expected) < ROUNDING


@pytest.mark.parametrize("grid, size, sigma", [(12, 96, 8.0), (37, 518, 8.0), (15, 240, 2.0), (5, 20, 15.0)])
@pytest.mark.parametrize("align_corners", [True, False])
def test_resampling_is_interpolation_and_scipys_filter(grid, size, sigma, align_corners):
    scores = torch.randn(2, grid, grid, generator=torch.Generator().manual_seed(0))
    upsampled = F.interpolate(scores[:, None], size=size, mode="bilinear", align_corners=align_corners)[:, 0]
    matrix = upsampling_matrix(grid, size, align_corners=align_corners)
    assert relative_error(resample(scores, matrix), upsampled) < ROUNDING
    expected = np.stack([gaussian_filter(image, sigma) for image in upsampled.numpy()])
    assert relative_error(resample(scores, gaussian_matrix(size, sigma) @ matrix), expected) < ROUNDING


def test_image_scores_are_scaled_over_the_class_whatever_the_maps_minima(backbone):
    def scores(text_prob: list[float], map_max: list[float]) -> np.ndarray:
        unused = np.full(len(map_max), -3.0)
        return SDP(backbone, {}, CORRECTED, 8).image_scores(np.array(text_prob), np.array(map_max), unused)

    np.testing.assert_allclose(scores([0.2, 0.4, 0.3], [5.0, 1.0, 3.0]), [1.0, 1.0, 1.0])
    np.testing.assert_allclose(scores([0.2], [5.0]), [5.2])
    np.testing.assert_allclose(scores([0.2, 0.4], [5.0, 5.0]), [5.0, 6.0])
