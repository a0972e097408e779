"""Pictures of the demo set: a class, with or without a defect, as image and mask."""

import itertools
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from demo import defects, parts, surfaces
from demo.scene import Array, Camera, Scene

VISIBLE = 0.035  # a change of one colour channel that a careful eye can see, full scale being 1
SMALLEST = 320  # pixels of a 256 pixel picture: a defect of a smaller mask is drawn again,
LARGEST = 0.12  # and so is one that covers a larger share of the picture for each defect,
FAINTEST = 0.1  # or that changes its mask by less than this on the average
TRIES = 40

DEFECTS: Mapping[str, tuple[str, ...]] = {  # kinds of each class
    "circuit": ("scratch", "contamination", "spot", "missing"),
    "fabric": ("spot", "contamination", "broken", "missing"),
    "foil": ("scratch", "spot", "dent", "broken", "missing"),
    "gear": ("scratch", "crack", "contamination", "broken", "missing"),
    "leather": ("scratch", "crack", "spot", "dent", "missing"),
    "metal": ("scratch", "spot", "contamination", "dent", "missing"),
    "tablet": ("crack", "spot", "contamination", "dent", "broken"),
    "tile": ("crack", "spot", "contamination", "broken", "missing"),
    "washer": ("scratch", "spot", "dent", "broken"),
    "wood": ("scratch", "crack", "spot", "dent"),
}
CLASSES: tuple[str, ...] = tuple(DEFECTS)
_DRAW = vars(surfaces) | vars(parts) | vars(defects)  # a class or a defect is drawn by the function of its name

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def render(
    class_name: str, kinds: Sequence[str], rng: np.random.Generator, size: int = 256, scale: float = 1
) -> tuple[Picture, Picture, Mask]:
    """Draw one part or surface twice: sound, and with defects of these kinds, none for a second sound picture.

    Gives both pictures, uint8 RGB [S, S, 3], and where they differ visibly, bool [S, S]. Three draws are taken from
    `rng`: seeds of the scene, of the camera and of the defects. The `size` is in pixels, the `scale` a factor of the
    defects' size; it changes nothing of what is missing.
    """
    scene_seed, camera_seed, defect_seed = (int(seed) for seed in rng.integers(2**62, size=3))
    draw_scene = partial(_DRAW[class_name], size=size)
    camera = Camera(np.random.default_rng(camera_seed), size)
    defect_rng = np.random.default_rng(defect_seed)
    least, most = SMALLEST * (scale * size / 256) ** 2, LARGEST * size**2 * max(1, len(kinds))
    for attempt in itertools.count(1):
        scene = faulty_scene = draw_scene(np.random.default_rng(scene_seed))
        if "missing" in kinds:
            faulty_scene = draw_scene(np.random.default_rng(scene_seed), missing=True)
        for kind in (one for one in kinds if one != "missing"):
            faulty_scene = _with_defect(faulty_scene, kind, defect_rng, scale)
        sound, faulty = camera.photograph(scene), camera.photograph(faulty_scene)
        mask = _visible_change(sound, faulty, scale * size / 256)
        in_bounds = least <= np.count_nonzero(mask) <= most
        plain = in_bounds and np.abs(faulty - sound).max(-1)[mask].mean() >= FAINTEST
        # On a small picture a kind may always be too small: then the next one that can be seen at all will do.
        if not kinds or plain or (attempt > TRIES and mask.any()):
            break
        scene_seed = int(defect_rng.integers(2**62))  # nothing to see, or too much: another specimen
    return camera.expose(sound), camera.expose(faulty), mask


def _with_defect(scene: Scene, kind: str, rng: np.random.Generator, scale: float) -> Scene:
    """The scene with a defect of a kind; a small one is drawn on a part of the scene, as large as the scale says."""
    if scale == 1:
        return _DRAW[kind](scene, rng)
    side = max(16, round(scale * scene.size))
    rows, columns = np.nonzero(scene.part[side // 2 : -side // 2, side // 2 : -side // 2] > 0.99)
    place = rng.integers(len(rows))
    part = tuple(slice(corner, corner + side) for corner in (rows[place], columns[place]))
    ground = scene.ground if scene.ground.ndim == 1 else scene.ground[part]
    cut = Scene(scene.albedo[part], scene.height[part] / scale, scene.part[part], ground, scene.gloss)
    faulty = _DRAW[kind](cut, rng)
    albedo, height, whole = scene.albedo.copy(), scene.height.copy(), scene.part.copy()
    albedo[part], height[part], whole[part] = faulty.albedo, faulty.height * scale, faulty.part
    return replace(scene, albedo=albedo, height=height, part=whole)


def _visible_change(sound: Array, faulty: Array, unit: float) -> Mask:
    """Mark where two pictures ([S, S, 3], before noise) differ by more than `VISIBLE`, without specks and pinholes.

    These are measured in units of so many pixels.
    """
    change = cv2.GaussianBlur(np.abs(faulty - sound).max(-1), (0, 0), 0.6 * unit)
    mask = (change > VISIBLE).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(2 * unit) + 1,) * 2)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= 12 * unit**2
    large[0] = False
    return large[labels]


def drawing_processes(count: int) -> ProcessPoolExecutor:
    """Start processes to draw in, with one thread each.

    They are spawned: forked ones would inherit the locks of OpenCV's threads, but not the threads, and could wait for
    ever.
    """
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), cv2.setNumThreads, (1,))
