"""Defects of the demo set: each takes a sound scene and gives the same scene with one fault drawn from `rng`."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.scene import Array, Scene, cloud, hue, inside, plane


def _point(allowed: NDArray[np.bool_], reach: float, rng: np.random.Generator) -> tuple[float, float] | None:
    """A point that is allowed, in [S, S], and within `reach` of the picture's middle; None if there is none."""
    x, y = plane(len(allowed))
    spots = np.flatnonzero(allowed & (np.maximum(np.abs(x), np.abs(y)) < reach))
    if not len(spots):
        return None
    at = spots[int(rng.random() * len(spots))]
    return float(x.flat[at]), float(y.flat[at])


def _place(scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    """A point on the part, well away from the picture's edge."""
    return _point(scene.part > 0.99, 112, rng)


def _lines(size: int, paths: list[Array], width: float) -> Array:
    """Coverage [S, S] of polylines ([n, 2] each, in plane coordinates), `width` wide, anti-aliased."""
    fine = 2  # drawn at twice the size, as OpenCV's lines are whole pixels wide
    unit = fine * size / 256
    canvas = np.zeros((fine * size, fine * size), np.float32)
    for path in paths:
        points = np.rint((path + 128) * unit * 16).astype(np.int32)
        cv2.polylines(canvas, [points[:, None]], False, 1.0, max(1, round(width * unit)), cv2.LINE_AA, 4)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def _walk(rng: np.random.Generator, start: tuple[float, float], steps: int, stride: float, unrest: float) -> Array:
    """A path of `steps` points from `start`; each step turns by about `unrest` radians."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(unrest * rng.standard_normal(steps))
    moves = stride * np.stack([np.cos(heading), np.sin(heading)], -1)
    path = np.cumsum(moves, 0)
    return (path - path[steps // 2] + np.float64(start)).astype(np.float32)


def _blob(scene: Scene, rng: np.random.Generator, radius: float, ragged: float) -> Array:
    """Signed distance of an irregular blob somewhere on the part, [S, S]."""
    x, y = plane(scene.size, *_place(scene, rng))
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.6, 1)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = x * cos + y * sin, (y * cos - x * sin) / np.float32(ratio)
    return np.hypot(u, v) - np.float32(radius) * (1 + np.float32(ragged) * cloud(rng, scene.size, 1.2 * radius))


def scratch(scene: Scene, rng: np.random.Generator) -> Scene:
    """One to three thin grooves, bright or dark, that run almost straight."""
    start, steps = _place(scene, rng), int(rng.integers(20, 50))
    first = _walk(rng, start, steps, 3, 0.06)
    beside = [first + rng.uniform(-7, 7, 2).astype(np.float32) for _ in range(int(rng.integers(3)))]
    mark = _lines(scene.size, [first, *beside], rng.uniform(2.6, 4.6))
    mark = mark * np.clip(0.75 + 0.4 * cloud(rng, scene.size, 14), 0.2, 1)
    strength = rng.uniform(0.4, 0.85)
    tone = np.clip(scene.albedo * rng.choice([0.35, 1.7, 2.2]) + 0.02, 0, 1)
    return scene.painted(tone, strength * mark).raised(np.float32(-rng.uniform(0.4, 1.3)) * mark)


def crack(scene: Scene, rng: np.random.Generator) -> Scene:
    """A dark jagged line with side branches."""
    start, steps = _place(scene, rng), int(rng.integers(14, 36))
    trunk = _walk(rng, start, steps, 3.5, 0.45)
    paths = [trunk]
    for _ in range(int(rng.integers(0, 4))):
        at = trunk[int(rng.integers(steps))]
        branch = _walk(rng, (0.0, 0.0), int(rng.integers(4, 10)), 3.5, 0.45)
        paths.append(branch - branch[0] + at)
    mark = _lines(scene.size, paths, rng.uniform(2.2, 4.2))
    dark = scene.albedo * np.float32(rng.uniform(0.25, 0.6))
    return scene.painted(dark, rng.uniform(0.4, 0.85) * mark).raised(np.float32(-1.5) * mark)


def spot(scene: Scene, rng: np.random.Generator) -> Scene:
    """A stain: the material shows through, darker, lighter or of another tint."""
    radius = rng.uniform(11, 30)
    cover = inside(_blob(scene, rng, radius, 0.25), rng.uniform(2, 0.7 * radius))
    cover = cover * np.clip(0.85 + 0.15 * cloud(rng, scene.size, 8), 0, 1)
    tint = np.float32(rng.choice([0.5, 0.6, 1.5])) * np.float32(1 + rng.uniform(-0.25, 0.25, 3))
    return scene.painted(np.clip(scene.albedo * tint, 0, 1), rng.uniform(0.55, 1) * cover)


def contamination(scene: Scene, rng: np.random.Generator) -> Scene:
    """Foreign matter on the part: a crumb, a cluster of grains, or a fibre."""
    kind, colour = int(rng.integers(3)), hue(rng, 0.1, 0.85, 0.35)
    if kind == 0:
        distance = _blob(scene, rng, rng.uniform(9, 18), 0.3)
        rise = 3 * np.sqrt(np.clip(-distance / 5, 0, 1))
        cover = inside(distance, 1.5)
    elif kind == 1:
        middle, count = np.array(_place(scene, rng)), int(rng.integers(7, 18))
        grains = [(middle + 9 * rng.standard_normal(2), rng.uniform(2.5, 5)) for _ in range(count)]
        distance = np.min([np.hypot(*plane(scene.size, *at)) - np.float32(radius) for at, radius in grains], axis=0)
        rise = 1.5 * np.sqrt(np.clip(-distance / 2, 0, 1))
        cover = inside(distance)
    else:
        steps = int(rng.integers(14, 34))
        cover = _lines(scene.size, [_walk(rng, _place(scene, rng), steps, 3, 0.28)], rng.uniform(2.8, 4.6))
        rise = cover
    texture = 1 + 0.15 * cloud(rng, scene.size, 3)
    matter = np.clip(colour * texture[..., None], 0, 1)
    return scene.painted(matter, rng.uniform(0.6, 0.95) * cover).raised(rise.astype(np.float32))


def dent(scene: Scene, rng: np.random.Generator) -> Scene:
    """A hollow or a bump: colour and pattern stay, the relief changes."""
    radius = rng.uniform(12, 28)
    distance = _blob(scene, rng, radius, 0.12)
    bowl = np.clip(-distance / np.float32(radius), 0, 1)
    bowl = bowl * bowl * (3 - 2 * bowl)
    sign = -1 if rng.random() < 0.75 else 1
    bruise = scene.painted(scene.albedo * np.float32(0.8), np.float32(rng.uniform(0.1, 0.7)) * bowl)
    return bruise.raised(np.float32(sign * rng.uniform(0.3, 0.6) * radius) * bowl)


def broken(scene: Scene, rng: np.random.Generator) -> Scene:
    """A piece is broken off at the outline, or out of the middle where the part has no outline in view."""
    solid = (scene.part > 0.5).astype(np.uint8)
    rim = solid - cv2.erode(solid, np.ones((3, 3), np.uint8))
    on_rim = _point(rim > 0, 118, rng)
    x, y = plane(scene.size, *(on_rim or _place(scene, rng)))
    radius = rng.uniform(12, 28) if on_rim else rng.uniform(10, 20)
    jag = 0.22 * cloud(rng, scene.size, 0.9 * radius) + 0.12 * cloud(rng, scene.size, 0.35 * radius)
    distance = np.hypot(x, y) - np.float32(radius) * (1 + jag)
    edge = np.exp(-((np.clip(distance, 0, None) / 2) ** 2)) * scene.part
    frayed = scene.painted(np.clip(scene.albedo * np.float32(rng.uniform(0.6, 1.25)), 0, 1), 0.6 * edge)
    part = scene.part * (1 - inside(distance, 1.2))
    return replace(frayed, part=part, height=frayed.height - np.float32(1.2) * edge)
