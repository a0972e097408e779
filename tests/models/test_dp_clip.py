"""DP-CLIP against the released code's numbers, and its parts against their definitions written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import gaussian_blur

from models.anomaly_map import adapter_upsampling, gaussian_matrix, resample
from models.backbone import Backbone
from models.dp_clip import GRN, AdaptedFeatures, DPClip, ImageAdapter, anomalous_logits, encode_adapted, training_loss
from models.losses import MomentumPrototypes
from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features
from tests import tiny_adapter, tiny_clip
from tests.compare import ROUNDING, relative_error
from tests.plain_dp_clip import plain_features, plain_losses, plain_maps

CLASSES = ["bottle", "metal_nut"]
LOSSES = ("loss", "classification", "segmentation", "decoupling")


@pytest.fixture
def text(dp_clip_golden) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(dp_clip_golden[f"text_{name}"]) for name in CLASSES}


def encode(backbone: Backbone, adapter: ImageAdapter, images=None, **options) -> AdaptedFeatures:
    with torch.inference_mode():
        return encode_adapted(
            backbone.clip.visual, adapter, tiny_clip.images() if images is None else images, **options
        )


def test_text_features_meet_the_goldens(backbone, dp_clip_golden):
    for name in CLASSES:
        phrase = {"bottle": "dark bottle", "metal_nut": "metal nut which has four notched edges"}[name]
        text = class_text_features(backbone, read_prompts("dp_clip"), phrase, RepVecChoice(), cache_dir=None)
        assert relative_error(text, dp_clip_golden[f"text_{name}"]) < ROUNDING


@pytest.mark.parametrize("relu, prefix", [(False, ""), (True, "relu_")])
def test_released_features_meet_the_goldens(backbone, dp_clip_golden, relu, prefix):
    adapter = tiny_adapter.load(backbone, relu=relu)
    seg, det, _ = encode(backbone, adapter)
    for number, tap in zip(tiny_clip.FEATURES_LIST, seg, strict=True):
        assert relative_error(tap, dp_clip_golden[f"{prefix}seg_{number}"]) < ROUNDING
    assert relative_error(det, dp_clip_golden[f"{prefix}det"]) < ROUNDING
    alone = encode(backbone, adapter, tiny_clip.images()[:1])
    assert relative_error(alone.det, dp_clip_golden[f"{prefix}det_batch_of_one"]) < ROUNDING
    assert relative_error(alone.seg[-1], dp_clip_golden[f"{prefix}seg_last_batch_of_one"]) < ROUNDING


@pytest.mark.parametrize("domain", ["Industrial", "Medical"])
@pytest.mark.parametrize("relu, prefix", [(False, ""), (True, "relu_")])
def test_released_maps_and_similarities_meet_the_goldens(backbone, dp_clip_golden, text, domain, relu, prefix):
    detector = DPClip(backbone, tiny_adapter.load(backbone, relu=relu), text, domain.lower())
    prediction = detector.predict(tiny_clip.images(), ["bottle", "bottle"])
    assert relative_error(prediction.maps, dp_clip_golden[f"{prefix}map_{domain}"]) < ROUNDING
    assert relative_error(prediction.text_prob, dp_clip_golden[f"{prefix}image_pred"]) < ROUNDING


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_five_training_steps_meet_the_goldens(backbone, dp_clip_golden, text, activation_checkpointing):
    adapter = tiny_adapter.load(backbone)
    prototypes = MomentumPrototypes(0.999, repeat_update=True)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=5e-4, betas=(0.5, 0.999))
    both, labels = torch.stack([text[name] for name in CLASSES]), torch.tensor([1, 0])
    steps = []
    for _ in range(5):
        optimizer.zero_grad()
        features = encode_adapted(
            backbone.clip.visual, adapter, tiny_clip.images(), activation_checkpointing=activation_checkpointing
        )
        loss = training_loss(features, both, labels, tiny_clip.masks(), adapter_upsampling(backbone), prototypes, 0.1)
        total, *parts = (loss[name] for name in LOSSES)
        total.backward()
        norm = torch.stack([parameter.grad.norm() for parameter in adapter.parameters()]).norm()
        steps.append([value.item() for value in (*parts, total, norm)])
        optimizer.step()
        prototypes.update()
    expected = dp_clip_golden["train_cls_seg_dec_total_gradnorm"]
    assert np.array(steps) == pytest.approx(expected, rel=1e-4)
    for prototype, name in zip(prototypes.values, ("normal", "anomaly"), strict=True):
        assert relative_error(prototype, dp_clip_golden[f"prototype_{name}"]) < 1e-4


def test_fused_attention_is_not_asked_about_no_image(backbone, monkeypatch):
    """CUDA's flash attention refuses that; a process has no image where the last step has too few for all."""
    fused = F.scaled_dot_product_attention

    def flash(q, *rest, **options):
        assert len(q) > 0
        return fused(q, *rest, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", flash)
    adapter = tiny_adapter.load(backbone)
    seg, det, _ = encode_adapted(backbone.clip.visual, adapter, torch.zeros(0, 3, 96, 96))
    assert [tuple(tap.shape) for tap in seg] == [(0, 144, 64)] * 4
    assert det.shape == (0, 64)
    sum(part.sum() for part in (*seg, det)).backward()
    assert not any(parameter.grad.any() for parameter in adapter.parameters())


def test_no_gradient_is_computed_for_frozen_weights_nor_before_the_first_adapter(backbone):
    seen = []
    hook = backbone.clip.visual.transformer.resblocks[0].mlp.gelu.register_forward_hook(
        lambda module, arguments, output: seen.append(output.requires_grad)
    )
    adapter = tiny_adapter.load(backbone)
    features = encode_adapted(backbone.clip.visual, adapter, tiny_clip.images())
    hook.remove()
    (features.det.sum() + sum(tap.sum() for tap in features.seg)).backward()
    assert seen == [False]
    assert all(parameter.grad is None for parameter in backbone.clip.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in adapter.parameters())


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"relu": True},
        {"grn": False},
        {"image_adapt_layers": (2, 5), "image_adapt_weight": 0.6},
        {"features_list": (3, 7), "image_adapt_layers": (0,)},
    ],
)
def test_corrected_features_are_those_of_a_plain_implementation(backbone, overrides):
    adapter = tiny_adapter.load(backbone, grn_over_batch=False, **overrides)
    with torch.inference_mode():
        reference = plain_features(backbone.clip.visual, adapter, tiny_clip.images())
    features = encode(backbone, adapter)
    for tap, expected in zip(features.seg, reference.seg, strict=True):
        assert relative_error(tap, expected) < ROUNDING
    assert relative_error(features.det, reference.det) < ROUNDING


