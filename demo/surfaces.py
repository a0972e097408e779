"""Surfaces of the demo set that fill the picture: fabric, foil, metal, wood, tile, leather.

Each function draws one scene. What it draws from `rng` does not depend on `missing`, so that the same generator
state gives the same surface with and without the piece that is left out.
"""

import cv2
import numpy as np

from demo.scene import Array, Scene, cloud, hue, inside, mix, posed_plane, specimen


def _per_cell(rng: np.random.Generator, cells: Array, spread: float) -> Array:
    """A factor around 1 for each integer cell number in `cells`, standard deviation `spread`."""
    factors = 1 + spread * rng.standard_normal(512)
    return factors.astype(np.float32)[cells.astype(np.int32) % 512]


def fabric(rng: np.random.Generator, size: int, missing: bool = False) -> Scene:
    """Woven cloth, plain or twill; `missing`: a thread is missing over some length."""
    pitch, bind = rng.uniform(8, 13), int(rng.integers(2, 5))
    u, v = posed_plane(rng, size, 40)
    sway = rng.uniform(0.5, 2.5)
    u, v = u + sway * cloud(rng, size, 70), v + sway * cloud(rng, size, 70)
    warp, weft = np.floor(u / pitch), np.floor(v / pitch)
    across, along = u / pitch - warp - 0.5, v / pitch - weft - 0.5
    warp_colour, weft_colour = hue(rng, 0.25, 0.7, 0.35), hue(rng, 0.25, 0.7, 0.35)
    warp_shade, weft_shade = _per_cell(rng, warp, 0.08), _per_cell(rng, weft, 0.08)
    gone = warp == np.floor(rng.uniform(-60, 60) / pitch)
    start, reach = rng.uniform(-90, 50), rng.uniform(25, 90)
    gone &= (v > start) & (v < start + reach) & missing
    ground = hue(rng, 0.05, 0.2, 0.1)
    fuzz = 1 + 0.08 * cloud(rng, size, 2.5)
    on_top = ((warp + weft) % bind < bind // 2) & ~gone
    width, length = np.where(on_top, (across, along), (along, across))  # places on the thread that is seen
    height = np.cos(np.pi * width) * (0.75 + 0.25 * np.cos(np.pi * length))
    albedo = np.where(on_top[..., None], warp_colour * warp_shade[..., None], weft_colour * weft_shade[..., None])
    bare = gone.astype(np.float32) * np.clip(np.abs(along) * 2.2, 0.25, 1)
    albedo = albedo * (fuzz * (1 - 1.2 * width**2))[..., None] * (1 - 0.6 * bare)[..., None]
    return specimen(albedo, 1.6 * (height - 0.5 * bare), ground, 0.05)


def foil(rng: np.random.Generator, size: int, missing: bool = False) -> Scene:
    """Foil with a printed repeat of small shapes; `missing`: one of the shapes was not printed."""
    pitch, shape = rng.uniform(26, 38), int(rng.integers(4))
    u, v = posed_plane(rng, size, 40)
    row = np.floor(v / pitch)
    u = u + pitch / 2 * (row % 2) * rng.integers(2)
    column = np.floor(u / pitch)
    x, y = u - (column + 0.5) * pitch, v - (row + 0.5) * pitch
    radius = pitch * rng.uniform(0.24, 0.36)
    round_ = np.hypot(x, y)
    distance = (
        round_ - radius,
        np.abs(round_ - radius * 0.8) - radius * 0.28,
        (np.abs(x) + np.abs(y) - radius * 1.1) * 0.7,
        np.minimum(np.maximum(abs(x) - radius, abs(y) - radius / 3), np.maximum(abs(y) - radius, abs(x) - radius / 3)),
    )[shape]
    ink = inside(distance, 1.2)
    base, first, second = hue(rng, 0.55, 0.9, 0.2), hue(rng, 0.15, 0.6, 0.5), hue(rng, 0.15, 0.6, 0.5)
    colour = np.where(((column + row) % int(rng.integers(1, 4)) == 0)[..., None], first, second)
    wear = 1 + 0.06 * cloud(rng, size, 60) + 0.03 * cloud(rng, size, 3)
    crinkle = 1.5 * cloud(rng, size, 50, 2)
    missed = (column == np.floor(rng.uniform(-70, 70) / pitch)) & (row == np.floor(rng.uniform(-70, 70) / pitch))
    ground = hue(rng, 0.1, 0.3, 0.1)
    ghost = np.float32(rng.uniform(0, 0.25))  # a faint rest of the ink that failed to take
    ink = np.where(missed & missing, ghost * ink, ink)
    return specimen(mix(base, colour, ink) * wear[..., None], crinkle, ground, 0.35)


def metal(rng: np.random.Generator, size: int, missing: bool = False) -> Scene:
    """A brushed plate with rivets; `missing`: the rivet has fallen out of one hole."""
    wide = round(size * 1.5)
    stroke = rng.uniform(40, 120) * size / 256
    streaks = np.zeros((wide, wide), np.float32)
    for length, weight in ((stroke, 1.0), (stroke / 3, 0.5)):
        grain = rng.standard_normal((wide, wide), dtype=np.float32)
        width = 2 * round(length / 2) + 1
        streaks += np.float32(weight * np.sqrt(width)) * cv2.blur(grain, (width, 1))
    turn = cv2.getRotationMatrix2D((wide / 2, wide / 2), rng.uniform(0, 180), 1)
    turn[:, 2] += (size - wide) / 2
    streaks = cv2.warpAffine(streaks, turn, (size, size), flags=cv2.INTER_LINEAR)
    colour = hue(rng, 0.35, 0.65, 0.08)
    u, v = posed_plane(rng, size, 30)
    pitch = rng.uniform(70, 100)
    column, row = np.floor(u / pitch), np.floor(v / pitch)
    distance = np.hypot(u - (column + 0.5) * pitch, v - (row + 0.5) * pitch)
    radius = rng.uniform(10, 15)
    missed = (np.floor(rng.uniform(-60, 60) / pitch) == column) & (np.floor(rng.uniform(-60, 60) / pitch) == row)
    ground = hue(rng, 0.03, 0.1, 0.1)
    head = np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1)) * inside(distance - radius)
    wear = 1 + 0.05 * cloud(rng, size, 80)
    hole = inside(distance - 0.6 * radius)
    height = 0.16 * streaks
    if missing:
        empty = missed.astype(np.float32)
        height = height * (1 - empty * hole) + (1 - empty) * 0.35 * radius * head - empty * 1.5 * hole
        wear = wear * (1 - 0.7 * empty * hole)
    else:
        height = height + 0.35 * radius * head
    return specimen(colour * ((1 + 0.07 * streaks * (1 - head)) * wear)[..., None], height, ground, 0.7)


