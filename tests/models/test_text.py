"""Text features: the lean text tower against open_clip's, and the cache of sentence embeddings."""

import dataclasses

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import Tensor

import models.text
from models.backbone import Backbone
from models.prompts import PromptEnsemble, read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features, encode_sentences
from tests import tiny_clip
from utils.errors import UserError

PROMPTS = PromptEnsemble(normal=("perfect {}", "{}"), anomalous=("{} with crack",), templates=("a photo of {}.", "{}"))
SENTENCES = [
    "bottle",
    "",
    "a photo of a bottle.",
    "a jpeg corrupted photo of the bottle without contamination.",
    "a photo of a nut.",
    "Glänzend, 5 % größer; 瓶子 !",
]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_clip.load(tmp_path_factory.mktemp("tiny"))


def at_full_context(backbone: Backbone, sentences: list[str]) -> Tensor:
    """What open_clip's own text tower makes of sentences padded to the whole context."""
    with torch.inference_mode():
        return backbone.clip.encode_text(open_clip.tokenize(sentences), normalize=True)


def test_embeddings_are_open_clips_at_the_full_context(backbone):
    normal, anomalous = read_prompts("industrial").sentences("metal_nut")
    sentences = [*SENTENCES, *normal[::9], *anomalous[::9]]
    embeddings = encode_sentences(backbone, sentences)
    assert embeddings.dtype == torch.float32
    assert torch.allclose(embeddings, at_full_context(backbone, sentences), atol=1e-5, rtol=0)
    assert torch.allclose(embeddings.norm(dim=-1), torch.ones(len(sentences)))


def test_embeddings_depend_on_neither_order_nor_company(backbone):
    together = encode_sentences(backbone, SENTENCES)
    backwards = encode_sentences(backbone, SENTENCES[::-1])
    assert torch.allclose(backwards.flip(0), together, atol=1e-6, rtol=0)
    for sentence, row in zip(SENTENCES, together, strict=True):
        assert torch.allclose(encode_sentences(backbone, [sentence])[0], row, atol=1e-6, rtol=0)
    distances = torch.cdist(together, together) + 2 * torch.eye(len(SENTENCES))
    assert distances.min() > 0.01  # so that a mixed-up order would be seen


def test_a_sentence_that_just_fits_the_context_is_read_to_its_end(backbone):
    sentences = [" ".join(["scratch"] * count) for count in (75, 74)]  # start and end of text make it 77
    embeddings = encode_sentences(backbone, sentences)
    assert torch.allclose(embeddings, at_full_context(backbone, sentences), atol=1e-5, rtol=0)
    assert (embeddings[0] - embeddings[1]).norm() > 1e-4


def test_a_sentence_beyond_the_context_is_refused(backbone):
    with pytest.raises(UserError, match=r"the sentence 'scratch .* has more than the 77 tokens"):
        encode_sentences(backbone, ["bottle", " ".join(["scratch"] * 76)])


def test_the_tower_computes_in_the_precision_asked_for(backbone):
    low = encode_sentences(dataclasses.replace(backbone, precision="bf16"), SENTENCES)
    full = encode_sentences(backbone, SENTENCES)
    assert low.dtype == torch.float32
    assert 0 < (low - full).abs().max() < 0.1
    assert F.cosine_similarity(low, full).min() > 0.99


def test_columns_are_the_unit_means_of_the_two_states(backbone):
    text = class_text_features(backbone, PROMPTS, "nut", RepVecChoice("mean"), cache_dir=None)
    assert (text.shape, text.dtype) == ((64, 2), torch.float32)
    for column, sentences in zip(text.T, PROMPTS.sentences("nut"), strict=True):
        mean = at_full_context(backbone, sentences).mean(dim=0)
        assert torch.allclose(column, F.normalize(mean, dim=0), atol=1e-5)


# The cache


def features(backbone: Backbone, folder, prompts=PROMPTS, phrase="nut", method="mean") -> Tensor:
    return class_text_features(backbone, prompts, phrase, RepVecChoice(method), folder)


