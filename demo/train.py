"""Train the demonstration model: a small CLIP that knows the surfaces of the demo set and their defects.

    python demo/train.py

Pictures are rendered anew (never those of the demo set), captions are the detectors' own sentences.
"""

import argparse
import json
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path[0] = str(PROJECT)

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn
from tqdm import tqdm

from datasets.registry import get_spec
from demo.captions import Captions, draw_names, encode
from demo.network import build, write_weights
from demo.objective import Batch, backward, loss_weights
from demo.pool import Pool, batches, normalise, render_pool
from demo.record import Row, write_record
from demo.render import CLASSES
from models.anomaly_map import gaussian_matrix, resample, upsampling_matrix
from models.dual_path import STAGES, encode_dual_path
from models.prompts import read_prompts
from models.sdp import image_probability, token_scores
from models.sdp_plus import LinearAdapters
from utils.arguments import positive_float, positive_int
from utils.errors import UserError, run

OUTPUT = PROJECT / "pretrained_models" / "demo"
GENERAL_SHARE = 0.2  # of the images go by a general name, such as "object"
WARMUP = 100  # steps
FALL = 1 / 3  # share of the steps, the last, over which the learning rate falls
REST = 0.02  # share of the highest learning rate that it falls to
MOST_DEFECTS = 3  # on one training picture: more of them teach more


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder to write to")
    parser.add_argument("--config", type=Path, default=OUTPUT / "demo.json", help="open_clip model config")
    parser.add_argument("--steps", type=positive_int, default=6000, help="optimiser steps")
    parser.add_argument("--pairs", type=positive_int, default=6400, help="pairs of pictures rendered")
    parser.add_argument("--validation_pairs", type=positive_int, default=320, help="pairs rendered to validate on")
    parser.add_argument("--batch", type=positive_int, default=16, help="pairs of pictures a step")
    parser.add_argument("--lr", type=positive_float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--sentences", type=positive_int, default=2, help="per class and state a step")
    parser.add_argument("--seed", type=positive_int, default=20240, help="of everything random")
    parser.add_argument("--threads", type=positive_int, default=2, help="to compute with")
    parser.add_argument("--validate_every", type=positive_int, default=200, help="steps between validations")
    return parser.parse_args()


@torch.inference_mode()
def validate(clip: nn.Module, captions: Captions, pool: Pool, taps_after: list[int]) -> dict[str, float]:
    """SDP's pixel and image AUROC, mean over classes, on pictures that were not trained on."""
    text = torch.cat([encode(clip, [captions.every(name)]) for name in CLASSES])
    grid, size = clip.visual.grid_size[0], pool.masks.shape[1]
    smoothing = gaussian_matrix(size, get_spec("demo").smoothing)
    smooth = smoothing @ upsampling_matrix(grid, size, align_corners=False)
    pixel, image = [], []
    for number in range(len(CLASSES)):
        rows = np.flatnonzero(pool.classes == number)
        pictures = np.concatenate([pool.sound[rows], pool.faulty[rows]])
        masks = np.concatenate([np.zeros_like(pool.masks[rows]), pool.masks[rows]]) > 127
        maps, probabilities = [], []
        for part in np.array_split(pictures, math.ceil(len(pictures) / 16)):
            own = text[number].expand(len(part), -1, -1)
            images = normalise(part.astype(np.float32) / 255)
            with torch.autocast("cpu", torch.bfloat16):
                taps = encode_dual_path(clip.visual, images, taps_after, shared_buffers=False, with_ori=False)
            maps.append(resample(token_scores(taps, own).unflatten(1, (grid, grid)), smooth))
            probabilities.append(image_probability(taps[-1], own))
        scores = torch.cat(maps).numpy()
        parts = [torch.cat(probabilities).numpy(), scores.max((1, 2))]
        total = sum((part - part.min()) / (np.ptp(part) or 1) for part in parts)
        pixel.append(roc_auc_score(masks.ravel(), scores.ravel()))
        image.append(roc_auc_score(np.repeat([0, 1], len(rows)), total))
    return {"pixel_auroc": float(np.mean(pixel)), "image_auroc": float(np.mean(image))}


def make_optimiser(
    clip: nn.Module, readers: nn.Module, lr: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, weight decay on matrices alone; the rate warms up, stays, and falls at the end."""
    clip.logit_scale.requires_grad_(False)  # SDP's temperature is fixed
    named = [
        (name, value) for name, value in (*clip.named_parameters(), *readers.named_parameters()) if value.requires_grad
    ]
    decayed = {name for name, value in named if value.ndim > 1 and "embedding" not in name}
    groups = [
        {"params": [value for name, value in named if name in decayed], "weight_decay": 0.05},
        {"params": [value for name, value in named if name not in decayed], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))

    def factor(step: int) -> float:
        fallen = (step / steps - (1 - FALL)) / FALL  # 0 where the fall begins, 1 where it ends
        return min((step + 1) / WARMUP, 1, 1 - (1 - REST) * fallen)

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    config = json.loads(args.config.read_text(encoding="utf-8"))
    size, depth, patch = (config["vision_cfg"][key] for key in ("image_size", "layers", "patch_size"))
    if depth % STAGES or size % patch:
        raise UserError(f"{args.config}: layers must be a multiple of 4, image_size one of patch_size")
    taps_after = [depth * stage // STAGES for stage in range(1, STAGES + 1)]
    captions = Captions(read_prompts("industrial"), config["text_cfg"]["context_length"])
    pool = render_pool(args.seed, args.pairs, size, args.threads, most=MOST_DEFECTS)
    held_out = render_pool(args.seed + 1, args.validation_pairs, size, args.threads, most=1)
    clip = build(config, captions, pool)
    readers = LinearAdapters(STAGES, config["vision_cfg"]["width"], config["embed_dim"])
    optimiser, schedule = make_optimiser(clip, readers, args.lr, args.steps)
    stream = batches(pool, args.batch, np.random.default_rng([args.seed, 1]))
    rows: list[Row] = []
    began = time.monotonic()
    with ThreadPoolExecutor(args.threads, initializer=lambda: torch.set_num_threads(1)) as executor:
        bar = tqdm(range(1, args.steps + 1), desc="training", unit="step", dynamic_ncols=True)
        upcoming = executor.submit(next, stream)
        for step in bar:
            images, masks, classes = upcoming.result()
            upcoming = executor.submit(next, stream)  # made while the text tower works
            shares = F.avg_pool2d(masks[:, None], patch).flatten(1)  # [B, N]
            general = torch.from_numpy(rng.random(len(classes)) < GENERAL_SHARE)
            with torch.autocast("cpu", torch.bfloat16):
                text = encode(clip, [captions.draw(name, args.sentences, rng) for name in draw_names(rng)])
            optimiser.zero_grad()
            weights = loss_weights(step)
            batch = Batch(images, shares, classes, general)
            parts = backward(clip, readers, text, taps_after, batch, weights, executor)
            nn.utils.clip_grad_norm_([*clip.parameters(), *readers.parameters()], 1.0)
            optimiser.step()
            schedule.step()
            measured: Row = {"pixel_auroc": "", "image_auroc": ""}
            if step % args.validate_every == 0 or step == args.steps:
                measured = {k: round(v, 4) for k, v in validate(clip, captions, held_out, taps_after).items()}
                write_weights(clip, captions, config["text_cfg"]["vocab_size"], args.output)
                bar.write(f"step {step}: {measured}")
            seconds = round(time.monotonic() - began, 1)
            rows.append({"step": step, "seconds": seconds, **parts, **measured})
            bar.set_postfix(patch=f"{parts['patch']:.3f}", state=f"{parts['state']:.3f}")
            if measured["pixel_auroc"] != "":
                write_record(rows, args.output)


if __name__ == "__main__":
    run(main)