def wood(rng: np.random.Generator, size: int) -> Scene:
    """Planed boards with year rings and knots."""
    u, v = posed_plane(rng, size, 30)
    seam_width = rng.uniform(70, 130)
    plank = np.floor(u / seam_width)
    seam = np.abs(u - np.round(u / seam_width) * seam_width)
    offset = 900 * _per_cell(rng, plank, 0.5)
    bend = 9 * cloud(rng, size, 110) + 2 * cloud(rng, size, 40)
    rings = u + bend + offset + v * np.float32(rng.uniform(-0.15, 0.15))
    for _ in range(int(rng.integers(0, 3))):
        cx, cy = rng.uniform(-110, 110, 2)
        radius = rng.uniform(6, 13)
        pull = np.exp(-(((u - cx) / (2.2 * radius)) ** 2 + ((v - cy) / (3.5 * radius)) ** 2))
        rings = rings + np.float32(rng.choice([-1, 1]) * 3.5 * radius) * pull
    period = rng.uniform(9, 20)
    late = (rings / period % 1) ** 3
    streak = cloud(rng, size, 3.5) * 0.6 + np.sin(rings * 2.1) * 0.5
    light = np.float32([0.72, 0.52, 0.33]) * hue(rng, 0.7, 1.15, 0.08)
    grain = np.clip(rng.uniform(0.5, 0.9) * late + 0.12 * streak, 0, 1)
    albedo = mix(light, light * np.float32([0.55, 0.5, 0.45]), grain) * _per_cell(rng, plank, 0.07)[..., None]
    groove = inside(seam - 1.2, 1.5)
    ground = hue(rng, 0.05, 0.15, 0.1)
    height = 0.15 * streak - 1.2 * groove - 0.3 * late
    return specimen(albedo * (1 - 0.6 * groove)[..., None], height, ground, 0.12)


