"""The frozen backbone: which models are served, how weights fit, and which activation they run with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file

import models.backbone
from models.backbone import Backbone, load_backbone
from models.dual_path import encode_dual_path
from models.fidelity import Fidelity
from models.model_config import check_servable, config_digest, read_config
from models.weights import Weights
from tests import tiny_clip
from tests.random_weights import save_random_weights
from utils.errors import UserError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config and weights of the tiny model."""
    return tiny_clip.save(tmp_path_factory.mktemp("tiny"))


def load(config_path: Path | str, weights_path: Path, **options: Any) -> Backbone:
    settings = {"image_size": None, "features_list": None, "fidelity": Fidelity.named("corrected")}
    settings |= {"device": torch.device("cpu")} | options
    return load_backbone(model=str(config_path), pretrained=str(weights_path), **settings)


def write_config(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(tiny_clip.config() | changes))
    return path


@pytest.fixture(scope="module")
def backbone(files) -> Backbone:
    """The tiny model at its own size."""
    return load(*files)


# What a loaded backbone is


def test_the_models_own_size_and_the_ends_of_its_stages_are_the_defaults(files, backbone):
    assert backbone.image_size == 96
    assert backbone.grid == 12
    assert backbone.features_list == (2, 4, 6, 8)
    assert (backbone.name, backbone.weights.path, backbone.weights.tag) == (str(files[0]), files[1], None)


def test_the_backbone_is_frozen_and_in_evaluation_mode(backbone):
    clip = backbone.clip
    assert not any(module.training for module in clip.modules())
    assert not any(parameter.requires_grad for parameter in clip.parameters())


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_linear_layers_are_converted_once_and_give_what_autocast_does(files, backbone, precision, dtype):
    converted, by_autocast = load(*files, precision=precision), replace(backbone, precision=precision)
    one, other = (
        tower.run_image_tower(encode_dual_path, tiny_clip.images(), tower.features_list, shared_buffers=False)
        for tower in (converted, by_autocast)
    )
    for tap, expected in zip(one, other, strict=True):
        assert torch.equal(tap.ori, expected.ori)
        assert torch.equal(tap.surgery, expected.surgery)
        assert tap.surgery.dtype == dtype
    block = converted.clip.visual.transformer.resblocks[0]
    assert {block.attn.in_proj_weight.dtype, block.attn.out_proj.weight.dtype, block.mlp.c_fc.bias.dtype} == {dtype}
    assert {parameter.dtype for parameter in converted.clip.transformer.parameters()} == {torch.float32}


def test_a_config_below_model_cfg_is_read_and_a_published_one_is_a_copy(tmp_path):
    path = tmp_path / "hub.json"
    path.write_text(json.dumps({"model_cfg": tiny_clip.config(), "preprocess_cfg": {}}))
    assert read_config(str(path)) == tiny_clip.config()
    read_config("ViT-L-14-336")["vision_cfg"]["image_size"] = 518
    assert read_config("ViT-L-14-336")["vision_cfg"]["image_size"] == 336


