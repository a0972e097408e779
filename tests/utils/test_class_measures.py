"""The measures of a class in bootstrap draws, against measuring each draw's images."""

import tracemalloc

import numpy as np
import pytest

from tests.plain_measures import pixel_measures
from tests.utils.test_measures import example
from utils.evaluation_types import ImageScore
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import IMAGE_MEASURES, PIXEL_MEASURES, measure_class
from utils.measures.ranking import ranking_measures

BOOTSTRAP = Bootstrap(60, seed=3)


def make_class(letters: str) -> dict:
    """Images given by letters: normal, anomalous with mask, empty mask (e), without (x), unlabelled (?)."""
    maps, masks = example((len(letters), 13, 11), seed=1)
    has_mask = np.array([letter in "nae" for letter in letters])
    masks[[letter != "a" for letter in letters]] = False
    labels = [{"n": 0, "?": None}.get(letter, 1) for letter in letters]
    scores = np.random.default_rng(0).normal([value or 0 for value in labels])
    images = [ImageScore("", "bolt", label, score) for label, score in zip(labels, scores, strict=True)]
    return {"images": images, "maps": maps, "masks": masks, "has_mask": has_mask}


def drawn(content: dict, row: np.ndarray) -> dict:
    """The class of one draw."""
    index = np.repeat(np.arange(len(row)), row)
    arrays = {key: content[key][index].copy() for key in ("maps", "masks", "has_mask")}
    return {"images": [content["images"][i] for i in index], **arrays}


def copy(content: dict) -> dict:
    return drawn(content, np.ones(len(content["images"]), int))


def kinds(content: dict) -> np.ndarray:
    labels = [-1 if image.label is None else image.label for image in content["images"]]
    masks = content["masks"]
    return np.stack([labels, content["has_mask"], masks.any((1, 2)), ~masks.all((1, 2))], axis=1).astype(int)


@pytest.mark.parametrize("letters", ["nnnaaaa", "?nnaaxx", "an?exaan", "aaaa", "nae"])
def test_draws_are_the_measures_of_the_images_drawn(letters):
    content = make_class(letters)
    found, without = measure_class(**copy(content), bootstrap=BOOTSTRAP), measure_class(**copy(content))
    assert (found.measures, found.notes, {}) == (without.measures, without.notes, without.draws)
    defined = [key for key in (*PIXEL_MEASURES, *IMAGE_MEASURES) if found.measures[key] is not None]
    assert list(found.draws) == defined
    for number, row in enumerate(BOOTSTRAP.draw("bolt", kinds(content))):
        expected = measure_class(**drawn(content, row)).measures
        for key in defined:
            assert found.draws[key][number] == pytest.approx(expected[key], rel=1e-12), key


def test_a_mask_of_anomalous_pixels_alone_leaves_every_draw_defined():
    content = make_class("aana")
    content["masks"][:] = True
    content["masks"][2, 3:, :] = False
    content["images"][2] = content["images"][0]
    draws = measure_class(**copy(content), bootstrap=BOOTSTRAP).draws
    assert all(np.isfinite(values).all() for values in draws.values())
    assert set(draws) == set(PIXEL_MEASURES)


def test_why_measures_are_undefined_is_said():
    whole = make_class("a")
    whole["masks"][:] = True
    assert "no pixel measures: there is no normal pixel" in measure_class(**whole).notes
    flat = make_class("na")
    flat["maps"][:] = 0
    found = measure_class(**flat, legacy_pro=True)
    assert found.measures["aupro_200"] is None
    assert found.notes == ["no aupro_200: its thresholds give no two false-positive rates below 0.3"]


def test_nothing_that_is_undefined_has_draws():
    content = make_class("nnn")
    found = measure_class(**copy(content), bootstrap=BOOTSTRAP)
    assert set(found.measures.values()) == {None}
    assert found.draws == {}
    content["masks"][:] = True
    assert measure_class(**copy(content), bootstrap=BOOTSTRAP).draws == {}


def test_without_maps_the_image_measures_are_drawn_all_the_same():
    content = make_class("nnnnnxxxxx")
    content["maps"], content["masks"] = content["maps"][:0], content["masks"][:0]
    draws = measure_class(**content, bootstrap=BOOTSTRAP).draws
    assert set(draws) == set(IMAGE_MEASURES)
    assert draws["auroc_sp"].std() > 0


def same_curves(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("letters", "species"),
    [
        ("nnaaaa", ["", "", "hole", "hole", "cut", "cut"]),
        ("aanaanan", ["hole", "cut", "", "cut", "hole", "", "hole", ""]),  # in no order
        ("nanxa?na", ["", "hole", "", "cut", "cut", "", "", "dent"]),
        ("aaaa", ["hole", "cut", "hole", "cut"]),  # no normal image
        ("nnaaxx", ["", "", "hole", "hole", "cut", "cut"]),  # a kind without masks
        ("neaaea", ["", "cut", "hole", "hole", "cut", "hole"]),  # a kind whose masks are empty
    ],
)
def test_each_kind_of_anomaly_is_measured_as_if_it_were_the_only_one(letters, species):
    content, kinds_there = make_class(letters), {kind for kind in species if kind}
    content["maps"] = np.round(content["maps"], 1)  # with ties
    alone = measure_class(**copy(content), legacy_pro=True)
    found = measure_class(**copy(content), legacy_pro=True, species=species)
    assert (found.measures, found.notes, found.images) == (alone.measures, alone.notes, alone.images)
    assert same_curves(found.pixel_curves, alone.pixel_curves)
    assert (alone.kinds, found.kinds.keys()) == ({}, kinds_there)
    for kind, measures in found.kinds.items():
        rows = [i for i, letter in enumerate(letters) if letter == "n" or species[i] == kind]
        known = [i for i in rows if content["has_mask"][i]]
        scores = {
            label: np.array([content["images"][i].score for i in rows if content["images"][i].label == label])
            for label in (0, 1)
        }
        pixels, _ = pixel_measures(content["maps"][known], content["masks"][known])
        expected = {key: pixels[name] for key, name in PIXEL_MEASURES.items()}
        ranked = ranking_measures(scores[0], scores[1])
        expected |= {key: ranked[name] for key, name in IMAGE_MEASURES.items()}
        assert measures == {"images": species.count(kind), **expected}


@pytest.mark.parametrize(
    "species", [[""] * 6, ["", "", "hole", "hole", "hole", "hole"], ["good", "ok", *["hole"] * 4], []]
)
def test_one_kind_of_anomaly_is_the_whole_class(species):
    assert measure_class(**make_class("nnaaaa"), species=species).kinds == {}


def test_draws_hold_for_the_class_whatever_kinds_there_are():
    content, species = make_class("anaanx"), ["hole", "", "cut", "hole", "", "cut"]
    found = measure_class(**copy(content), species=species, bootstrap=BOOTSTRAP).draws
    expected = measure_class(**copy(content), bootstrap=BOOTSTRAP).draws
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=1e-12), key


def test_kinds_take_no_copy_of_the_maps():
    content = make_class("naanaanaa")
    side = 400
    content["maps"] = np.random.default_rng(0).random((9, side, side), np.float32)
    content["masks"] = np.zeros((9, side, side), bool)
    content["masks"][[1, 2, 4, 5, 7, 8], :20, :20] = True
    species = ["", "hole", "cut"] * 3
    tracemalloc.start()
    found = measure_class(**content, species=species)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(found.kinds) == {"hole", "cut"}
    assert peak < content["maps"].nbytes / 2