def test_predictions_depend_on_the_batch_in_released_fidelity_only(backbone, text):
    images, names = tiny_clip.images(5), ["bottle", "metal_nut", "bottle", "bottle", "metal_nut"]
    for released in (True, False):
        adapter = tiny_adapter.load(backbone, grn_over_batch=released)
        detector = DPClip(backbone, adapter, text, "industrial")
        together = detector.predict(images, names)
        for i, name in enumerate(names):
            alone = detector.predict(images[i : i + 1], [name])
            maps = relative_error(alone.maps[0], together.maps[i])
            similarity = abs(float(alone.text_prob[0] - together.text_prob[i]))
            assert (maps < 1e-6) != released
            assert (similarity < 1e-6) != released


def test_a_map_is_the_sum_of_blurred_token_scores_written_out(backbone, text):
    adapter = tiny_adapter.load(backbone)
    for domain, kernel, sigma in (("industrial", 7, 1.0), ("medical", 9, 1.5)):
        expected = plain_maps(encode(backbone, adapter).seg, text["bottle"], 96, kernel, sigma)
        detector = DPClip(backbone, adapter, text, domain)
        prediction = detector.predict(tiny_clip.images(), ["bottle", "bottle"])
        assert relative_error(prediction.maps, expected) < ROUNDING


@pytest.mark.parametrize("size, window, sigma", [(12, 7, 1.0), (37, 9, 1.5), (5, 9, 1.5)])
def test_gaussian_matrix_of_a_window_is_the_blur_of_torchvision(size, window, sigma):
    image = torch.randn(1, size, size, generator=torch.Generator().manual_seed(0))
    expected = gaussian_blur(image, [window, window], [sigma, sigma])
    assert relative_error(resample(image, gaussian_matrix(size, sigma, window)), expected) < ROUNDING


def test_a_filter_of_another_width_smooths_the_tokens_before_they_become_pixels(backbone, text):
    adapter, images = tiny_adapter.load(backbone), tiny_clip.images()
    detector = DPClip(backbone, adapter, text, "industrial", token_smoothing=0.4)
    seg = encode(backbone, adapter, images).seg
    own = torch.stack([text["bottle"]] * len(images))
    scores = sum((anomalous_logits(tap, own) + 1) / 2 for tap in seg).unflatten(1, (backbone.grid, backbone.grid))
    smooth = gaussian_blur(scores, [7, 7], [0.4, 0.4])[:, None]
    expected = F.interpolate(smooth, size=backbone.image_size, mode="bilinear", align_corners=True)[:, 0]
    assert relative_error(detector.predict(images, ["bottle"] * len(images)).maps, expected) < ROUNDING


