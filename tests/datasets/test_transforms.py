"""Resizing and normalising, against torchvision and hand-made cases."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from datasets.transforms import (
    CLIP_MEAN,
    CLIP_STD,
    image_from_tensor,
    image_transform,
    mask_transform,
    normalised,
    resize_rgb,
    unnormalised,
)


def noise(height, width):
    values = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_mean_and_deviation_are_clips():
    assert CLIP_MEAN == open_clip.OPENAI_DATASET_MEAN
    assert CLIP_STD == open_clip.OPENAI_DATASET_STD


@pytest.mark.parametrize("shape", [(37, 53), (20, 90), (48, 48), (5, 5)])
def test_images_are_normalised_once_a_batch_as_by_torchvisions_pipeline(shape):
    image = noise(*shape)
    expected = transforms.Compose(
        [
            transforms.Resize((48, 48), InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )(image)
    levels = image_transform(image, 48)
    assert (levels.shape, levels.dtype, levels.is_contiguous()) == ((3, 48, 48), torch.uint8, True)
    assert torch.equal(normalised(levels), expected)
    batch = normalised(torch.stack([levels, levels.flip(2)]))
    assert (batch.dtype, batch.is_contiguous()) == (torch.float32, True)
    assert torch.equal(batch, torch.stack([expected, expected.flip(2)]))


def test_every_level_is_normalised_as_by_torchvision():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = transforms.functional.normalize(transforms.functional.to_tensor(levels), CLIP_MEAN, CLIP_STD)
    assert torch.equal(normalised(image_transform(Image.fromarray(levels), 16)), expected)


def test_the_picture_is_what_the_tensor_holds():
    image = noise(37, 53)
    picture = resize_rgb(image, 48)
    assert picture.shape == (48, 48, 3)
    assert picture.dtype == np.uint8
    tensor = image_transform(image, 48)
    np.testing.assert_array_equal(image_from_tensor(tensor), picture)
    tensor = normalised(tensor).permute(1, 2, 0) * torch.tensor(CLIP_STD) + torch.tensor(CLIP_MEAN)
    np.testing.assert_allclose(tensor.numpy() * 255, picture, atol=1e-3)


def test_images_are_got_back_from_what_is_normalised():
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8))
    tensor = normalised(levels)
    before = tensor.clone()
    assert torch.equal(unnormalised(tensor), levels)
    assert torch.equal(tensor, before)


def test_a_mask_of_the_right_size_is_kept():
    mask = np.random.default_rng(0).random((16, 16)) > 0.5
    result = mask_transform(mask, (16, 16))
    assert result.dtype == torch.bool
    np.testing.assert_array_equal(result.numpy(), mask)


@pytest.mark.parametrize(("height", "width", "size"), [(64, 48, 16), (16, 12, 48), (31, 57, 24)])
def test_a_mask_is_resized_bilinear_then_binarised(height, width, size):
    mask = np.random.default_rng(1).random((height, width)) > 0.6
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    resized = transforms.Resize((size, size), InterpolationMode.BILINEAR)(grey)
    expected = transforms.ToTensor()(resized)[0] > 0.5
    assert 0 < expected.sum() < size * size
    assert torch.equal(mask_transform(mask, (size, size)), expected)


def test_mask_and_image_keep_together():
    mask = np.zeros((40, 80), bool)
    mask[:20, 40:] = True
    expected = torch.zeros(20, 20, dtype=torch.bool)
    expected[:10, 10:] = True
    assert torch.equal(mask_transform(mask, (20, 20)), expected)
    picture = resize_rgb(Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB"), 20)
    assert torch.equal(torch.from_numpy(picture[..., 0] > 127), expected)
