"""The training of the demonstration model: its steps, their learning rates, the validation, and the record."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from sklearn.metrics import roc_auc_score
from torch import nn
from tqdm import tqdm

from datasets.registry import get_spec
from demo.captions import Captions, draw_names, encode
from demo.network import build, write_weights
from demo.objective import Batch, backward, loss_weights
from demo.options import DemoTrainingOptions
from demo.pool import Pool, batches, normalise, render_pool
from demo.render import CLASSES
from models.anomaly_map import gaussian_matrix, min_max, resample, upsampling_matrix
from models.backbone import check_servable, read_config
from models.dual_path import STAGES, encode_dual_path
from models.prompts import read_prompts
from models.sdp import image_probability, token_scores
from models.sdp_plus import LinearAdapters
from utils.epochs import Row, figure
from utils.files import write_csv

GENERAL_SHARE = 0.2  # of the images go by a general name, such as "object"
WARMUP = 100  # steps
FALL = 1 / 3  # share of the steps, the last, over which the learning rate falls
REST = 0.02  # share of the highest learning rate that it falls to
MOST_DEFECTS = 3  # on one training picture: more of them teach more
AUROCS = ("pixel_auroc", "image_auroc")
SMOOTHING = 0.05  # weight of a new step in the running mean that is drawn of the loss


def train(options: DemoTrainingOptions) -> None:
    """Render the pictures, train the model of the options' `config`, and write weights and record into `output`."""
    config, seed, steps, threads = options.config, options.seed, options.steps, options.threads
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    architecture = read_config(str(config))
    size, taps_after = check_servable(str(config), architecture, None, None)
    for part, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        architecture[part] = vars(kind()) | architecture[part]
    captions = Captions(read_prompts("industrial"), architecture["text_cfg"]["context_length"])
    pool = render_pool(seed, options.pairs, size, threads, most=MOST_DEFECTS)
    held_out = render_pool(seed + 1, options.validation_pairs, size, threads, most=1)
    clip = build(architecture, captions, pool)
    readers = LinearAdapters(STAGES, architecture["vision_cfg"]["width"], architecture["embed_dim"])
    optimiser, schedule = _make_optimiser(clip, readers, options.lr, steps)
    stream = batches(pool, options.batch, np.random.default_rng([seed, 1]))
    rows: list[Row] = []
    began = time.monotonic()
    with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as executor:
        bar = tqdm(range(1, steps + 1), desc="training", unit="step", dynamic_ncols=True)
        upcoming = executor.submit(next, stream)
        for step in bar:
            images, masks, classes = upcoming.result()
            upcoming = executor.submit(next, stream)  # made while the text tower works
            shares = F.avg_pool2d(masks[:, None], architecture["vision_cfg"]["patch_size"]).flatten(1)  # [B, N]
            general = torch.from_numpy(rng.random(len(classes)) < GENERAL_SHARE)
            with torch.autocast("cpu", torch.bfloat16):
                text = encode(clip, [captions.draw(name, options.sentences, rng) for name in draw_names(rng)])
            optimiser.zero_grad()
            learnt = Batch(images, shares, classes, general)
            parts = backward(clip, readers, text, taps_after, learnt, loss_weights(step), executor)
            nn.utils.clip_grad_norm_([*clip.parameters(), *readers.parameters()], 1.0)
            optimiser.step()
            schedule.step()
            bar.set_postfix(patch=f"{parts['patch']:.3f}", state=f"{parts['state']:.3f}")
            is_validated = step % options.validate_every == 0 or step == steps
            measured = _validate(clip, captions, held_out, taps_after) if is_validated else dict.fromkeys(AUROCS)
            rows.append({"step": step, "seconds": round(time.monotonic() - began, 1), **parts, **measured})
            if is_validated:
                bar.write(f"step {step}: {measured}")
                write_weights(clip, captions, architecture["text_cfg"]["vocab_size"], options.output)
                _write_record(rows, options.output)


def _make_optimiser(
    clip: nn.Module, readers: nn.Module, lr: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Make AdamW, weight decay on matrices alone, with a rate that warms up, stays, and falls at the end."""
    clip.logit_scale.requires_grad_(False)  # SDP's temperature is fixed
    decayed, rest = [], []
    for name, value in (*clip.named_parameters(), *readers.named_parameters()):
        if value.requires_grad:
            (decayed if value.ndim > 1 and "embedding" not in name else rest).append(value)
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))

    def factor(step: int) -> float:
        fallen = (step / steps - (1 - FALL)) / FALL  # 0 where the fall begins, 1 where it ends
        return min((step + 1) / WARMUP, 1, 1 - (1 - REST) * fallen)

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


@torch.inference_mode()
def _validate(clip: nn.Module, captions: Captions, pool: Pool, taps_after: Sequence[int]) -> Row:
    """Measure SDP's pixel and image AUROC, mean over classes, on pictures that were not trained on."""
    text = torch.cat([encode(clip, [captions.every[name]]) for name in CLASSES])
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
        total = min_max(torch.cat(probabilities).numpy()) + min_max(scores.max((1, 2)))
        pixel.append(roc_auc_score(masks.ravel(), scores.ravel()))
        image.append(roc_auc_score(np.repeat([0, 1], len(rows)), total))
    return {key: round(float(np.mean(values)), 4) for key, values in zip(AUROCS, (pixel, image), strict=True)}


def _write_record(rows: list[Row], folder: Path) -> None:
    """Write `loss.csv`, a row a step, and its curves `loss.png` into `folder`."""
    write_csv(folder / "loss.csv", rows[0].keys(), rows)
    smooth = list(accumulate((row["patch"] for row in rows), lambda mean, loss: mean + SMOOTHING * (loss - mean)))
    validated = [row for row in rows if row["pixel_auroc"] is not None]
    with figure(folder / "loss.png") as axes:
        axes.plot([row["step"] for row in rows], smooth, color="grey", label="patch loss")
        for key in AUROCS:
            axes.plot([row["step"] for row in validated], [row[key] for row in validated], label=key)
        axes.set(xlabel="step", ylim=(0, 1))
