"""Small data sets for the builders' tests, and what was built from them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.build import build_meta
from datasets.meta import Entry, Meta, read_meta
from datasets.registry import get_spec

PROJECT = Path(__file__).resolve().parents[1]
SHAPE = (6, 8)


def put(path: Path, value: int | None = None, shape: tuple[int, int] = SHAPE) -> Path:
    """A small grey image of one value, black to the right if that is 255; without one, one that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(shape, value or 0, np.uint8)
    if value == 255:  # a mask
        pixels[:, shape[1] // 2 :] = 0
    if value is None:
        pixels = np.random.default_rng(list(os.fsencode(path))).integers(0, 255, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def put_text(path: Path, text: str) -> None:
    """A text file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mvtec_class(folder: Path, normal: str = "good") -> None:
    """One class laid out as MVTec's: two training images, one normal and two cracked test images, masks."""
    for number in (10, 2):  # written in the wrong order
        put(folder / "train" / normal / f"{number:02}.png")
        put(folder / "test" / "crack" / f"{number}.png")
        put(folder / "ground_truth" / "crack" / f"{number}_mask.png", 255)
    put(folder / "test" / normal / "0.png")


def build(name: str, root: Path, *out: Path, protocol: str | None = None, **options: Any) -> Path:
    """The list that is built of `root` as the data set of that name."""
    return build_meta(get_spec(name, protocol), root, *out, **options)


def built(name: str, root: Path, **options: Any) -> Meta:
    """What is read from the list that is built of `root` as the data set of that name."""
    return read_meta(build(name, root, **options), root)


def paths(entries: list[Entry]) -> list[tuple[str, str, int | None]]:
    """Image, mask and label of each entry."""
    return [(entry.img_path, entry.mask_path, entry.anomaly) for entry in entries]
