"""PNGs of every kind, see `image_files`."""

import struct
import zlib
from collections.abc import Iterator
from itertools import product

import numpy as np

from tests.datasets.image_files import HEIGHT, UPRIGHT, WIDTH, ImageFile, pack


def png(samples: np.ndarray, bits: int, colour_type: int, *, interlaced: bool = False, rest: bytes = b"") -> bytes:
    """A PNG of stored samples [H, W, channels]; `rest` are chunks before the pixels."""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    data = b""
    for y, x, down, right in passes:
        part = samples[y::down, x::right]
        packed = pack(part.reshape(len(part), -1), bits, "u", ">")
        length = len(packed) // len(part)
        data += b"".join(b"\0" + packed[row * length : (row + 1) * length] for row in range(len(part)))
    height, width = samples.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    chunks = chunk(b"IHDR", head) + rest + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_files() -> Iterator[ImageFile]:
    """PNGs over the matrix of colour types, depths, interlacing, transparency and orientation."""
    rng = np.random.default_rng(2)
    forms = {0: ("grey", 1), 2: ("RGB", 3), 3: ("palette", 1), 4: ("grey and alpha", 2), 6: ("RGB and alpha", 4)}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour_type, (name, channels) in forms.items():
        for bits, interlaced, transparent, orientation in product(
            depths[colour_type], (False, True), (False, True), UPRIGHT
        ):
            if transparent and colour_type > 3:
                continue
            samples = np.rint((2**bits - 1) * rng.random((HEIGHT, WIDTH, channels)))
            shown, rest = samples[..., :3] / (2**bits - 1), b""
            if colour_type in (0, 4):
                shown = shown[..., 0]
            if colour_type == 3:
                colours = rng.integers(0, 256, (1 << bits, 3))
                shown = colours[samples[..., 0].astype(int)] / 255
                rest = chunk(b"PLTE", bytes(colours.ravel().tolist()))
            if transparent:
                rest += chunk(b"tRNS", bytes([0, 128]) if colour_type == 3 else bytes(2 * channels))
            exif = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHIHH", 274, 3, 1, orientation, 0) + bytes(4)
            rest += chunk(b"eXIf", exif)
            content = png(samples, bits, colour_type, interlaced=interlaced, rest=rest)
            how = f"interlaced {interlaced}, transparent {transparent}, orientation {orientation}"
            upright = UPRIGHT[orientation](shown)
            yield ImageFile(f"PNG {name} {bits} bits", how, ".png", content, upright, 0.501)
