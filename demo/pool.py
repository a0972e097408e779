"""Training pictures of the demonstration model: pairs of a sound and a faulty picture, rendered once, then varied."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import normalize
from tqdm import tqdm

from datasets.transforms import CLIP_MEAN, CLIP_STD, resize_rgb
from demo.render import CLASSES, DEFECTS, Picture, drawing_processes, render

MORE_DEFECTS = np.array([0.4, 0.35, 0.25])  # how often there are none, one or two besides the first
# Drawn twice or three times as often: their own edges and glints look like defects.
HARD = ("circuit", "circuit", "gear", "gear", "foil", "metal", "tablet", "washer")
CHUNK = 64  # pairs that a process renders at a time; for no more than these none is started
KINDS = tuple((name, defect) for name in (*CLASSES, *HARD) for defect in DEFECTS[name])


class Pool(NamedTuple):
    """Rendered pairs."""

    sound: Picture  # uint8 RGB [n, S, S, 3]
    faulty: Picture  # uint8 RGB [n, S, S, 3]
    masks: Picture  # share of a pixel that is anomalous in `faulty`, 0 to 255, uint8 [n, S, S]
    classes: NDArray[np.int64]  # number of the class in `CLASSES` [n]


def render_pool(seed: int, pairs: int, size: int, workers: int, most: int) -> Pool:
    """Render `pairs` pairs of `size` pixels, of every defect of a class equally many, with up to `most` defects."""
    with drawing_processes(workers) as executor:  # which starts them with the first work
        spread = map if pairs <= CHUNK else partial(executor.map, chunksize=CHUNK)
        rendered = spread(partial(_render, seed, size, most), range(pairs))
        rows = list(tqdm(rendered, total=pairs, desc="rendering", unit="pair", dynamic_ncols=True))
    return Pool(*map(np.stack, zip(*rows, strict=True)))


def _render(seed: int, size: int, most: int, index: int) -> tuple[Picture, Picture, Picture, int]:
    """Render pair number `index` of a seed, with up to `most` defects, shrunk to `size`: a row of a `Pool`."""
    name, defect = KINDS[index % len(KINDS)]
    rng = np.random.default_rng([seed, index])
    more = int(rng.choice(most, p=MORE_DEFECTS[:most] / MORE_DEFECTS[:most].sum()))
    sound, faulty, mask = render(name, [defect, *rng.choice(DEFECTS[name], more)], rng)
    shares = Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BILINEAR)
    sound, faulty = (resize_rgb(Image.fromarray(picture), size) for picture in (sound, faulty))
    return sound, faulty, np.asarray(shares), CLASSES.index(name)


def normalise(pictures: NDArray[np.float32]) -> Tensor:
    """Turn pictures [B, S, S, 3], 0 to 1, into CLIP's input [B, 3, S, S]."""
    return normalize(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), CLIP_MEAN, CLIP_STD)


def batches(pool: Pool, pairs: int, patch: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield endless batches of pairs, each faulty picture followed by its sound twin.

    They are images [2 pairs, 3, S, S], the share of each patch that is anomalous [2 pairs, N], and class numbers.
    """
    while True:
        order = rng.permutation(len(pool.classes))
        for start in range(0, len(order) - pairs + 1, pairs):
            images, masks = [], []
            for index in order[start : start + pairs]:
                sound, faulty, mask = _vary(pool, index, rng)
                images += [faulty, sound]
                masks += [mask, np.zeros_like(mask)]
            shares = torch.nn.functional.avg_pool2d(torch.from_numpy(np.stack(masks)), patch).flatten(1)
            classes = np.repeat(pool.classes[order[start : start + pairs]], 2)
            yield normalise(np.stack(images)), shares, torch.from_numpy(classes)


def _vary(pool: Pool, index: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
    """Flip, turn and light a pair at random, both pictures alike: sound, faulty and mask, 0 to 1."""
    views = [pool.sound[index], pool.faulty[index], pool.masks[index]]
    for change in (lambda view: view.swapaxes(0, 1), np.flipud, np.fliplr):
        if rng.random() < 0.5:
            views = [change(view) for view in views]
    pair = np.stack(views[:2]).astype(np.float32) / 255
    gain = np.float32(rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3))
    grain = np.float32(rng.uniform(0, 0.01)) * rng.standard_normal(pair.shape[1:], dtype=np.float32)
    sound, faulty = np.clip(gain * pair + np.float32(rng.uniform(-0.05, 0.05)) + grain, 0, 1)
    return sound, faulty, views[2].astype(np.float32) / 255
