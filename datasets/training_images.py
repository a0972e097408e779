"""The images DP-CLIP is trained on, augmented in each epoch: colours before, places after resizing, masks alike."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional

from datasets.loader import ItemDataset
from datasets.meta import Entry
from datasets.transforms import image_transform, normalised

COLOUR_PROBABILITY = 0.7
COLOUR_RANGE = 0.5  # factors from 1 - 0.5 to 1 + 0.5
PLACE_PROBABILITY = 0.5
MAX_ANGLE = 30.0  # degrees
MAX_SHIFT = 0.15  # of the side


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to one image; the defaults leave it as it is."""

    brightness: float = 1.0  # a factor, as the next two, applied in this order
    contrast: float = 1.0
    saturation: float = 1.0
    angle: float = 0.0  # of a rotation about the centre, in degrees
    shift: tuple[float, float] = (0.0, 0.0)  # to the right and down, as shares of the side
    flip_horizontally: bool = False
    flip_vertically: bool = False

    @classmethod
    def draw(cls, seed: int, epoch: int, index: int) -> "Augmentation":
        """Draw the augmentation of an image in an epoch, which depends on these three numbers only."""
        rng = np.random.default_rng((seed, epoch, index))

        def factor() -> float:
            value = rng.uniform(1 - COLOUR_RANGE, 1 + COLOUR_RANGE)
            return value if rng.random() < COLOUR_PROBABILITY else 1.0

        def chosen() -> bool:
            return bool(rng.random() < PLACE_PROBABILITY)

        return cls(  # in this order
            brightness=factor(),
            contrast=factor(),
            saturation=factor(),
            angle=chosen() * rng.uniform(-MAX_ANGLE, MAX_ANGLE),
            shift=tuple((chosen() * rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2)).tolist()),
            flip_horizontally=chosen(),
            flip_vertically=chosen(),
        )

    def recolour(self, image: Image.Image) -> Image.Image:
        """Change the colours of an RGB image."""
        for name in ("brightness", "contrast", "saturation"):
            if (factor := getattr(self, name)) != 1:
                image = getattr(functional, f"adjust_{name}")(image, factor)
        return image

    def move(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [C, S, S], rotated, shifted and mirrored: nearest neighbour, and 0 where nothing was."""
        if self.angle:
            pixels = functional.rotate(pixels, self.angle)
        if any(self.shift):
            offset = [round(share * pixels.shape[-1]) for share in self.shift]
            pixels = functional.affine(pixels, angle=0, translate=offset, scale=1, shear=[0, 0])
        axes = [axis for axis, flips in ((2, self.flip_horizontally), (1, self.flip_vertically)) if flips]
        return pixels.flip(axes) if axes else pixels


@dataclass(frozen=True, kw_only=True)
class TrainingImages(ItemDataset):
    """Images, each normal or with a mask, as they are trained on in one epoch, whatever the batch and the worker.

    An image's augmentation depends on the seed, the epoch and its number.
    """

    image_size: int  # side S in pixels
    augmented: bool
    seed: int
    epoch: int

    def read(self, entry: Entry, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        augmentation = Augmentation.draw(self.seed, self.epoch, number) if self.augmented else Augmentation()
        colours = augmentation.recolour(self.images.load(entry))
        image = augmentation.move(normalised(image_transform(colours, self.image_size)))
        mask = self.images.read_mask(entry, (self.image_size, self.image_size), nearest=True)
        if entry.anomaly != 0:
            mask = augmentation.move(mask[None].float())[0] != 0
        return image, mask
