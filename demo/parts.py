"""Parts of the demo set that lie on a ground: washer, gear, tablet, circuit board.

As in `demo.surfaces`, what a function draws from `rng` does not depend on `missing`.
"""

from typing import Any

import cv2
import numpy as np

from demo.scene import Array, Scene, cloud, hue, inside, mix, plane, posed_plane, specimen, table


def _bevel(distance: Array, width: float, rise: float) -> Array:
    """Relief of a flat part with rounded edges: 0 on the outline, `rise` from `width` inwards."""
    inner = np.clip(-distance / np.float32(width), 0, 1)
    return np.float32(rise) * np.sqrt(1 - (1 - inner) ** 2)


def washer(rng: np.random.Generator, size: int) -> Scene:
    """One or two turned metal rings of one kind."""
    scale, places = ((1.0, [(0, 0)]), (0.6, [(-58, -36), (58, 36)]))[int(rng.integers(2))]
    u, v = posed_plane(rng, size, 6)
    outer, bore = rng.uniform(82, 100), rng.uniform(0.34, 0.54)
    colour = hue(rng, 0.35, 0.75, 0.06) * np.float32([[1, 1, 1], [1.15, 0.95, 0.65]][int(rng.integers(2))])
    rise, flute = rng.uniform(2, 4.5), rng.uniform(0.02, 0.06)
    lathe = np.convolve(rng.standard_normal(600).astype(np.float32), np.ones(2) / 2, "same").astype(np.float32)
    rounds = [np.hypot(u - x - rng.uniform(-5, 5), v - y - rng.uniform(-5, 5)) for x, y in places]
    rings = [np.maximum(round_ - outer * scale, bore * outer * scale - round_) for round_ in rounds]
    distance, radius = np.min(rings, axis=0), np.choose(np.argmin(rings, axis=0), rounds)
    grooves = np.interp(radius * 4, np.arange(600), lathe).astype(np.float32)
    wear = 1 + flute * grooves + 0.06 * cloud(rng, size, 40) + 0.03 * cloud(rng, size, 2.5)
    height = _bevel(distance, 5, rise) + 0.08 * grooves
    return specimen(colour * wear[..., None], height, table(rng, size), 0.65, inside(distance))


def gear(rng: np.random.Generator, size: int, missing: bool = False) -> Scene:
    """A cog wheel with bore, keyway and holes; `missing`: one tooth is missing."""
    u, v = posed_plane(rng, size, 10)
    teeth, outer = int(rng.integers(10, 19)), rng.uniform(92, 110)
    depth = rng.uniform(1.6, 2.1) * np.pi * outer / teeth / 2.4
    angle, round_ = np.arctan2(v, u), np.hypot(u, v)
    turn = angle * teeth / (2 * np.pi)
    number = np.round(turn)
    flank = np.clip(3.2 * (0.27 - np.abs(turn - number)) + 0.5, 0, 1)
    flank = flank * flank * (3 - 2 * flank)
    gone = (number % teeth == rng.integers(teeth)) & missing
    flank = np.where(gone, rng.uniform(0, 0.3) * flank, flank)
    distance = (round_ - (outer - depth + depth * flank)) * 0.8
    bore = outer * rng.uniform(0.16, 0.26)
    key = np.maximum(np.abs(u) - bore * 0.28, np.abs(v - bore) - bore * 0.3)
    distance = np.maximum(distance, np.maximum(bore - round_, -key))
    holes, orbit = int(rng.choice([0, 4, 5, 6])), outer * 0.5
    if holes:
        turn = angle / (2 * np.pi) * holes
        sector = (turn - np.round(turn)) * 2 * np.pi / holes
        hole = np.hypot(round_ * np.cos(sector) - orbit, round_ * np.sin(sector))
        distance = np.maximum(distance, outer * 0.12 - hole)
    hub = inside(round_ - bore * 1.7, 4)
    rim = inside(outer - 1.8 * depth - round_, 4)
    colour = hue(rng, 0.25, 0.7, 0.06) * np.float32([[1, 1, 1], [1.1, 0.95, 0.7]][int(rng.integers(2))])
    wear = 1 + 0.07 * cloud(rng, size, 50) + 0.03 * cloud(rng, size, 3, 2)
    ground = table(rng, size)
    height = _bevel(distance, 3.5, 3) + 2 * hub + 2 * rim + 0.05 * cloud(rng, size, 3)
    return specimen(colour * wear[..., None], height, ground, rng.uniform(0.2, 0.6), inside(distance))


