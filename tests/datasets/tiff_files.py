"""TIFFs of every kind, see `image_files`."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from tests.datasets.image_files import HEIGHT, STRIP, TILE, UPRIGHT, WIDTH, ImageFile, pack


@dataclass(frozen=True)
class Kind:
    """What the samples of an image mean."""

    name: str
    photometric: int  # of TIFF
    bits: int
    channels: int = 1
    form: str = "u"  # u, i or f, for integers without and with a sign and floating point
    extra: tuple[int, ...] = ()  # what the channels beyond the colours are: 0 anything, 1 and 2 alpha
    subsampling: int = 1  # of the chroma, in both directions

    def samples(self, rng: np.random.Generator) -> np.ndarray:
        """Draw stored samples [H, W, channels], float64: smooth, but of all values there are, and none twice alike."""
        ramp = rng.random((HEIGHT, WIDTH, self.channels))
        if self.form == "f":
            return np.float16(255 * ramp).astype(np.float64)
        top = {32: 65535.0}.get(self.bits, 2.0 ** (self.bits - (self.form == "i")) - 1)
        return np.rint(top * ramp)

    def shown(self, samples: np.ndarray) -> np.ndarray:
        """What samples show, see `ImageFile`."""
        white = 255.0 if self.form == "f" else 65535.0 if self.bits == 32 else 2.0**self.bits - 1
        colours = samples[..., : self.channels - len(self.extra)]
        if self.photometric == 3:
            return colour_map(self.bits)[:, colours[..., 0].astype(int)].transpose(1, 2, 0) / 65535
        parts = colours / white
        if self.photometric == 0:
            return 1 - parts[..., 0]
        if self.photometric == 5:
            return (1 - parts[..., :3]) * (1 - parts[..., 3:])
        if self.photometric == 6:
            y, cb, cr = (colours - (0, 128, 128)).transpose(2, 0, 1)
            return np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2) / 255
        return parts if self.channels - len(self.extra) == 3 else parts[..., 0]

    @property
    def tolerance(self) -> float:
        return {5: 1.01, 6: 1.51}.get(self.photometric, 0.501)


def colour_map(bits: int) -> np.ndarray:
    """A palette, uint16 [3, 2^bits], with entries that a byte can hold."""
    return np.random.default_rng(bits).integers(0, 256, (3, 1 << bits)).astype(np.uint16) * 257


def lzw(data: bytes) -> bytes:
    """LZW of single bytes, its table cleared before codes become longer than 9 bits."""
    codes = [256]
    for start in range(0, len(data), 200):
        codes += [*data[start : start + 200], 256]
    return pack(np.array([[*codes, 257]]), 9, "u", "<")


def pack_bits(data: bytes) -> bytes:
    """PackBits of literals."""
    parts = (data[start : start + 100] for start in range(0, len(data), 100))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


COMPRESSIONS = {1: bytes, 5: lzw, 8: zlib.compress, 32773: pack_bits}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def tiff(
    kind: Kind,
    samples: np.ndarray,
    order: str = "<",
    *,
    orientation: int = 1,
    planar: int = 1,
    compression: int = 1,
    layout: str = "strips",
    fill_order: int = 1,
) -> bytes:
    """A TIFF of stored samples [H, W, channels]."""
    height, width, channels = samples.shape
    rows, columns = {"strips": (STRIP, width), "one strip": (height, width), "tiles": (TILE, TILE)}[layout]
    planes = [samples] if planar == 1 else [samples[..., [channel]] for channel in range(channels)]
    blocks = []
    for plane, y, x in product(planes, range(0, height, rows), range(0, width, columns)):
        block = plane[y : y + rows, x : x + columns]
        if layout == "tiles":
            block = np.pad(block, ((0, rows - block.shape[0]), (0, columns - block.shape[1]), (0, 0)))
        if kind.subsampling > 1:
            block = subsampled(block, kind.subsampling)
        data = COMPRESSIONS[compression](pack(block.reshape(len(block), -1), kind.bits, kind.form, order))
        blocks.append(data.translate(REVERSED) if fill_order == 2 else data)
    tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [kind.bits] * channels),
        259: ("H", [compression]),
        262: ("H", [kind.photometric]),
        266: ("H", [fill_order]),
        274: ("H", [orientation]),
        277: ("H", [channels]),
        284: ("H", [planar]),
        339: ("H", [" uif".index(kind.form)] * channels),
    }
    if kind.photometric == 3:
        tags[320] = ("H", colour_map(kind.bits).ravel().tolist())
    if kind.photometric == 6:
        tags[530] = ("H", [kind.subsampling] * 2)
    if kind.extra:
        tags[338] = ("H", list(kind.extra))
    places, lengths = ("I", [0] * len(blocks)), ("I", [len(block) for block in blocks])
    if layout == "tiles":
        tags |= {322: ("H", [columns]), 323: ("H", [rows]), 324: places, 325: lengths}
    else:
        tags |= {273: places, 278: ("I", [rows]), 279: lengths}
    start = 8 + 2 + 12 * len(tags) + 4
    rest = b""
    sizes = {number: len(values) * struct.calcsize(form) for number, (form, values) in tags.items()}
    start += sum(size + size % 2 for size in sizes.values() if size > 4)
    for index in range(len(blocks)):
        places[1][index] = start + sum(len(one) + len(one) % 2 for one in blocks[:index])
    directory = struct.pack(f"{order}H", len(tags))
    for number, (form, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(data) > 4:
            place = 8 + 2 + 12 * len(tags) + 4 + len(rest)
            rest += data + b"\0" * (len(data) % 2)
            data = struct.pack(f"{order}I", place)
        directory += struct.pack(f"{order}HHI", number, " BAHI".index(form), len(values)) + data.ljust(4, b"\0")
    magic = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    body = b"".join(block + b"\0" * (len(block) % 2) for block in blocks)
    return magic + directory + bytes(4) + rest + body


def subsampled(block: np.ndarray, factor: int) -> np.ndarray:
    """YCbCr [H, W, 3] as it is stored with less chroma: units of brightness, followed by their first chroma."""
    height, width = (-(-side // factor) for side in block.shape[:2])
    padded = np.pad(block, ((0, height * factor - len(block)), (0, width * factor - block.shape[1]), (0, 0)), "edge")
    units = padded.reshape(height, factor, width, factor, 3).swapaxes(1, 2)
    luma = units[..., 0].reshape(height, width, -1)
    return np.concatenate([luma, units[:, :, 0, 0, 1:]], axis=2).reshape(height, -1, 1)


def kinds() -> Iterator[Kind]:
    """The kinds of samples, those that nobody reads among them."""
    for bits in (1, 2, 4, 8, 10, 12, 14, 16, 32):
        yield Kind(f"grey {bits} bits", 1, bits)
        yield Kind(f"grey {bits} bits, 0 is white", 0, bits)
    for bits in (8, 16, 32):
        yield Kind(f"grey {bits} bits with a sign", 1, bits, form="i")
        yield Kind(f"grey {bits} bits with a sign, 0 is white", 0, bits, form="i")
    for bits in (16, 32, 64):
        yield Kind(f"grey floating point {bits} bits", 1, bits, form="f")
        yield Kind(f"grey floating point {bits} bits, 0 is white", 0, bits, form="f")
        yield Kind(f"RGB floating point {bits} bits", 2, bits, 3, form="f")
    for bits in (4, 8, 12, 16, 32):
        yield Kind(f"RGB {bits} bits", 2, bits, 3)
    for bits in (8, 16):
        yield Kind(f"RGB {bits} bits with a sign", 2, bits, 3, form="i")
        yield Kind(f"grey {bits} bits, 0 is white, and alpha", 0, bits, 2, extra=(2,))
        yield Kind(f"CMYK {bits} bits", 5, bits, 4)
        for extra, what in ((0, "anything"), (2, "alpha")):
            yield Kind(f"grey {bits} bits and {what}", 1, bits, 2, extra=(extra,))
            yield Kind(f"RGB {bits} bits and {what}", 2, bits, 4, extra=(extra,))
    for bits in (1, 2, 4, 8):
        yield Kind(f"palette {bits} bits", 3, bits)
    yield Kind("RGB 8 bits and two channels", 2, 8, 5, extra=(0, 0))
    yield Kind("YCbCr 8 bits", 6, 8, 3)
    yield Kind("YCbCr 8 bits, subsampled", 6, 8, 3, subsampling=2)


def tiff_files() -> Iterator[ImageFile]:
    """TIFFs over the matrix of kinds and ways to store them: every fifth way, in one orientation."""
    rng = np.random.default_rng(0)
    for kind in kinds():
        stored = kind.samples(rng)
        if kind.subsampling > 1:  # chroma the same in each unit, as decoders differ in filling it in
            units = stored[:: kind.subsampling, :: kind.subsampling, 1:].repeat(kind.subsampling, 0)
            stored[..., 1:] = units.repeat(kind.subsampling, 1)[:HEIGHT, :WIDTH]
        shown = kind.shown(stored)
        planars = (1, 2) if kind.channels > 1 and kind.subsampling == 1 else (1,)
        fill_orders = (1, 2) if kind.bits <= 8 else (1,)
        ways = product("<>", planars, COMPRESSIONS, ("strips", "one strip", "tiles"), fill_orders)
        for number, (order, planar, compression, layout, fill_order) in enumerate(ways):
            if number % 5 == 0:
                orientation = number % 8 + 1
                options = {"orientation": orientation, "planar": planar, "compression": compression}
                options |= {"layout": layout, "fill_order": fill_order}
                content, upright = tiff(kind, stored, order, **options), UPRIGHT[orientation](shown)
                yield ImageFile(f"TIFF {kind.name}", f"{order} {options}", ".tif", content, upright, kind.tolerance)
