"""Image files written byte by byte, with what a reader is to find in them.

No library writes them, so that none that reads them is taken at its word.
"""

from dataclasses import dataclass

import numpy as np

HEIGHT, WIDTH, TILE, STRIP = 21, 37, 16, 12  # sides that no tile or strip divides, nor eight
UPRIGHT = {  # TIFF's tag 274 -> how stored pixels [H, W, ...] become upright
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True)
class ImageFile:
    """A file, and what it shows."""

    kind: str
    how: str  # it is stored
    suffix: str
    content: bytes
    shown: np.ndarray  # upright, grey [H, W] or RGB [H, W, 3], from 0 to 1; others where a value lies beyond
    tolerance: float  # of what is shown, in levels of 255


def pack(samples: np.ndarray, bits: int, form: str, order: str) -> bytes:
    """Samples [rows, n] as a file has them, each row beginning with a byte."""
    if bits in (8, 16, 32, 64):
        return samples.astype(f"{order}{form}{bits // 8}").tobytes()
    places = samples.astype(np.int64)[..., None] >> np.arange(bits)[::-1] & 1
    return np.packbits(places.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()
