"""The measures of a class in bootstrap draws, against measuring each draw's images."""

import numpy as np
import pytest

from tests.utils.test_measures import example
from utils.evaluation_types import ImageScore
from utils.measures.bootstrap import Bootstrap
from utils.measures.class_measures import IMAGE_MEASURES, PIXEL_MEASURES, measure_class

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


@pytest.mark.parametrize("letters", ["nnnaaaa", "nnaaxx?", "anexaan?", "aaaa", "nae"])
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
