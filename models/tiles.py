"""Overlapping windows over a picture, and the one map that theirs are blended to, without seams.

The windows of a picture form a grid. Along each axis a window's weights rise from its edges to its middle (a triangle),
divided by the sum of the weights of all windows over a pixel; the weight in the plane is the product of both axes'. So
the weights sum to one in every pixel, and a window counts for nothing where it begins.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a picture is cut into tiles."""

    side: int  # of a tile, in pixels of the scaled picture
    overlap: float = 0.25  # least share of its side that a tile has in common with the next, in [0, 1)
    scale: float = 1.0  # that the picture is resized by before it is cut
    context: bool = True  # whether the tiles' map is averaged with that of the whole picture


class Window(NamedTuple):
    """The part of a picture that a tile shows, and what its map counts there."""

    rows: slice
    columns: slice
    row_weights: Tensor  # float32 [h]; the weights are the products of these
    column_weights: Tensor  # and these, float32 [w]


def windows(height: int, width: int, tiling: Tiling) -> list[Window]:
    """Cover a picture with the fewest windows, row by row and evenly spread; a side shorter than a tile's has one."""
    columns = list(_along_axis(width, tiling))
    return [
        Window(rows, across, row_weights, column_weights)
        for rows, row_weights in _along_axis(height, tiling)
        for across, column_weights in columns
    ]


def _along_axis(extent: int, tiling: Tiling) -> Iterator[tuple[slice, Tensor]]:
    side = min(tiling.side, extent)
    step = max(1, math.floor(tiling.side * (1 - tiling.overlap)))
    count = 1 + math.ceil((extent - side) / step)
    starts = [round(place * (extent - side) / max(1, count - 1)) for place in range(count)]
    triangle = 1 - (2 * (torch.arange(side, dtype=torch.float64) + 0.5) / side - 1).abs()
    total = torch.zeros(extent, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += triangle
    for start in starts:
        part = slice(start, start + side)
        yield part, (triangle / total[part]).float()


def cut(picture: np.ndarray, window: Window, side: int) -> np.ndarray:
    """Cut a window's tile, uint8 [side, side, 3], out of a picture [H, W, 3].

    Where the picture is smaller it is continued by its mirror image, below and to the right, at the scale it has.
    """
    part = picture[window.rows, window.columns]
    missing = [(0, side - extent) for extent in part.shape[:2]]
    return np.pad(part, [*missing, (0, 0)], mode="symmetric")


def blend_in(total: Tensor, window: Window, tile_map: Tensor) -> None:
    """Add the map of a window's tile [side, side] to the picture's map [H, W], in place, with the window's weights."""
    part = total[window.rows, window.columns]
    inside = tile_map[: part.shape[0], : part.shape[1]]
    part += window.row_weights[:, None] * window.column_weights * inside
