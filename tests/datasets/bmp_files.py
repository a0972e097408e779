"""BMPs of every kind, see `image_files`."""

import struct
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from tests.datasets.image_files import HEIGHT, WIDTH, ImageFile, pack


def bmp(
    stored: np.ndarray,
    bits: int,
    colours: np.ndarray | None = None,
    *,
    header: int = 40,
    top_down: bool = False,
    compression: int = 0,
    masks: Sequence[int] = (),
) -> bytes:
    """A BMP of stored pixels [H, W], whole numbers of `bits`; if they are indices, of RGB `colours` [n, 3]."""
    height, width = stored.shape
    rows = stored if top_down else stored[::-1]
    if compression in (1, 2):
        data = run_lengths(rows, bits)
    else:
        packed = pack(rows[..., None], bits, "u", "<") if bits >= 8 and bits != 24 else None
        if bits == 24:
            packed = np.stack([rows >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8).tobytes()
        elif bits < 8:
            packed = pack(rows, bits, "u", "<")
        length = len(packed) // height
        data = b"".join(packed[y * length : (y + 1) * length].ljust(-(-length // 4) * 4, b"\0") for y in range(height))
    table = b""
    if colours is not None:
        table = b"".join(struct.pack("3B", *colour[::-1]) + b"\0" * (header != 12) for colour in colours.tolist())
    if header == 12:
        about = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        listed = 0 if colours is None or len(colours) == 1 << bits else len(colours)
        tall = -height if top_down else height
        about = struct.pack("<IiiHHIIiiII", header, width, tall, 1, bits, compression, len(data), 0, 0, listed, 0)
        about += struct.pack(f"<{len(masks)}I", *masks)
        about = about.ljust(header, b"\0")
    start = 14 + len(about) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + about + table + data


def run_lengths(rows: np.ndarray, bits: int) -> bytes:
    """RLE8 or RLE4: each pixel a run of its own, each row ended, and the picture."""
    ended = b"".join(b"".join(bytes([1, value << (8 - bits)]) for value in row) + b"\0\0" for row in rows.tolist())
    return ended + b"\0\1"


def bmp_files() -> Iterator[ImageFile]:
    """BMPs over the matrix of depths, tables of colours, headers, directions and compressions."""
    rng = np.random.default_rng(1)
    grey = np.arange(256)[:, None].repeat(3, axis=1)
    tables = {
        "black and white": grey[[0, 255]],
        "white and black": grey[[255, 0]],
        "two greys": grey[:2],
        "two colours": rng.integers(0, 256, (2, 3)),
        "four greys": grey[:4],
        "sixteen greys": grey[:16],
        "sixteen greys up to white": grey[::17],
        "sixteen colours": rng.integers(0, 256, (16, 3)),
        "256 greys": grey,
        "256 greys, white first": grey[::-1],
        "256 colours": rng.integers(0, 256, (256, 3)),
    }
    for (name, table), bits in product(tables.items(), (1, 4, 8)):
        if len(table) > 1 << bits:
            continue
        stored = rng.integers(0, len(table), (HEIGHT, WIDTH))
        for header, top_down, compression in product((12, 40, 108, 124), (False, True), (0, 1, 2)):
            if compression and (bits != {1: 8, 2: 4}[compression] or top_down):
                continue
            if header == 12 and (top_down or compression or len(table) < 1 << bits):
                continue
            content = bmp(stored, bits, table, header=header, top_down=top_down, compression=compression)
            how = f"header {header}, top down {top_down}, compression {compression}"
            yield ImageFile(f"BMP {bits} bits, {name}", how, ".bmp", content, table[stored] / 255, 0.5)
    layouts = {
        "16 bits 555": (16, 0, (), (0x7C00, 0x3E0, 0x1F)),
        "16 bits 555 by masks": (16, 3, (0x7C00, 0x3E0, 0x1F), (0x7C00, 0x3E0, 0x1F)),
        "16 bits 565": (16, 3, (0xF800, 0x7E0, 0x1F), (0xF800, 0x7E0, 0x1F)),
        "16 bits 444 by masks": (16, 3, (0xF00, 0xF0, 0xF), (0xF00, 0xF0, 0xF)),
        "24 bits": (24, 0, (), (0xFF0000, 0xFF00, 0xFF)),
        "32 bits": (32, 0, (), (0xFF0000, 0xFF00, 0xFF)),
        "32 bits by masks": (32, 3, (0xFF0000, 0xFF00, 0xFF), (0xFF0000, 0xFF00, 0xFF)),
        "32 bits, red last": (32, 3, (0xFF, 0xFF00, 0xFF0000), (0xFF, 0xFF00, 0xFF0000)),
        "32 bits and alpha": (32, 3, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF0000, 0xFF00, 0xFF)),
        "32 bits of ten a colour": (32, 3, (0x3FF00000, 0xFFC00, 0x3FF), (0x3FF00000, 0xFFC00, 0x3FF)),
    }
    for (name, (bits, compression, masks, colours)), header, top_down in product(
        layouts.items(), (12, 40, 108, 124), (False, True)
    ):
        if (header == 12 and (bits != 24 or top_down)) or (header == 40 and len(masks) == 4):
            continue
        stored = rng.integers(0, 1 << bits, (HEIGHT, WIDTH))
        parts = [(stored & mask) / mask for mask in colours]
        content = bmp(stored, bits, header=header, top_down=top_down, compression=compression, masks=masks)
        how = f"header {header}, top down {top_down}"
        yield ImageFile(f"BMP {name}", how, ".bmp", content, np.stack(parts, axis=2), 1.01)