@pytest.mark.parametrize("size, grid", [(64, 8), (96, 12), (136, 17)])
def test_the_position_embedding_is_resized_by_antialiased_bicubic_interpolation(files, size, grid):
    stored = load_file(files[1])["visual.positional_embedding"]
    image = stored[1:].T.reshape(1, -1, 12, 12)
    resized = F.interpolate(image, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
    backbone = load(*files, image_size=size)
    own = backbone.clip.visual.positional_embedding
    assert backbone.grid == grid
    assert torch.equal(own[0], stored[0])
    assert torch.allclose(own[1:], resized[0].flatten(1).T, atol=1e-6)
    with torch.inference_mode():
        assert backbone.clip.encode_image(tiny_clip.images(1, size)).shape == (1, 64)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision_is_the_type_of_autocast(backbone, files, precision):
    low = load(*files, precision=precision)
    features = []
    for model in (backbone, low):
        with torch.inference_mode(), model.autocast():
            features.append(model.clip.encode_image(tiny_clip.images(1)))
    assert [tensor.dtype for tensor in features] == [
        torch.float32,
        {"bf16": torch.bfloat16, "fp16": torch.float16}[precision],
    ]
    assert F.cosine_similarity(features[0], features[1].float()).min() > 0.99


def test_a_real_architecture_loads_and_keeps_its_features(tmp_path):
    path = save_random_weights("ViT-B-16-plus-240", tmp_path / "random.safetensors")
    backbone = load("ViT-B-16-plus-240", path, features_list=(3, 6, 9, 12))
    path.unlink()  # large, and pytest keeps folders
    visual, images = backbone.clip.visual, tiny_clip.images(1, 240)
    with torch.inference_mode():
        taps = encode_dual_path(visual, images, backbone.features_list, shared_buffers=False)
        expected = visual(images)
    assert (backbone.image_size, backbone.grid, backbone.activation) == (240, 15, "gelu")
    assert {tuple(tap.ori.shape) for tap in taps} == {(1, 226, 896)}
    assert {tuple(tap.surgery.shape) for tap in taps} == {(1, 226, 640)}
    assert torch.allclose(taps[-1].surgery[:, 0], expected, atol=1e-5 * expected.abs().max().item())


def test_vit_l_14_336_is_servable_at_518():
    config = read_config("ViT-L-14-336")
    check_servable("ViT-L-14-336", config, 518, [6, 12, 18, 24])
    config["vision_cfg"]["image_size"] = 518
    with torch.device("meta"):
        clip = open_clip.CLIP(**config)
    assert clip.visual.grid_size == (37, 37)
    assert clip.visual.positional_embedding.shape == (1 + 37 * 37, 1024)
    assert len(clip.visual.transformer.resblocks) == 24


def test_taps_come_in_ascending_order(files):
    assert load(*files, features_list=[8, 2, 5]).features_list == (2, 5, 8)


# Fidelity switch (b): the activation


@pytest.fixture
def load_as(files, monkeypatch):
    """Load the tiny model as if it were a published one, with weights found by a tag."""

    def load_published(name: str, tag: str | None, **options: Any) -> Backbone:
        quick = {"quick_gelu": True} if name.endswith("quickgelu") else {}
        monkeypatch.setattr(models.backbone, "read_config", lambda model: tiny_clip.config() | quick)
        monkeypatch.setattr(models.backbone, "find_weights", lambda *_: Weights(files[1], "0" * 64, tag))
        return load(name, files[1], **options)

    return load_published


CASES = [("released", None), ("released", 64), ("corrected", 64)]  # fidelity and size; the model's own is 96
OPENAI = ("quick_gelu", "gelu", "quick_gelu")
ALWAYS_GELU = ("gelu", "gelu", "gelu")
ALWAYS_QUICK = ("quick_gelu", "quick_gelu", "quick_gelu")


@pytest.mark.parametrize(
    "name, tag, expected",
    [
        ("ViT-L-14-336", "openai", OPENAI),
        ("ViT-L-14-336", None, OPENAI),
        ("ViT-L-14", None, ALWAYS_GELU),
        ("ViT-B-16-plus-240", "laion400m_e31", ALWAYS_GELU),
        ("ViT-B-16", "dfn2b", ALWAYS_QUICK),
        ("ViT-B-32-quickgelu", "laion400m_e31", ALWAYS_QUICK),
    ],
)
def test_activation_of_published_weights(load_as, name, tag, expected):
    for (fidelity, size), activation in zip(CASES, expected, strict=True):
        backbone = load_as(name, tag, image_size=size, fidelity=Fidelity.named(fidelity))
        assert backbone.activation == activation, (fidelity, size)
        for tower in (backbone.clip.visual.transformer, backbone.clip.transformer):
            kinds = {isinstance(block.mlp.gelu, QuickGELU) for block in tower.resblocks}
            assert kinds == {activation == "quick_gelu"}


@pytest.mark.parametrize(
    "name, tag, warned",
    [
        ("ViT-L-14", None, True),
        ("ViT-L-14", "laion2b_s32b_b82k", False),
        ("ViT-L-14-quickgelu", None, False),
        ("ViT-L-14-336", None, False),  # published with QuickGELU alone
        ("ViT-B-16-plus-240", None, False),  # with GELU alone
    ],
)
def test_a_file_whose_activation_is_not_known_is_warned_of(load_as, name, tag, warned, warnings_of):
    load_as(name, tag)
    assert ("if it was with QuickGELU, as OpenAI's were, give --model ViT-L-14-quickgelu" in warnings_of()) == warned


@pytest.mark.parametrize(
    "name, tag, released", [("ViT-L-14-336", "openai", "gelu"), ("ViT-B-16", "dfn2b", "quick_gelu")]
)
@pytest.mark.parametrize("size", [None, 64])
def test_activation_of_published_weights_in_dp_clip(load_as, name, tag, released, size):
    for fidelity, activation in (("released", released), ("corrected", "quick_gelu")):
        backbone = load_as(name, tag, image_size=size, fidelity=Fidelity.named(fidelity, "dp_clip"))
        assert backbone.activation == activation


@pytest.mark.parametrize("fidelity, size", CASES)
def test_a_config_file_decides_its_activation_itself(files, tmp_path, fidelity, size):
    quick = write_config(tmp_path / "quick.json", quick_gelu=True)
    options = {"image_size": size, "fidelity": Fidelity.named(fidelity)}
    assert load(quick, files[1], **options).activation == "quick_gelu"
    assert load(files[0], files[1], **options).activation == "gelu"


def test_the_activation_changes_the_features_of_both_towers(load_as):
    """By more than rounding, and to what open_clip computes with that activation."""
    quick, gelu = (
        load_as("ViT-L-14-336", "openai", image_size=64, fidelity=Fidelity.named(name)).clip
        for name in ("corrected", "released")
    )
    config = tiny_clip.config() | {"quick_gelu": True}
    config["vision_cfg"]["image_size"] = 64
    reference = open_clip.CLIP(**config).eval()
    reference.load_state_dict(quick.state_dict())
    tokens, images = open_clip.tokenize(["a photo of a bottle.", "a broken bottle."]), tiny_clip.images(2, 64)
    with torch.inference_mode():
        for encode, inputs in (("encode_text", tokens), ("encode_image", images)):
            with_quick, with_gelu, expected = (
                getattr(clip, encode)(inputs, normalize=True) for clip in (quick, gelu, reference)
            )
            assert torch.allclose(with_quick, expected, atol=1e-6)
            assert (with_quick - with_gelu).norm(dim=-1).min() > 1e-3


# Weights that do not fit


@pytest.mark.parametrize(
    "change, said",
    [
        ({"visual.proj": None}, r"visual.proj \[128, 64\] is missing there"),
        ({"visual.extra": (3,)}, r"visual.extra \[3\] has no counterpart here"),
        ({"visual.proj": (128, 32)}, r"visual.proj has shape \[128, 32\] there and \[128, 64\] here"),
        ({"visual.positional_embedding": (145, 64)}, r"has shape \[145, 64\] there and \[145, 128\] here"),
        *(
            ({"visual.positional_embedding": (rows, 128)}, "was trained on a grid of patches that is not square")
            for rows in (0, 1, 141)
        ),
        ({"ln_final.bias": None, "visual.proj": None, "x": (1,)}, "is missing there, and 2 more differences"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_key_and_shape(files, tmp_path, change, said):
    state = load_file(files[1]) | {k: None if shape is None else torch.ones(shape) for k, shape in change.items()}
    path = tmp_path / "misfit.safetensors"
    save_file({key: value for key, value in state.items() if value is not None}, path)
    with pytest.raises(UserError, match=said) as caught:
        load(files[0], path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(files, tmp_path, value):
    state = load_file(files[1])
    state["visual.transformer.resblocks.3.mlp.c_fc.bias"][5] = value
    save_file(state, tmp_path / "broken.safetensors")
    said = r"broken\.safetensors: visual\.transformer\.resblocks\.3\.mlp\.c_fc\.bias has values that are not finite"
    with pytest.raises(UserError, match=said):
        load(files[0], tmp_path / "broken.safetensors")


def test_a_model_larger_than_its_weights_is_refused_before_it_is_built(files, tmp_path):
    """Which would take terabytes."""
    vision = tiny_clip.config()["vision_cfg"] | {"width": 1 << 20}
    with pytest.raises(UserError, match=r"does not fit .*class_embedding has shape \[128\] there and \[1048576\] here"):
        load(write_config(tmp_path / "wide.json", vision_cfg=vision), files[1])


# What tells one config from another


def test_the_digest_is_of_what_the_numbers_depend_on(backbone, files, tmp_path):
    config = tiny_clip.config()
    changes = [
        {"embed_dim": 32},
        {"vision_cfg": config["vision_cfg"] | {"head_width": 64}},
        {"text_cfg": config["text_cfg"] | {"heads": 4}},
        {"vision_cfg": config["vision_cfg"] | {"norm_kwargs": {"eps": 1e-3}}},
    ]
    digests = {config_digest(config | change) for change in changes}
    assert len(digests | {backbone.config_sha256}) == 5
    same = config | {"vision_cfg": config["vision_cfg"] | {"image_size": 64, "mlp_ratio": 4.0}, "custom_text": True}
    same["text_cfg"] = dict(reversed(config["text_cfg"].items())) | {"vocab_size": 49408}
    assert config_digest(same) == backbone.config_sha256
    other = load(write_config(tmp_path / "other.json", **changes[1]), files[1])
    assert other.weights == backbone.weights
    assert other.config_sha256 == config_digest(config | changes[1])