def tile(rng: np.random.Generator, size: int, missing: bool = False) -> Scene:
    """Small glazed tiles set in grout; `missing`: one tile has come off."""
    pitch, ratio = rng.uniform(30, 50), rng.choice([1.0, 1.0, 2.0])
    u, v = posed_plane(rng, size, 40)
    row = np.floor(v / pitch)
    u = u + (row % 2) * pitch * ratio / 2 * rng.integers(2)
    column = np.floor(u / (pitch * ratio))
    x, y = np.abs(u - (column + 0.5) * pitch * ratio), np.abs(v - (row + 0.5) * pitch)
    gap, corner = rng.uniform(2, 3.5), rng.uniform(2, 6)
    side_x, side_y = x - (pitch * ratio / 2 - gap - corner), y - (pitch / 2 - gap - corner)
    distance = np.hypot(np.maximum(side_x, 0), np.maximum(side_y, 0)) - corner
    distance = distance + np.minimum(np.maximum(side_x, side_y), 0) + 0.5 * cloud(rng, size, 12)
    glaze = inside(distance, 1.5)
    number = column * 31 + row * 17
    colour, vary = hue(rng, 0.3, 0.75, 0.3), rng.uniform(0.05, 0.16)
    colour = colour * np.stack([_per_cell(rng, number, vary) for _ in range(3)], -1)
    colour = colour * (1 + 0.05 * cloud(rng, size, 14) + 0.06 * cloud(rng, size, 2.5))[..., None]
    grout = hue(rng, 0.3, 0.8, 0.06) * (1 + 0.08 * cloud(rng, size, 2.5))[..., None]
    missed = column == np.floor(rng.uniform(-70, 70) / pitch / ratio)
    missed &= (row == np.floor(rng.uniform(-70, 70) / pitch)) & missing
    rough = cloud(rng, size, 7, 2)
    ground = hue(rng, 0.1, 0.3, 0.1)
    height = glaze * (1.6 + 0.25 * cloud(rng, size, 30)) * np.clip(-distance / 4, 0.2, 1)
    bare = missed * glaze
    height = height * (1 - bare) + bare * (0.4 * rough - 0.5)
    return specimen(mix(grout, colour, glaze * (1 - bare)), height, ground, 0.3)


def leather(rng: np.random.Generator, size: int, missing: bool = False) -> Scene:
    """Grained leather with a stitched seam; `missing`: a stitch of the seam is missing."""
    grain = rng.uniform(10, 18)
    creases = np.min([np.abs(cloud(rng, size, grain * k)) for k in (1.0, 1.2, 0.8)], axis=0)
    pebble = 1 - np.exp(-3.5 * creases)
    colour = hue(rng, 0.18, 0.55, 0.12) * np.float32([1.25, 0.95, 0.75])
    u, v = posed_plane(rng, size, 60)
    v = v + 4 * cloud(rng, size, 150)
    pitch = rng.uniform(18, 26)
    number = np.floor(u / pitch)
    x = np.abs(u - (number + 0.5) * pitch)
    reach, width = pitch * 0.32, rng.uniform(3.0, 4.5)
    distance = np.hypot(np.maximum(x - reach, 0), v) - width
    trough = np.exp(-((v / 7) ** 2))
    thread_colour = hue(rng, 0.3, 0.85, 0.25) * (1 + 0.15 * np.sin(2.2 * (u + v)))[..., None]
    sewn = ~((number == np.floor(rng.uniform(-80, 80) / pitch)) & missing)
    thread, thread_height = sewn * inside(distance, 1.2), sewn * (1.5 * np.sqrt(np.clip(-distance / width, 0, 1)))
    tone = 1 + 0.08 * cloud(rng, size, 80) + 0.04 * cloud(rng, size, 3)
    ground = hue(rng, 0.5, 0.8, 0.1)
    albedo = mix(colour * (tone * (0.72 + 0.28 * pebble))[..., None], thread_colour, thread)
    height = 1.1 * pebble * (1 - thread) + thread_height - 1.8 * trough
    return specimen(albedo, height, ground, 0.2)