def test_tokens_can_lie_at_their_patches_centres(backbone, text):
    adapter, images = tiny_adapter.load(backbone, align_corners=False), tiny_clip.images()
    detector = DPClip(backbone, adapter, text, "industrial", token_smoothing=0)
    own = torch.stack([text["bottle"]] * len(images))
    scores = sum((anomalous_logits(tap, own) + 1) / 2 for tap in encode(backbone, adapter, images).seg)
    maps = detector.predict(images, ["bottle"] * len(images)).maps
    grid = scores.unflatten(1, (backbone.grid, backbone.grid))
    expected = F.interpolate(grid[:, None], size=backbone.image_size, mode="bilinear", align_corners=False)[:, 0]
    assert relative_error(maps, expected) < ROUNDING


def test_image_scores_are_those_of_maps_scaled_over_the_class(backbone):
    maps = np.random.default_rng(0).normal(size=(6, 4, 4))
    similarity = np.random.default_rng(1).uniform(size=6)
    scaled = (maps - maps.min()) / (maps.max() - maps.min())
    d = (similarity - similarity.min()) / (similarity.max() - similarity.min())
    for domain, expected in (("industrial", 0.5 * scaled.max((1, 2)) + 0.5 * d), ("medical", scaled.max((1, 2)))):
        detector = DPClip(backbone, tiny_adapter.load(backbone), {}, domain)
        scores = detector.image_scores(similarity, maps.max((1, 2)), maps.min((1, 2)))
        np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_a_single_image_keeps_its_raw_scores(backbone):
    one = np.array([0.3]), np.array([0.9]), np.array([0.1])  # similarity, the map's maximum and minimum
    for domain, expected in (("industrial", 0.6), ("medical", 0.9)):
        detector = DPClip(backbone, tiny_adapter.load(backbone), {}, domain)
        assert detector.image_scores(*one) == pytest.approx([expected])


def test_training_loss_is_its_definition_written_out(backbone, text):
    images, masks = tiny_clip.images(), tiny_clip.masks()
    features = encode(backbone, tiny_adapter.load(backbone), images)
    both, labels = torch.stack([text[name] for name in CLASSES]), torch.tensor([1, 0])
    upsampling, prototypes = adapter_upsampling(backbone), MomentumPrototypes(0.999)
    losses = training_loss(features, both, labels, masks, upsampling, prototypes, 0.25)
    total, *parts = (losses[name] for name in LOSSES)
    for found, expected in zip(parts, plain_losses(features, both, labels, masks), strict=True):
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    expected = parts[0] + parts[1] + 0.25 * parts[2]
    assert float(total) == pytest.approx(float(expected))


def test_losses_of_the_taps_add_up_and_a_blank_map_has_that_of_a_blank_tap(backbone, text):
    features = encode(backbone, tiny_adapter.load(backbone))
    both = torch.stack([text[name] for name in CLASSES])
    normal = F.normalize(both[..., 0] - both[..., 1], dim=-1)[:, None].expand_as(features.seg[1])
    features = features._replace(seg=[features.seg[0], normal, *features.seg[2:]])
    rest = adapter_upsampling(backbone), MomentumPrototypes(0.999), 0.1
    found = training_loss(features, both, torch.tensor([1, 0]), tiny_clip.masks(), *rest)
    taps = [float(found[f"tap_{number}"]) for number in (1, 2, 3, 4)]
    assert sum(taps) == pytest.approx(float(found["segmentation"]))
    blank = pytest.approx(float(found["blank_tap"]), rel=1e-4)
    assert [loss == blank for loss in taps] == [False, True, False, False]


def test_a_batch_of_normal_images_has_no_decoupling_loss(backbone, text):
    features = encode(backbone, tiny_adapter.load(backbone))
    prototypes = MomentumPrototypes(0.999)
    loss = training_loss(
        features,
        torch.stack([text[name] for name in CLASSES]),
        torch.tensor([0, 0]),
        torch.zeros(2, 96, 96, dtype=torch.bool),
        adapter_upsampling(backbone),
        prototypes,
        0.1,
    )
    assert loss["decoupling"] == 0
    assert prototypes.values is None


def test_grn_leaves_tokens_as_they_are_at_the_start():
    x = torch.randn(2, 5, 7)
    assert torch.equal(GRN(7)(x), x)


def test_reduced_precision_stays_close(backbone, text):
    adapter = tiny_adapter.load(backbone, grn_over_batch=False)
    exact, low = (
        DPClip(replace(backbone, precision=precision), adapter, text, "industrial").predict(tiny_clip.images(), CLASSES)
        for precision in ("fp32", "bf16")
    )
    assert low.maps.dtype == torch.float32
    assert 0 < relative_error(low.maps, exact.maps) < 0.1
