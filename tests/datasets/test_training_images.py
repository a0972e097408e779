"""Augmentation: its draws, and that image and mask move together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from datasets.image_set import ImageSet
from datasets.meta import Entry
from datasets.registry import get_spec
from datasets.training_images import Augmentation, TrainingImages
from datasets.transforms import image_transform, normalised
from utils.errors import UserError

SIZE = 40


def test_draws_depend_on_seed_epoch_and_image_only():
    first = Augmentation.draw(111, 1, 7)
    assert Augmentation.draw(111, 1, 7) == first
    others = {Augmentation.draw(*numbers) for numbers in ((112, 1, 7), (111, 2, 7), (111, 1, 8))}
    assert len(others | {first}) == 4


def test_draws_have_the_described_frequencies_and_ranges():
    draws = [Augmentation.draw(0, 1, index) for index in range(4000)]
    for name in ("brightness", "contrast", "saturation"):
        values = np.array([getattr(draw, name) for draw in draws])
        changed = values[values != 1]
        assert len(changed) / len(values) == pytest.approx(0.7, abs=0.03)
        assert 0.5 <= changed.min() < 0.51
        assert 1.49 < changed.max() <= 1.5
    for values, bound in (
        (np.array([draw.angle for draw in draws]), 30),
        (np.array([draw.shift[0] for draw in draws]), 0.15),
        (np.array([draw.shift[1] for draw in draws]), 0.15),
    ):
        changed = values[values != 0]
        assert len(changed) / len(values) == pytest.approx(0.5, abs=0.03)
        assert -bound <= changed.min() < -0.98 * bound
        assert 0.98 * bound < changed.max() <= bound
    assert all((draw.shift[0] == 0) == (draw.shift[1] == 0) for draw in draws)
    for name in ("flip_horizontally", "flip_vertically"):
        assert np.mean([getattr(draw, name) for draw in draws]) == pytest.approx(0.5, abs=0.03)


def test_draws_of_different_kinds_are_independent():
    draws = [Augmentation.draw(0, 1, index) for index in range(4000)]
    columns = np.array(
        [(d.brightness != 1, d.contrast != 1, d.angle != 0, d.shift[0] != 0, d.flip_horizontally) for d in draws]
    )
    correlation = np.corrcoef(columns.T.astype(float)) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 0.08


def test_colours_are_those_of_pillow_in_the_described_order():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    changed = Augmentation(brightness=1.3, contrast=0.6, saturation=1.4).recolour(image)
    expected = ImageEnhance.Brightness(image).enhance(1.3)
    expected = ImageEnhance.Contrast(expected).enhance(0.6)
    expected = ImageEnhance.Color(expected).enhance(1.4)
    assert np.array_equal(np.asarray(changed), np.asarray(expected))
    assert Augmentation().recolour(image) is image


def test_places_change_as_described():
    pixels = torch.zeros(1, SIZE, SIZE)
    pixels[0, 10, 5] = 1

    def place(**changes) -> list[list[int]]:
        return Augmentation(**changes).move(pixels)[0].nonzero().tolist()

    assert place() == [[10, 5]]
    assert place(flip_horizontally=True) == [[10, SIZE - 1 - 5]]
    assert place(flip_vertically=True) == [[SIZE - 1 - 10, 5]]
    assert place(shift=(0.1, 0.05)) == [[12, 9]]
    assert place(shift=(-0.15, 0)) == []
    assert place(angle=90.0) == [[SIZE - 1 - 5, 10]]


def test_nothing_but_zeros_comes_in_from_outside():
    moved = Augmentation(angle=30.0, shift=(0.15, -0.15)).move(torch.ones(1, SIZE, SIZE))
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    assert moved[0, 0, 0] == 0


@pytest.fixture
def folder(tmp_path):
    """An image that is white where its mask is set, of another shape than the square it becomes."""
    mask = np.zeros((60, 90), np.uint8)
    mask[15:33, 20:65] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(np.repeat(mask[..., None], 3, axis=2)).save(tmp_path / "bad.png")
    Image.fromarray(np.full((60, 90, 3), 90, np.uint8)).save(tmp_path / "good.png")
    return tmp_path


BAD = Entry("bad.png", "mask.png", "thing", "scratch", 1)
GOOD = Entry("good.png", "", "thing", "good", 0)


def images(folder, entries=(BAD, GOOD), **changes) -> TrainingImages:
    options = {"image_size": SIZE, "first": 0, "augmented": True, "seed": 0, "epoch": 1}
    return TrainingImages(images=ImageSet(get_spec("folder"), folder, entries), **{**options, **changes})


def test_the_mask_moves_with_its_image(folder):
    black, white = (normalised(image_transform(Image.new("RGB", (1, 1), c), 1))[0, 0, 0] for c in ("black", "white"))
    for number in range(30):
        draw = Augmentation.draw(0, 1, number)
        item = images(folder, first=number)[0]
        plain = replace(draw, brightness=1.0, contrast=1.0, saturation=1.0)
        red = plain.move(images(folder, augmented=False)[0].images)[0]
        sure = (red == black) | (red == white)  # not the blurred edge, nor what comes in from outside
        assert sure.float().mean() > 0.3
        assert torch.equal(item.masks[sure], red[sure] == white)


def test_an_image_is_the_same_whatever_is_read_before_it(folder):
    one, other = images(folder, epoch=3), images(folder, epoch=3)
    other[0]
    assert torch.equal(one[1].images, other[1].images)
    assert not torch.equal(images(folder, epoch=4)[1].images, one[1].images)


def test_numbers_are_counted_through_data_sets(folder):
    together, second = images(folder, (BAD, BAD, GOOD)), images(folder, (GOOD,), first=2)
    assert second[0].indices == together[2].indices == 2
    assert torch.equal(second[0].images, together[2].images)


def test_without_augmentation_an_image_is_as_it_is_tested(folder):
    item = images(folder, augmented=False)[0]
    assert torch.equal(item.images, normalised(image_transform(Image.open(folder / "bad.png"), SIZE)))
    rows, columns = item.masks.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 21, 9, 28)


def test_a_normal_image_has_an_empty_mask(folder):
    assert not images(folder)[1].masks.any()


def test_a_missing_file_is_an_error_in_the_items_place(folder):
    (folder / "mask.png").unlink()
    error = images(folder)[0]
    assert isinstance(error, UserError)
    assert "mask.png" in str(error)
