"""The prompt ensembles: their counts, the paper's phrases, and files that are refused."""

import json

import pytest

from models.prompts import PromptEnsemble, prompt_files, read_prompts
from utils.errors import UserError


def test_the_industrial_ensemble_has_the_papers_size():
    prompts = read_prompts("industrial")
    assert (len(prompts.normal), len(prompts.anomalous), len(prompts.templates)) == (9, 10, 22)
    normal, anomalous = prompts.sentences("bottle")
    assert (len(normal), len(set(normal))) == (198, 198)
    assert (len(anomalous), len(set(anomalous))) == (220, 220)
    assert not set(normal) & set(anomalous)


def test_the_industrial_phrases_are_the_papers():
    normal, anomalous = map(set, read_prompts("industrial").sentences("metal_nut"))
    assert normal >= {
        "a cropped photo of the flawless metal_nut.",
        "a cropped photo of a perfect metal_nut.",
        "a close-up photo of the unblemished metal_nut.",
        "a jpeg corrupted photo of a metal_nut without flaw.",
        "a bright photo of the metal_nut without defect.",
        "a dark photo of a metal_nut without damage.",
        "a photo of a large metal_nut without scratch.",
        "a photo of the small metal_nut without crack.",
        "a photo of the metal_nut without contamination for anomaly detection.",
    }
    assert anomalous >= {
        "a blurry photo of the damaged metal_nut.",
        "a blurry photo of a imperfect metal_nut.",
        "a photo of a blemished metal_nut.",
        "a photo of the broken metal_nut.",
        "a photo of the large metal_nut with flaw.",
        "a photo of a small metal_nut with defect.",
        "a photo of a metal_nut with damage for visual inspection.",
        "a photo of the metal_nut with scratch for visual inspection.",
        "a photo of a metal_nut with crack for anomaly detection.",
        "a close-up photo of a metal_nut with contamination.",
    }


def test_the_dp_clip_sentences_are_the_papers():
    normal, anomalous = read_prompts("dp_clip").sentences("nut")
    states = ["nut", "a nut", "the nut"]
    assert sorted(normal) == sorted([f"{s}." for s in states] + [f"a photo of {s}." for s in states])
    states = ["a damaged nut", "a broken nut", "a nut with flaw", "a nut with defect", "a nut with damage"]
    assert sorted(anomalous) == sorted([f"{s}." for s in states] + [f"a photo of {s}." for s in states])


def test_every_ensemble_that_comes_along_can_be_read():
    assert prompt_files() == ["dp_clip", "industrial", "medical"]
    for name in prompt_files():
        normal, anomalous = read_prompts(name).sentences("organ")
        assert all(sentence.count("organ") == 1 for sentence in normal + anomalous)
        assert not any("{}" in sentence for sentence in normal + anomalous)
        assert not set(normal) & set(anomalous)


def test_a_phrase_is_put_in_as_it_is():
    """Braces and percent signs in a class's name are letters like any other."""
    prompts = PromptEnsemble(normal=("good {}",), anomalous=("bad {}", "{} with hole"), templates=("a {}.", "{}"))
    assert prompts.sentences("{0} 5%") == (
        ["a good {0} 5%.", "good {0} 5%"],
        ["a bad {0} 5%.", "bad {0} 5%", "a {0} 5% with hole.", "{0} 5% with hole"],
    )


def test_a_users_own_file_is_read(tmp_path):
    lists = {"normal": ["fine {}"], "anomalous": ["{} with Kratzer für"], "templates": ["{}!"]}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(lists, ensure_ascii=False), encoding="utf-8")
    assert read_prompts(str(path)) == PromptEnsemble(("fine {}",), ("{} with Kratzer für",), ("{}!",))


def lists(**changes):
    return json.dumps({"normal": ["a {}"], "anomalous": ["b {}"], "templates": ["c {}"]} | changes)


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", ": not valid JSON"),
        ("\xff", ": cannot be read, it is not UTF-8 text"),
        ("[" * 100_000, ": not valid JSON"),
        ("[]", ": should be an object, not []"),
        ('{"normal": ["a {}"]}', ", anomalous: "),
        (lists(normal="a {}"), ", normal: should be a valid array, not 'a {}'"),
        (lists(anomalous=[]), ": 'anomalous' must be a list of phrases"),
        (lists(templates=None), ", templates: should be a valid array, not None"),
        (lists(normal=["a {}", "a"]), ": entry 2 of 'normal' must have one {} in it"),
        (lists(anomalous=["{} and {}"]), ": entry 1 of 'anomalous' must have one {} in it"),
        (lists(templates=["{}", "{}", 3]), ", templates entry 3: should be a valid string, not 3"),
        (lists(normal=["{}"] * 300, templates=["{}"] * 300), ": phrases and templates make more than"),
        (lists()[:-1] + ', "normal": ["b {}"]}', ": not valid JSON (the key 'normal' is there twice)"),
    ],
)
def test_a_wrong_file_is_refused_by_its_entry(tmp_path, content, said):
    path = tmp_path / "own.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        read_prompts(str(path))
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_missing_file_is_told_with_what_there_is(tmp_path):
    for absent in ("industrail", str(tmp_path)):
        with pytest.raises(
            UserError, match="neither one of dp_clip, industrial, medical nor a readable file"
        ) as caught:
            read_prompts(absent)
        assert str(caught.value).startswith(f"--prompts {absent}: ")