def _lettering(word: str, size: int, at: tuple[float, float], scale: float) -> Array:
    """Coverage [S, S] of a word that begins at the point `at`; `scale` 1 gives letters about 22 high."""
    unit = size / 256
    canvas = np.zeros((size, size), np.uint8)
    corner = (round((at[0] + 128) * unit), round((at[1] + 128) * unit))
    thickness = max(1, round(3 * scale * unit))
    cv2.putText(canvas, word, corner, cv2.FONT_HERSHEY_SIMPLEX, scale * unit, 255, thickness, cv2.LINE_AA)
    return canvas / np.float32(255)


def _imprint(rng: np.random.Generator, u: Array, v: Array) -> Array:
    """A letter on the left and a digit on the right of a tablet's score line, coverage [S, S]."""
    size = len(u)
    scale = rng.uniform(0.8, 1.3)
    words = ("ABCDEFGHKMNPRSTVX"[int(rng.integers(17))], -20 - 16 * scale), (str(rng.integers(2, 10)), 18)
    both = np.max([_lettering(word, size, (x, 11 * scale), scale) for word, x in words], axis=0)
    place = (np.float32((line + 128) * (size / 256)) for line in (u, v))
    return cv2.remap(both, *place, cv2.INTER_LINEAR)


def tablet(rng: np.random.Generator, size: int) -> Scene:
    """A pressed tablet, round to long, with a score line, plain, speckled or in two colours."""
    u, v = posed_plane(rng, size, 10)
    radius = rng.uniform(60, 76)
    reach = rng.choice([0.0, 0.0, 20.0, 36.0])
    round_ = np.hypot(np.maximum(np.abs(u) - reach, 0), v)
    distance = round_ - radius
    first, second = hue(rng, 0.45, 0.78, 0.18), hue(rng, 0.45, 0.78, 0.25)
    style, halves = int(rng.integers(3)), inside(u, 1.5)[..., None]
    grain = np.clip(2 * cloud(rng, size, 5) - 2.2, 0, 1)[..., None]
    speckled = first * (1 - 0.6 * grain) + 0.6 * second * grain
    albedo = (first, first * halves + second * (1 - halves), speckled)[style]
    dome = np.sqrt(np.clip(1 - (round_ / radius) ** 2 * 0.9, 0, 1))
    height = rng.uniform(14, 24) * dome + 0.12 * cloud(rng, size, 4, 2)
    line = np.exp(-((u / rng.uniform(2.2, 3.4)) ** 2))
    height = height - rng.uniform(1.5, 3.5) * line * inside(distance + 4, 4)
    height = height - rng.uniform(0.8, 1.6) * _imprint(rng, u, v)
    height = height - rng.choice([0.0, 1.5]) * np.exp(-(((distance + radius * 0.16) / 2.5) ** 2))
    wear = 1 + 0.04 * cloud(rng, size, 40) + 0.035 * cloud(rng, size, 4, 2)
    return specimen(albedo * wear[..., None], height, table(rng, size), rng.uniform(0.05, 0.4), inside(distance))


class _Board:
    """Colour and relief of a circuit board while its pieces are put on, each within its own small window."""

    def __init__(self, size: int, colour: Array) -> None:
        self.line = plane(size)[0][0]  # x of the columns, and y of the rows
        self.albedo = np.full((size, size, 3), colour, np.float32)
        self.height = np.zeros((size, size), np.float32)

    def lay(self, shape: Array, colour: Array, rise: float, window: Any = ...) -> None:
        """Cover `shape` (coverage, as large as `window`) with a colour, raised by `rise`."""
        self.albedo[window] = mix(self.albedo[window], colour, shape)
        self.height[window] = self.height[window] * (1 - 0.5 * shape) + np.float32(rise) * shape

    def put(
        self, at: tuple[float, float], half: tuple[float, float], colour: Array, rise: float, disc: bool = False
    ) -> None:
        """Put a rectangle with half sides `half` around the point `at`, or a disc with that radius."""
        columns, rows = (np.abs(self.line - centre) < reach + 2 for centre, reach in zip(at, half, strict=True))
        x, y = np.abs(self.line[columns] - at[0]), np.abs(self.line[rows] - at[1])[:, None]
        distance = np.hypot(x, y) - half[0] if disc else np.maximum(x - half[0], y - half[1])
        self.lay(inside(distance), colour, rise, np.ix_(rows, columns))


