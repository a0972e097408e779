"""The measures of a class in bootstrap draws, against measuring each draw's images."""

import numpy as np
import pytest

from tests.utils.test_measures import example
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
    return {"labels": labels, "scores": scores, "maps": maps, "masks": masks, "has_mask": has_mask}


def drawn(content: dict, row: np.ndarray) -> dict:
    """The class of one draw."""
    index = np.repeat(np.arange(len(row)), row)
    arrays = {key: content[key][index].copy() for key in ("scores", "maps", "masks", "has_mask")}
    return {"labels": [content["labels"][i] for i in index], **arrays}


def copy(content: dict) -> dict:
    return drawn(content, np.ones(len(content["labels"]), int))


def kinds(content: dict) -> np.ndarray:
    labels = [-1 if label is None else label for label in content["labels"]]
    masks = content["masks"]
    return np.stack([labels, content["has_mask"], masks.any((1, 2)), ~masks.all((1, 2))], axis=1).astype(int)


@pytest.mark.parametrize("letters", ["nnnaaaa", "nnaaxx?", "anexaan?", "aaaa", "nae"])
def test_draws_are_the_measures_of_the_images_drawn(letters):
    content = make_class(letters)
    measures, notes, draws, _ = measure_class("bolt", **copy(content), bootstrap=BOOTSTRAP)
    assert (measures, notes, {}) == measure_class("bolt", **copy(content))[:3]
    defined = [key for key in (*PIXEL_MEASURES, *IMAGE_MEASURES) if measures[key] is not None]
    assert list(draws) == defined
    for number, row in enumerate(BOOTSTRAP.draw("bolt", kinds(content))):
        expected, _, _, _ = measure_class("bolt", **drawn(content, row))
        for key in defined:
            assert draws[key][number] == pytest.approx(expected[key], rel=1e-12), key


def test_a_mask_of_anomalous_pixels_alone_leaves_every_draw_defined():
    content = make_class("aana")
    content["masks"][:] = True
    content["masks"][2, 3:, :] = False
    content["labels"][2] = 1
    _, _, draws, _ = measure_class("bolt", **copy(content), bootstrap=BOOTSTRAP)
    assert all(np.isfinite(values).all() for values in draws.values())
    assert set(draws) == set(PIXEL_MEASURES)


def test_nothing_that_is_undefined_has_draws():
    content = make_class("nnn")
    measures, _, draws, _ = measure_class("bolt", **copy(content), bootstrap=BOOTSTRAP)
    assert set(measures.values()) == {None}
    assert draws == {}
    content["masks"][:] = True
    assert measure_class("bolt", **copy(content), bootstrap=BOOTSTRAP)[2] == {}


def test_without_maps_the_image_measures_are_drawn_all_the_same():
    content = make_class("nnnnnxxxxx")
    content["maps"], content["masks"] = content["maps"][:0], content["masks"][:0]
    _, _, draws, _ = measure_class("bolt", **content, bootstrap=BOOTSTRAP)
    assert set(draws) == set(IMAGE_MEASURES)
    assert draws["auroc_sp"].std() > 0
