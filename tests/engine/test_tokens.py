"""The cache of patch tokens: exact, complete or absent, and safe from other runs."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.tokens import TokenCache, encode_patch_tokens
from models.fidelity import Fidelity
from models.weights import Weights
from tests import tiny_clip
from utils import checked_arrays
from utils.errors import UserError
from utils.files import atomic_open

RELEASED = Fidelity.named("released")


@pytest.fixture
def cache(backbone, tmp_path) -> TokenCache:
    return TokenCache(tmp_path, backbone, RELEASED, "fp32")


@pytest.fixture
def tokens(backbone) -> torch.Tensor:
    return encode_patch_tokens(backbone, tiny_clip.images(), RELEASED)


def test_tokens_are_the_taps_without_class_token(tokens, golden):
    expected = np.stack([golden[f"ori_{n}"][:, 1:] for n in tiny_clip.FEATURES_LIST], axis=1)
    assert tokens.shape == (2, 4, 144, 128)
    np.testing.assert_allclose(tokens, expected, atol=1e-5 * np.abs(expected).max())


def test_what_is_written_is_read_and_no_longer_missing(cache, tokens):
    assert cache.missing(["a", "b", "a"]) == ["a", "b"]
    cache.write("a", tokens[0])
    assert cache.missing(["a", "b"]) == ["b"]
    np.testing.assert_array_equal(cache.read("a"), tokens[0])


def test_half_precision_takes_half_the_space(cache, backbone, tokens, tmp_path):
    half = TokenCache(tmp_path, backbone, RELEASED, "fp16")
    half.write("a", tokens[0])
    assert half.image_bytes * 2 == cache.image_bytes == 4 * 4 * 144 * 128
    np.testing.assert_allclose(half.read("a"), tokens[0], rtol=1e-3, atol=1e-6)
    assert cache.missing(["a"]) == ["a"]


def test_the_key_holds_everything_that_tokens_depend_on(cache, backbone, tmp_path):
    others = [
        TokenCache(tmp_path, replace(backbone, **{name: value}), RELEASED, "fp32")
        for name, value in {
            "weights": Weights(backbone.weights.path, "0" * 64, None),
            "config_sha256": "0" * 64,
            "activation": "quick_gelu",
            "image_size": 104,
            "features_list": (1, 4, 6, 8),
            "precision": "bf16",
            "compile": True,
        }.items()
    ]
    others.append(TokenCache(tmp_path, backbone, Fidelity.named("corrected"), "fp32"))
    others.append(TokenCache(tmp_path, backbone, RELEASED, "fp16"))
    assert len({cache.folder, *(other.folder for other in others)}) == len(others) + 1
    same = TokenCache(tmp_path, backbone, replace(RELEASED, unshuffled_training=False), "fp32")
    assert same.folder == cache.folder


@pytest.mark.parametrize("keep", [0, 5, 64, 127, 128, 1000, -1])
def test_a_truncated_file_counts_as_missing(cache, tokens, keep):
    cache.write("a", tokens[0])
    path = cache.folder / "a.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert cache.missing(["a"]) == ["a"]
    with pytest.raises(UserError, match=r"a\.safetensors is gone or damaged"):
        cache.read("a")


def test_tokens_of_other_values_are_refused_and_made_anew(cache, tokens):
    cache.write("a", tokens[0])
    path = cache.folder / "a.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="start again to rebuild it"):
        cache.read("a")
    assert cache.missing(["a"]) == ["a"]


def test_a_file_of_another_kind_is_not_loaded(cache, tmp_path):
    cache.folder.mkdir(parents=True)
    with (cache.folder / "a.safetensors").open("wb") as file:
        np.save(file, np.array([print], dtype=object), allow_pickle=True)
    assert cache.missing(["a"]) == ["a"]


def test_a_write_that_breaks_off_leaves_nothing(cache, tokens, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checked_arrays, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        cache.write("a", tokens[0])
    assert list(cache.folder.iterdir()) == []


def test_what_a_killed_run_did_not_finish_is_removed_and_not_what_is_being_written(cache):
    cache.reserve(1)
    for name in (f".{'0' * 32}.tmp", "other.tmp"):
        (cache.folder / name).touch()
    with atomic_open(cache.folder / "whole") as file:
        cache.reserve(1)
        assert {path.name for path in cache.folder.iterdir()} == {Path(file.name).name, "other.tmp"}
    assert {path.name for path in cache.folder.iterdir()} == {"whole", "other.tmp"}


def test_two_runs_may_write_the_same_image(cache, tokens):
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda _: cache.write("a", tokens[0]), range(40)))
    np.testing.assert_array_equal(cache.read("a"), tokens[0])
    assert [path.name for path in cache.folder.iterdir()] == ["a.safetensors"]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(cache, monkeypatch):
    assert cache.reserve(3).startswith("the patch tokens of 3 images take 0.00 GiB")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**6))
    with pytest.raises(UserError, match="too few; name another disk with --cache_dir"):
        cache.reserve(4)


@pytest.mark.parametrize("value, message", [(1e6, "use --cache_precision fp32"), (np.nan, "not finite")])
def test_values_that_half_precision_cannot_hold_are_refused(backbone, tokens, tmp_path, value, message):
    cache = TokenCache(tmp_path, backbone, RELEASED, "fp16")
    tokens = tokens.clone()
    tokens[0, 0, 0, 0] = value
    with pytest.raises(UserError, match=message):
        cache.write("a", tokens[0])
    assert cache.missing(["a"]) == ["a"]
