"""A few pictures of the demo set's objects, drawn in some seconds, to try a page with."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from demo.draw import image_rng
from demo.render import render

EXAMPLES = {"washer": ("broken", "scratch"), "wood": ("crack", "spot")}  # object -> defects
NORMAL = 9  # pictures of each object to calibrate on


class ExamplePictures(NamedTuple):
    """Pictures of an object, the last of them sound, and others that are all sound."""

    object: str
    pictures: list[Path]
    normal: list[Path]


def draw_examples(folder: Path) -> Iterator[ExamplePictures]:
    """Draw the examples into a folder."""
    for name, defects in EXAMPLES.items():
        pictures = [_draw(folder, name, kind, 0) for kind in (*defects, "good")]
        yield ExamplePictures(name, pictures, [_draw(folder, name, "good", 1 + number) for number in range(NORMAL)])


def _draw(folder: Path, name: str, kind: str, number: int) -> Path:
    picture, _ = render(name, None if kind == "good" else kind, image_rng(0, f"{name}/{kind}/{number}.png"))
    path = folder / f"{name}_{kind}_{number}.png"
    Image.fromarray(picture).save(path)
    return path
