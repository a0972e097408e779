"""Draw the demo set: industrial surfaces and parts with defects, laid out like MVTec AD, made from a seed alone."""

import argparse
import json
import logging
import multiprocessing
import shutil
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from data import mvtec
from datasets.meta import write_meta
from datasets.registry import get_spec
from demo.render import CLASSES, DEFECTS, render
from utils.arguments import non_negative_int, positive_int
from utils.errors import UserError, run
from utils.files import atomic_open, write_json

logger = logging.getLogger(__name__)

VERSION = 3  # to be raised with every change of what is drawn
META = "meta.json"
MARKER = "generated.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a demo set is made from; the same recipe gives the same bytes.

    Attributes:
        seed: of everything random.
        train: sound images a class for training.
        normal: sound test images a class.
        anomalous: faulty test images a class, shared out among its kinds of defect.
        size: width and height in pixels.
    """

    seed: int = 0
    train: int = 10
    normal: int = 12
    anomalous: int = 20
    size: int = 256


@dataclass(frozen=True)
class _Job:
    """One image to draw, and where it goes."""

    root: Path
    class_name: str
    split: str
    kind: str  # "good" or the defect
    index: int
    recipe: Recipe


def generate(root: Path, recipe: Recipe = Recipe(), workers: int = 2) -> bool:
    """Draw the demo set into `root` and write its `meta.json`, unless it is there already.

    Args:
        root: the folder; a set of another recipe in it is replaced, anything else is refused.
        recipe: what to draw.
        workers: processes to draw with; the images do not depend on it.

    Returns:
        whether anything had to be drawn.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    marker = root / MARKER
    wanted = {"version": VERSION, **asdict(recipe)}
    if marker.is_file():
        if json.loads(marker.read_text(encoding="utf-8")) == wanted:
            return False
    elif root.is_dir() and {path.name for path in root.iterdir()} - {*CLASSES, META}:
        raise UserError(f"{root} holds something other than a demo set; choose another folder with --root")
    marker.unlink(missing_ok=True)
    for name in CLASSES:
        shutil.rmtree(root / name, ignore_errors=True)
    jobs = list(_jobs(root, recipe))
    # Forked processes would inherit the locks of OpenCV's threads, but not the threads, and could wait for ever.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread) as executor:
        drawn = executor.map(_draw, jobs, chunksize=8)
        for _ in tqdm(drawn, total=len(jobs), desc="drawing", unit="image", disable=None):
            pass
    write_meta(root / META, mvtec.read(root).meta())
    write_json(marker, wanted)
    return True


def _jobs(root: Path, recipe: Recipe) -> Iterator[_Job]:
    for name in CLASSES:
        for split, count in (("train", recipe.train), ("test", recipe.normal)):
            for index in range(count):
                yield _Job(root, name, split, "good", index, recipe)
        kinds = DEFECTS[name]
        for index in range(recipe.anomalous):
            yield _Job(root, name, "test", kinds[index % len(kinds)], index // len(kinds), recipe)


def image_rng(seed: int, class_name: str, split: str, kind: str, index: int) -> np.random.Generator:
    """The generator of one image, so that each can be drawn without the others."""
    names = zlib.crc32(f"{class_name}/{split}/{kind}".encode())
    return np.random.default_rng([seed, names, index])


def _draw(job: _Job) -> None:
    rng = image_rng(job.recipe.seed, job.class_name, job.split, job.kind, job.index)
    defect = None if job.kind == "good" else job.kind
    picture, mask = render(job.class_name, defect, rng, job.recipe.size)
    folder = job.root / job.class_name
    _write_png(folder / job.split / job.kind / f"{job.index:03}.png", picture)
    if defect:
        _write_png(folder / "ground_truth" / job.kind / f"{job.index:03}_mask.png", mask.astype(np.uint8) * 255)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    with atomic_open(path, "wb") as file:
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Recipe()
    root = Path(__file__).resolve().parents[1] / get_spec("demo").folder
    parser.add_argument("--root", type=Path, default=root, help="folder to write to (default: %(default)s)")
    parser.add_argument(
        "--seed", type=non_negative_int, default=default.seed, help="of everything random (default: %(default)s)"
    )
    for name, what in (
        ("train", "sound training images a class"),
        ("normal", "sound test images a class"),
        ("anomalous", "faulty test images a class, shared out among its kinds of defect"),
    ):
        parser.add_argument(
            f"--{name}", type=positive_int, default=getattr(default, name), help=f"{what} (default: %(default)s)"
        )
    parser.add_argument("--workers", type=positive_int, default=2, help="processes to draw with (default: %(default)s)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    recipe = Recipe(seed=args.seed, train=args.train, normal=args.normal, anomalous=args.anomalous)
    if not generate(args.root, recipe, args.workers):
        print(f"{args.root} holds this demo set already")


if __name__ == "__main__":
    run(main)
