"""Finding weights: the user's file, the published tags, and a machine without network."""

from pathlib import Path
from unittest.mock import Mock

import open_clip
import pytest
from huggingface_hub.constants import ENDPOINT

import models.weights
from models.weights import Weights, find_weights, quick_gelu_weights
from utils.errors import UserError
from utils.files import sha256_of


def weights_file(path: Path) -> Path:
    """A file that is found, not read."""
    path.write_bytes(b"weights")
    return path


def test_a_users_file_is_found_by_its_path(tmp_path):
    path = weights_file(tmp_path / "openai")
    assert find_weights("ViT-L-14-336", str(path)) == Weights(path, sha256_of(path), tag=None)


def test_a_missing_file_and_an_unknown_tag_are_told_with_the_known_tags(tmp_path):
    for absent in (str(tmp_path / "none.pt"), "laion3b"):
        with pytest.raises(UserError, match=r"no such file, nor a tag of ViT-L-14-336 \(openai\)") as caught:
            find_weights("ViT-L-14-336", absent)
        assert str(caught.value).startswith(f"--pretrained {absent}: ")
    with pytest.raises(UserError, match=r"no such file, nor \(tiny\.json has no published weights\)"):
        find_weights("tiny.json", "openai")


@pytest.fixture
def no_network(monkeypatch, tmp_path) -> list[str]:
    """A machine without network and without cached downloads; the list holds what was asked for."""
    asked: list[str] = []

    class Session:
        def head(self, url: str, timeout: float):
            asked.append(url)
            raise OSError("Network is unreachable")

    monkeypatch.setattr(models.weights, "get_session", Session)
    monkeypatch.setattr(models.weights, "try_to_load_from_cache", lambda repository, name: None)
    return asked


@pytest.mark.parametrize("name", ["ViT-L-14-336-openai.safetensors", "ViT-L-14-336-openai.pt", "ViT-L-14-336px.pt"])
def test_a_tag_is_looked_for_in_the_folder_first(tmp_path, no_network, name):
    path = weights_file(tmp_path / name)
    weights = find_weights("ViT-L-14-336", "openai", tmp_path)
    assert weights == Weights(path, sha256_of(path), tag="openai")
    assert no_network == []


def test_without_network_the_sentence_says_what_to_put_where(tmp_path, no_network):
    with pytest.raises(UserError, match="not on this machine") as caught:
        find_weights("ViT-B-16-plus-240", "laion400m_e31", tmp_path)
    repository = open_clip.get_pretrained_cfg("ViT-B-16-plus-240", "laion400m_e31")["hf_hub"].rstrip("/")
    assert f"download open_clip_model.safetensors from https://huggingface.co/{repository} " in str(caught.value)
    assert f"save it as {tmp_path / 'ViT-B-16-plus-240-laion400m_e31.safetensors'}" in str(caught.value)
    assert no_network == [ENDPOINT]


def test_the_hubs_cache_is_used_without_network(tmp_path, no_network, monkeypatch):
    path = weights_file(tmp_path / "cached.safetensors")
    monkeypatch.setattr(models.weights, "try_to_load_from_cache", lambda repository, name: str(path))
    assert find_weights("ViT-L-14-336", "openai", tmp_path / "none").path == path
    assert no_network == []


def test_a_download_is_open_clips(tmp_path, no_network, monkeypatch):
    path = weights_file(tmp_path / "downloaded.safetensors")
    monkeypatch.setattr(models.weights, "get_session", lambda: Mock(spec=["head"]))
    monkeypatch.setattr(models.weights, "download_pretrained", lambda config: str(path))
    weights = find_weights("ViT-L-14-336", "openai", tmp_path / "none")
    assert weights == Weights(path, sha256_of(path), tag="openai")


@pytest.mark.parametrize(
    "model, tag, expected",
    [
        ("ViT-L-14-336", "openai", (True, True)),
        ("ViT-L-14-336", None, (True, True)),  # published by OpenAI alone
        ("ViT-L-14", "openai", (True, True)),
        ("ViT-L-14", "laion2b_s32b_b82k", (False, False)),
        ("ViT-L-14", None, (False, False)),
        ("ViT-B-16-plus-240", "laion400m_e31", (False, False)),
        ("ViT-B-16-plus-240", None, (False, False)),
        ("ViT-B-16", "dfn2b", (True, False)),
        ("config.json", None, (False, False)),
        ("config.json", "openai", (True, True)),  # known by its SHA-256
    ],
)
def test_which_weights_were_trained_with_quick_gelu(model, tag, expected):
    assert quick_gelu_weights(model, tag) == expected


def test_a_model_without_published_weights_is_taken_for_gelu():
    assert not open_clip.list_pretrained_tags_by_model("ViT-M-16")
    assert quick_gelu_weights("ViT-M-16", None) == (False, False)


def test_a_tag_whose_images_are_normalised_otherwise_is_refused():
    with pytest.raises(UserError, match=r"laion2b_s32b_b82k: trained on images normalised by another mean"):
        find_weights("ViT-L-14", "laion2b_s32b_b82k")


def test_a_file_that_openai_published_is_known_by_its_digest(tmp_path, monkeypatch):
    path = weights_file(tmp_path / "any name.pt")
    monkeypatch.setattr(models.weights, "_openai_digests", lambda: {sha256_of(path)})
    assert find_weights("ViT-B-16", str(path)).tag == "openai"