def _component(board: _Board, rng: np.random.Generator, cx: float, cy: float, fitted: bool) -> None:
    """Put one component with its solder pads at (cx, cy); its pads alone if not `fitted`."""
    kind, upright = int(rng.integers(4)), bool(rng.integers(2))
    long_, wide = rng.uniform(14, 20), rng.uniform(9, 12)
    solder, body = hue(rng, 0.62, 0.8, 0.05), hue(rng, 0.06, 0.16, 0.15)
    tan, can = np.float32([0.62, 0.5, 0.36]) * hue(rng, 0.8, 1.1, 0.1), hue(rng, 0.6, 0.8, 0.05)

    # pieces: place along the component, half sides, colour, rise, and whether it is a disc
    if kind == 0:  # an integrated circuit: legs on both long sides, a mark at one end
        bare = [(leg, 2, wide + 6, solder, 0.8) for leg in np.arange(-long_ + 3, long_ - 2, 7)]
        bare.append((0, long_, wide - 1, 0.5 * board.albedo[0, 0], 0.2))
        pieces = [(0, long_, wide, body, 4), (-long_ + 5, 2, 2, 2.5 * body, 3.5)]
    elif kind == 1:  # an electrolytic capacitor: a can with a dark mark
        bare = [(place, 3.5, 4, solder, 0.8) for place in (-6, 6)]
        pieces = [(0, wide + 4, wide + 4, can, 6, True), (-wide + 2, 2.5, 6, body, 6)]
    else:  # a resistor (dark) or a ceramic capacitor (tan)
        bare = [(place, 5, 7, solder, 0.8) for place in (-13, 13)]
        pieces = [(0, 13, 7, body if kind == 2 else tan, 3), *((place, 2.5, 7, solder, 3) for place in (-11, 11))]
    for place, half_x, half_y, *surface in bare + pieces * fitted:
        if upright:
            board.put((cx, cy + place), (half_y, half_x), *surface)
        else:
            board.put((cx + place, cy), (half_x, half_y), *surface)


def circuit(rng: np.random.Generator, size: int, missing: bool = False) -> Scene:
    """A populated circuit board; `missing`: one component was not fitted, its pads are bare."""
    mask_colours = ([0.06, 0.3, 0.14], [0.06, 0.16, 0.36], [0.32, 0.06, 0.07], [0.1, 0.1, 0.11])
    colour = np.float32(mask_colours[int(rng.integers(4))]) * hue(rng, 0.8, 1.3, 0.1)
    board = _Board(size, colour)
    copper = np.clip(colour * 1.55 + 0.03, 0, 1)
    for street in (-108, -36, 36, 108):  # buses of traces run between the rows of components
        for lane in range(int(rng.integers(2, 5))):
            board.put((0, street + 5 * lane - 8), (128, 0.9), copper, 0.5)
        x = 24 * rng.integers(-4, 5)
        board.put((x, street - 8), (3.4, 3.4), np.float32([0.75, 0.65, 0.4]), 0.7, disc=True)
        board.put((x, street - 8), (1.4, 1.4), np.float32([0.05, 0.05, 0.05]), 0, disc=True)
    cells = [(x, y) for x in (-72, 0, 72) for y in (-72, 0, 72)]
    silk = np.zeros((size, size), np.float32)
    for place, cell in enumerate(rng.permutation(len(cells))):
        x, y = cells[int(cell)]
        at = (x + rng.uniform(-4, 4), y + rng.uniform(-3, 3))
        silk = np.maximum(silk, _lettering(f"{'RCUQ'[place % 4]}{place}", size, (at[0] + 17, at[1] + 21), 0.38))
        _component(board, rng, *at, fitted=not (missing and place == 0))
    board.lay(0.85 * silk, np.float32([0.8, 0.8, 0.78]), 0.3)
    wear = 1 + 0.05 * cloud(rng, size, 60) + 0.03 * cloud(rng, size, 2.5)
    angle, scale = rng.uniform(-9, 9) + 90 * rng.integers(4), rng.uniform(0.95, 1.15)
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), angle, scale)
    turn[:, 2] += rng.uniform(-8, 8, 2) * size / 256
    views = (board.albedo, board.height)
    albedo, height = (cv2.warpAffine(view, turn, (size, size), borderMode=cv2.BORDER_REFLECT) for view in views)
    return specimen(albedo * wear[..., None], height, table(rng, size), 0.45)
