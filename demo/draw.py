"""Draw the demo set: industrial surfaces and parts with defects, laid out like MVTec AD, made from a seed alone.

python demo/draw.py
"""

import fcntl
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.meta import About, Entry, Meta, write_meta
from datasets.registry import get_spec
from demo.render import DEFECTS, drawing_processes, render
from utils.arguments import NonNegativeInt, Options, PositiveInt, ProcessCount, Rate, option, parse
from utils.errors import UserError, run
from utils.files import atomic_open, write_json
from utils.json_files import read_json
from utils.names import log_to_terminal

VERSION = 3  # to be raised with every change of what is drawn
META = "meta.json"
MARKER = "generated.json"
EXAMPLES = {"washer": ("broken", "scratch"), "wood": ("crack", "spot")}  # object -> defects, to try a page with
NORMAL = 9  # pictures of each object to calibrate on


class Recipe(Options):
    """What a demo set is made from; the same recipe gives the same bytes."""

    seed: NonNegativeInt = option("of everything random", 0)
    train: PositiveInt = option("sound training images a class", 10)
    normal: PositiveInt = option("sound test images a class", 12)
    anomalous: PositiveInt = option("faulty test images a class, shared out among its kinds of defect", 20)
    size: PositiveInt = option("width and height in pixels", 256)
    defect_scale: Rate | None = option("factor of the defects' size, without those of a missing piece; default: 1")


STANDARD = Recipe()


class DrawingOptions(Recipe):
    """How it is drawn."""

    root: Path = option("folder to write to", get_spec("demo").folder)
    workers: ProcessCount = option("processes to draw with", 2)


def generate(root: Path, recipe: Recipe = STANDARD, workers: int = 2) -> bool:
    """Draw the demo set into the folder `root`, unless it is there already; returns whether it had to be drawn.

    The set is drawn in a folder beside `root` and moved there when it is whole, by one process at a time: another that
    wants the same set waits, and then has it. A set of another recipe is replaced, anything else refused. The images do
    not depend on the number of processes that draw, `workers`.
    """
    root = root.resolve()
    if _is_there(root, recipe):
        return False
    work = root.with_name(f".{root.name}.drawing")
    try:
        work.mkdir(parents=True, exist_ok=True)
        with (work / "lock").open("a") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)  # which ends with the process, however that ends
            if _is_there(root, recipe):
                return False
            for left_behind in work.glob("*/"):
                shutil.rmtree(left_behind, ignore_errors=True)
            # Never a folder of before: a killed process's workers may still be drawing into it.
            with tempfile.TemporaryDirectory(dir=work) as folder:
                whole = Path(folder) / "new"
                _draw_set(whole, recipe, workers)
                if root.exists():
                    root.replace(Path(folder) / "old")
                whole.replace(root)
    except OSError as error:
        raise UserError(f"cannot write {root}: {error.strerror or error}") from error
    return True


def _is_there(root: Path, recipe: Recipe) -> bool:
    """Whether `root` holds the whole set; anything but a demo set in it is refused."""
    marker = root / MARKER
    if marker.is_file():
        return asdict(STANDARD) | read_json(marker, dict[str, Any]) == {"version": VERSION, **asdict(recipe)}
    if root.exists() and (not root.is_dir() or {path.name for path in root.iterdir()} - {*DEFECTS, META}):
        raise UserError(f"{root} holds something other than a demo set; choose another folder with --root")
    return False


def _draw_set(root: Path, recipe: Recipe, workers: int) -> None:
    meta = _meta(recipe)
    entries = [entry for classes in meta.values() for entries in classes.values() for entry in entries]
    with drawing_processes(workers) as executor:
        drawn = executor.map(partial(_draw, root, recipe), entries, chunksize=8)
        list(tqdm(drawn, total=len(entries), desc="drawing", unit="image", disable=None))
    write_meta(root / META, meta, About([]))  # with nothing wrong, which tests look after
    write_json(root / MARKER, {"version": VERSION, **asdict(recipe)})


def _meta(recipe: Recipe) -> Meta:
    """List the images of a demo set."""
    meta: Meta = {"train": {}, "test": {}}
    for name, kinds in DEFECTS.items():
        kinds = [kind for kind in kinds if recipe.defect_scale is None or kind != "missing"]
        faulty = {kind: len(range(place, recipe.anomalous, len(kinds))) for place, kind in enumerate(kinds)}
        tested = sorted({"good": recipe.normal, **faulty}.items())
        for split, counts in (("train", [("good", recipe.train)]), ("test", tested)):
            meta[split][name] = [_entry(name, split, kind, index) for kind, count in counts for index in range(count)]
    return meta


def _entry(name: str, split: str, kind: str, index: int) -> Entry:
    mask = "" if kind == "good" else f"{name}/ground_truth/{kind}/{index:03}_mask.png"
    return Entry(f"{name}/{split}/{kind}/{index:03}.png", mask, name, kind, int(kind != "good"))


def image_rng(seed: int, img_path: str) -> np.random.Generator:
    """Return the generator of one image, `gear/test/good/003.png`, so that each can be drawn without the others."""
    folder, _, file = img_path.rpartition("/")
    return np.random.default_rng([seed, zlib.crc32(folder.encode()), int(Path(file).stem)])


def _draw(root: Path, recipe: Recipe, entry: Entry) -> None:
    rng, kinds = image_rng(recipe.seed, entry.img_path), [entry.specie_name] * entry.anomaly
    _, picture, mask = render(entry.cls_name, kinds, rng, recipe.size, recipe.defect_scale or 1)
    files = {entry.img_path: picture} | ({entry.mask_path: mask.astype(np.uint8) * 255} if entry.mask_path else {})
    for path, pixels in files.items():
        with atomic_open(root / path, "wb") as file:
            Image.fromarray(pixels).save(file, "PNG", compress_level=1)


def draw_examples(folder: Path) -> Iterator[tuple[list[Path], str, list[Path]]]:
    """Draw the examples into a folder: pictures of an object, the last of them sound, its name, and more sound ones."""
    for name, defects in EXAMPLES.items():
        pictures = [_draw_example(folder, name, kind, 0) for kind in (*defects, "good")]
        yield pictures, name, [_draw_example(folder, name, "good", 1 + number) for number in range(NORMAL)]


def _draw_example(folder: Path, name: str, kind: str, number: int) -> Path:
    _, picture, _ = render(name, [kind] * (kind != "good"), image_rng(0, f"{name}/{kind}/{number}.png"))
    path = folder / f"{name}_{kind}_{number}.png"
    Image.fromarray(picture).save(path)
    return path


def main() -> None:
    recipe = asdict(parse(DrawingOptions, __doc__, None))
    root, workers = recipe.pop("root"), recipe.pop("workers")
    log_to_terminal()
    if not generate(root, Recipe(**recipe), workers):
        print(f"{root} holds this demo set already")


if __name__ == "__main__":
    run(main)
