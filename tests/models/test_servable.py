"""Models that are refused: each with one sentence, before any weights are read."""

import json
from typing import Any

import open_clip
import pytest
import torch

from models.backbone import load_backbone
from models.fidelity import Fidelity
from models.model_config import check_servable, read_config
from tests import tiny_clip
from utils.errors import UserError


def changed(vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """The tiny model's config with some settings changed."""
    config = tiny_clip.config() | top
    config["vision_cfg"] |= vision or {}
    config["text_cfg"] |= text or {}
    return config


def refusal(config: dict[str, Any], image_size: Any = 96, features_list: list[int] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        check_servable("tiny", config, image_size, features_list)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name, said",
    [
        ("RN50", "is a ResNet; the dual path needs a vision transformer"),
        ("convnext_base", "its image tower has timm_model_name=convnext_base"),
        ("ViT-B-16-SigLIP", "its image tower has timm_model_name=vit_base_patch16_siglip_224"),
        ("roberta-ViT-B-32", "its text tower has hf_model_name=roberta-base"),
        ("ViT-H-14-worldwide", "its text tower has hf_tokenizer_name=facebook/xlm-v-base"),
        ("coca_ViT-L-14", "its image tower has attentional_pool=True"),
        ("coca_base", "its text tower has vocab_size=64000"),
        ("ViT-L-14-CLIPA", "its image tower has final_ln_after_pool=True"),
    ],
)
def test_models_of_another_kind_are_refused(name, said):
    config = read_config(name)
    with pytest.raises(UserError) as caught:
        check_servable(name, config, 224, None)
    assert said in str(caught.value)
    assert f"--model {name}" in str(caught.value)


def test_every_model_of_open_clip_is_served_or_refused_in_a_sentence():
    served = set()
    for name in open_clip.list_models():
        config = read_config(name)
        try:
            check_servable(name, config, config["vision_cfg"].get("image_size", 224), None)
        except UserError as error:
            assert name in str(error)
        else:
            served.add(name)
    assert {"ViT-B-32", "ViT-B-16", "ViT-B-16-plus-240", "ViT-L-14", "ViT-L-14-336", "ViT-H-14"} <= served
    assert not {name for name in served if not name.startswith("ViT-")}


@pytest.mark.parametrize(
    "tower, key, value",
    [
        ("vision", "pool_type", "avg"),
        ("vision", "block_type", "custom"),
        ("vision", "qk_norm", True),
        ("text", "qk_norm", True),
        ("text", "scale_fc", True),
        ("text", "no_causal_mask", True),
        ("text", "embed_cls", True),
        ("text", "proj_type", "none"),
        ("text", "pool_type", "last"),
        ("text", "vocab_size", 32000),
        ("text", "tokenizer_kwargs", {"clean": "canonicalize"}),
    ],
)
def test_a_tower_that_is_no_plain_transformer_is_refused_by_its_setting(tower, key, value):
    said = refusal(changed(**{tower: {key: value}}))
    assert f"its {'image' if tower == 'vision' else 'text'} tower has {key}={value}" in said


@pytest.mark.parametrize(
    "vision, image_size", [({"patch_size": [8, 16]}, 96), ({}, [96, 96]), ({}, [96, 64]), ({"image_size": None}, None)]
)
def test_grids_that_are_not_square_are_refused(vision, image_size):
    assert "make a grid that is not square" in refusal(changed(vision), image_size)


@pytest.mark.parametrize("image_size, nearest", [(100, 96), (101, 104), (3, 8), (0, 8), (-96, 8)])
def test_a_size_that_is_no_multiple_of_the_patch_is_refused_with_the_nearest(image_size, nearest):
    said = refusal(changed(), image_size)
    assert said == f"--image_size {image_size} is not a multiple of the patch size 8 of tiny; try {nearest}"
    check_servable("tiny", changed(), nearest, None)


@pytest.mark.parametrize("layers", [6, 9, 0, -4, "8", None])
def test_a_depth_that_has_no_four_equal_stages_is_refused(layers):
    assert f"has {layers} blocks, which do not divide into 4 equal stages" in refusal(changed({"layers": layers}))


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_tower_of_too_many_blocks_is_never_built(tower):
    said = refusal(changed(**{tower: {"layers": 10**9}}))
    assert f"its {'image' if tower == 'vision' else 'text'} tower has 1000000000 blocks, more than 1000" in said


@pytest.mark.parametrize("where", ["option", "config"])
def test_a_grid_of_too_many_patches_is_refused(where):
    size = 20000 * 8
    said = refusal(changed({"image_size": size}), size if where == "option" else None)
    assert said == "--image_size 160000: tiny takes no more than 512 patches of 8 a side"


@pytest.mark.parametrize(
    "features_list, said",
    [
        ([2, 4, 9], "tiny has blocks 1 to 8, there is no block 9"),
        ([0, 4], "tiny has blocks 1 to 8, there is no block 0"),
        ([-1], "there is no block -1"),
        ([2, 4, 4], "[2, 4, 4]: give each block once, and one at least"),
        ([], "[]: give each block once, and one at least"),
    ],
)
def test_taps_that_are_no_blocks_are_refused(features_list, said):
    assert said in refusal(changed(), 96, features_list)
    assert "--features_list" in refusal(changed(), 96, features_list)


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", ": not valid JSON"),
        ("\xff\xfe", ": cannot be read, it is not UTF-8 text"),
        ("[" * 100_000, ": not valid JSON"),
        ("[1, 2]", ": should be an object, not [1, 2]"),
        ('{"model_cfg": 3}', ": should be a valid dictionary, not 3"),
        ('{"embed_dim": 64, "vision_cfg": {}}', ", text_cfg: Field required"),
        ('{"embed_dim": 64, "vision_cfg": 3, "text_cfg": {}}', ", vision_cfg: should be a valid dictionary, not 3"),
        ('{"embed_dim": 64, "vision_cfg": {}, "text_cfg": ["width"]}', ", text_cfg: should be a valid dictionary"),
        (json.dumps(changed({"breadth": 2})), ", vision_cfg/breadth: "),
        (json.dumps(changed(text={"depth": 8})), ", text_cfg/depth: "),
        (json.dumps(changed({"layers": "many"})), ", vision_cfg/layers"),
        (json.dumps(changed(quick_gelu=3)), ", quick_gelu: should be a valid boolean"),
        (json.dumps(changed())[:-1] + ', "embed_dim": 2}', ": not valid JSON (the key 'embed_dim' is there twice)"),
    ],
)
def test_a_wrong_config_file_is_refused(tmp_path, content, said):
    path = tmp_path / "model.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        read_config(str(path))
    assert str(caught.value).startswith(f"--model {path}{said}")


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize("value", [[0.5, 0.5, 0.5], 0.5, "0.5", {"0": 0.5}])
def test_a_config_file_with_another_normalisation_is_refused(tmp_path, name, value):
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"model_cfg": tiny_clip.config(), "preprocess_cfg": {name: value}}))
    with pytest.raises(UserError, match=f"trained on images normalised by another {name} than CLIP's"):
        read_config(str(path))


@pytest.mark.parametrize("name", ["ViT-L-14-337", "nowhere.json", "hf-hub:timm/ViT-B-16", ""])
def test_an_unknown_model_is_refused(name):
    with pytest.raises(UserError, match=f"--model {name}: (neither an open_clip model|cannot be read, No such file)"):
        read_config(name)


@pytest.mark.parametrize(
    "config",
    [
        changed(embed_size=64),
        changed(multimodal_cfg={}),
        changed({"head_width": 0}),
        changed({"head_width": 40, "width": 130}),
    ],
)
def test_a_config_that_open_clip_cannot_build_is_refused(tmp_path, config):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    weights = tmp_path / "weights.pt"
    weights.touch()
    with pytest.raises(UserError, match="open_clip cannot build it"):
        load_backbone(
            model=str(path),
            pretrained=str(weights),
            image_size=None,
            features_list=None,
            fidelity=Fidelity.named("released"),
            device=torch.device("cpu"),
        )
