"""What a picture of the demo set is made of: a scene (colour, relief, silhouette), a camera that lights it.

All lengths are in pixels of a picture 256 wide, whatever size is drawn, so that a scene looks the same at any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A part or surface before it is lit."""

    albedo: Array  # [S, S, 3], colour of the part's material, 0 to 1
    height: Array  # [S, S], relief of the part, in pixels of a 256 pixel picture
    part: Array  # [S, S], 1 where the part is, 0 where the ground behind it is seen, between on its outline
    ground: Array  # [3] or [S, S, 3], colour of what lies behind the part
    gloss: float  # how strongly highlights show, 0 (matt) to 1

    @property
    def size(self) -> int:
        return self.height.shape[0]

    def painted(self, colour: Array, alpha: Array) -> "Scene":
        """The scene with `colour` ([3] or [S, S, 3]) laid over the part with opacity `alpha` [S, S]."""
        return replace(self, albedo=mix(self.albedo, np.float32(colour), alpha))

    def raised(self, relief: Array) -> "Scene":
        """The scene with `relief` [S, S] added to the part's height."""
        return replace(self, height=self.height + relief)


class Camera:
    """Light and sensor of a picture of `size` pixels, drawn from `rng`: the same for a part and for its faulty twin."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.8)
        self.light = slope * np.cos(angle), slope * np.sin(angle), np.sqrt(1 - slope**2)
        x, y = plane(size)
        direction = rng.uniform(0, 2 * np.pi)
        ramp = (x * np.cos(direction) + y * np.sin(direction)) / 128
        vignette = (x**2 + y**2) / 128**2
        falloff = rng.uniform(0.85, 1.2) * (1 + rng.uniform(0, 0.22) * ramp - rng.uniform(0, 0.12) * vignette)
        self.falloff = falloff.astype(np.float32)  # [S, S], uneven brightness of the lamp
        grain = rng.standard_normal((size, size, 3), dtype=np.float32)
        self.noise = grain * np.float32(rng.uniform(0.004, 0.014))  # [S, S, 3], in units of full scale
        self.ambient = rng.uniform(0.35, 0.6)
        self.tint = (1 + rng.uniform(-0.06, 0.06, 3)).astype(np.float32)
        self.blur = rng.uniform(0.3, 0.7)

    def photograph(self, scene: Scene) -> Array:
        """Light a scene: Lambert's diffuse term, a Blinn-Phong highlight, the part's soft shadow on the ground.

        Gives the picture before sensor noise, float32 [S, S, 3], 0 to 1.
        """
        unit = 256 / scene.size  # 256-pixel units per pixel drawn
        height = np.float32(scene.height)
        slope_x = cv2.Scharr(height, cv2.CV_32F, 1, 0, scale=1 / (32 * unit))
        slope_y = cv2.Scharr(height, cv2.CV_32F, 0, 1, scale=1 / (32 * unit))
        length = np.sqrt(1 + slope_x**2 + slope_y**2)
        lx, ly, lz = (np.float32(v) for v in self.light)
        diffuse = np.maximum((lz - lx * slope_x - ly * slope_y) / length, 0)
        half = np.float32(np.sqrt(lx**2 + ly**2 + (lz + 1) ** 2))
        facing = np.maximum((lz + 1 - lx * slope_x - ly * slope_y) / (length * half), 0)
        highlight = np.float32(0.5 * scene.gloss) * facing**24
        lit = scene.albedo * (self.ambient + (1.15 - self.ambient) * diffuse)[..., None] + highlight[..., None]

        dx, dy = (-8 * v / unit for v in self.light[:2])
        move = np.float32([[1, 0, dx], [0, 1, dy]])
        shade = cv2.warpAffine(scene.part, move, scene.part.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        shade = cv2.GaussianBlur(shade, (0, 0), 4 / unit)
        picture = mix(scene.ground * (1 - 0.45 * shade)[..., None], lit, scene.part)
        picture = picture * self.falloff[..., None] * self.tint
        return np.clip(cv2.GaussianBlur(picture, (0, 0), self.blur / unit), 0, 1).astype(np.float32)

    def expose(self, picture: Array) -> NDArray[np.uint8]:
        """Add the sensor's noise to a picture and round it to uint8 [S, S, 3]."""
        return np.rint(np.clip(picture + self.noise, 0, 1) * 255).astype(np.uint8)


def specimen(albedo: Array, height: Array, ground: Array, gloss: float, part: Array | None = None) -> Scene:
    """Make a scene of a part, which fills the picture unless its silhouette `part` is given; see `Scene`."""
    part = np.ones(height.shape, np.float32) if part is None else part
    return Scene(np.clip(albedo, 0, 1).astype(np.float32), height.astype(np.float32), part, ground, gloss)


def mix(under: Array, over: Array, cover: Array) -> Array:
    """Lay a colour over another ([3] or [S, S, 3] each) with opacity `cover` [S, S], 0 to 1."""
    return under * (1 - cover[..., None]) + over * cover[..., None]


def plane(size: int, x0: float = 0, y0: float = 0) -> Sequence[Array]:
    """Coordinates x, y of the pixel centres from the point (x0, y0), or from the picture's middle, each [S, S]."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * 256
    return np.meshgrid(line - np.float32(x0), line - np.float32(y0))


def posed_plane(rng: np.random.Generator, size: int, shift: float) -> tuple[Array, Array]:
    """The plane's coordinates seen by a part turned by any angle and moved by up to `shift`."""
    angle = rng.uniform(-np.pi, np.pi)
    x, y = plane(size, *rng.uniform(-shift, shift, 2))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def cloud(rng: np.random.Generator, size: int, scale: float, octaves: int = 1) -> Array:
    """Smooth noise of about unit variance, features `scale` wide, each further octave half as wide and strong."""
    total, weights = np.zeros((size, size), np.float32), 0.5 ** np.arange(octaves)
    for weight in weights:
        cells = max(2, round(256 / (weight * scale)))
        coarse = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)  # the rim is cut off again
        fine = cv2.resize(coarse, None, fx=size / cells, fy=size / cells, interpolation=cv2.INTER_CUBIC)
        offset = (fine.shape[0] - size) // 2
        total += np.float32(weight) * fine[offset : offset + size, offset : offset + size]
    return total * np.float32(1.35 / np.sqrt(np.sum(weights**2)))


def inside(distance: Array, soft: float = 1.0) -> Array:
    """Coverage, 0 to 1, of a shape given by its signed distance (negative inside); the edge is `soft` wide."""
    return np.clip(np.float32(0.5) - distance / np.float32(soft), 0, 1)


def hue(rng: np.random.Generator, low: float, high: float, saturation: float) -> Array:
    """A random colour, float32 [3]: brightness between `low` and `high`, up to `saturation` away from grey."""
    grey = rng.uniform(low, high)
    return np.clip(grey * (1 + rng.uniform(-saturation, saturation, 3)), 0.02, 0.98).astype(np.float32)


def table(rng: np.random.Generator, size: int) -> Array:
    """A plain but uneven ground to lay parts on, float32 [S, S, 3]."""
    colour = hue(rng, 0.12, 0.8, 0.1)
    grain, scale = rng.uniform(0.02, 0.07), rng.uniform(2.5, 6)
    wear = 1 + 0.05 * cloud(rng, size, 90) + grain * cloud(rng, size, scale, 2)
    return np.clip(colour * wear[..., None], 0, 1)