def fail(*_) -> Tensor:
    raise AssertionError("encoded, though it was in the cache")


def test_the_second_call_reads_the_cache(backbone, tmp_path, monkeypatch):
    folder = tmp_path / "made" / "here"
    first = features(backbone, folder)
    assert torch.equal(first, features(backbone, None))
    monkeypatch.setattr(models.text, "encode_sentences", fail)
    assert torch.equal(features(backbone, folder), first)
    assert torch.allclose(features(backbone, folder, method="kde"), first, atol=0.2)  # from the same sentences
    with pytest.raises(AssertionError, match="encoded"):
        features(backbone, folder, phrase="bolt")


def other_weights(backbone: Backbone) -> Backbone:
    return dataclasses.replace(backbone, weights=dataclasses.replace(backbone.weights, sha256="0" * 64))


def test_whatever_changes_the_embeddings_changes_the_key(backbone, tmp_path):
    more = dataclasses.replace(PROMPTS, templates=(*PROMPTS.templates, "the {}"))
    swapped = dataclasses.replace(PROMPTS, normal=PROMPTS.normal[::-1])
    calls = [
        (backbone, PROMPTS, "nut"),
        (other_weights(backbone), PROMPTS, "nut"),
        (dataclasses.replace(backbone, activation="quick_gelu"), PROMPTS, "nut"),
        (dataclasses.replace(backbone, precision="bf16"), PROMPTS, "nut"),
        (dataclasses.replace(backbone, config_sha256="0" * 64), PROMPTS, "nut"),
        (backbone, more, "nut"),
        (backbone, swapped, "nut"),
        (backbone, PROMPTS, "bolt"),
    ]
    for count, (model, prompts, phrase) in enumerate(calls, 1):
        features(model, tmp_path, prompts, phrase)
        assert len(list(tmp_path.iterdir())) == count
    for model, prompts, phrase in calls:
        features(model, tmp_path, prompts, phrase)
    assert len(list(tmp_path.iterdir())) == len(calls)


def test_where_the_weights_lie_does_not_change_the_key(backbone, tmp_path, monkeypatch):
    features(backbone, tmp_path)
    moved = dataclasses.replace(backbone.weights, path=tmp_path / "elsewhere", tag="openai")
    monkeypatch.setattr(models.text, "encode_sentences", fail)
    features(dataclasses.replace(backbone, weights=moved, name="another"), tmp_path)


def junk(path):
    path.write_bytes(b"junk")


def emptied(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-10])


def without_its_entry(path):
    save_file({"other": np.ones((6, 64), np.float32)}, path)


def of_another_shape(path):
    save_file({"embeddings": np.ones((5, 64), np.float32)}, path)


@pytest.mark.parametrize("damage", [junk, emptied, truncated, without_its_entry, of_another_shape])
def test_a_damaged_file_is_computed_anew_and_mended(backbone, tmp_path, monkeypatch, damage):
    first = features(backbone, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    damage(path)
    assert torch.equal(features(backbone, tmp_path), first)
    assert path.read_bytes() == whole
    monkeypatch.setattr(models.text, "encode_sentences", fail)
    assert torch.equal(features(backbone, tmp_path), first)


def test_a_cache_that_cannot_be_written_is_a_warning(backbone, tmp_path, warnings_of):
    (tmp_path / "file").touch()
    assert torch.equal(features(backbone, tmp_path / "file"), features(backbone, None))
    assert warnings_of().startswith("sentence embeddings are not kept in --cache_dir: cannot write ")


def test_embeddings_that_are_not_finite_are_refused(tmp_path):
    backbone = tiny_clip.load(tmp_path)
    backbone.clip.text_projection.data.fill_(3e38)  # as half precision overflows
    with pytest.raises(UserError, match="sentence embeddings that are not finite: with --precision fp16 or bf16"):
        encode_sentences(backbone, ["a bottle"])
