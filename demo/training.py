"""The training of the demonstration model: its steps, their learning rates, the validation, and the record."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from datasets.registry import get_spec
from demo.captions import Captions, draw_names, encode
from demo.network import go_on, start, write_weights
from demo.objective import Batch, backward
from demo.pool import Pool, batches, normalise, render_pool
from demo.render import CLASSES
from models.backbone import load_backbone
from models.dual_path import STAGES
from models.fidelity import Fidelity
from models.model_config import build_clip, check_servable, read_config
from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.sdp import SDP, LinearAdapters
from models.text import class_text_features
from utils.arguments import Options
from utils.epochs import Row, figure
from utils.files import write_csv

GENERAL_SHARE = 0.2  # of the images go by a general name, such as "object"
WARMUP = 100  # steps
REST = 0.02  # share of the highest learning rate that it falls to
MOST_DEFECTS = 3  # on one training picture: more of them teach more
AUROCS = ("pixel_auroc", "image_auroc")
SMOOTHING = 0.05  # weight of a new step in the running mean that is drawn of the loss


def train(options: Options) -> None:
    """Render the pictures, train the model of the options' `config`, and write weights and record into `output`.

    The options are the `DemoTrainingOptions` of `train.py`.
    """
    seed, steps, threads = options.seed, options.steps, options.threads
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    model = str(options.config)
    architecture = read_config(model)
    size, taps = check_servable(model, architecture, None, None)
    clip = build_clip(model, architecture, size, quick_gelu=architecture.get("quick_gelu", False))
    captions = Captions(read_prompts("industrial"), clip.context_length)
    pool = render_pool(seed, options.pairs, size, threads, most=MOST_DEFECTS)
    held_out = render_pool(seed + 1, options.validation_pairs, size, threads, most=1)
    start(clip, captions, pool)
    if options.start is not None:
        go_on(clip, captions, options.start)
    bf16 = options.precision == "bf16"
    readers = LinearAdapters(STAGES, *clip.visual.proj.shape)
    schedule = _make_schedule(clip, readers, options)
    stream = batches(pool, options.batch, clip.visual.patch_size[0], np.random.default_rng([seed, 1]))
    rows: list[dict[str, float | None]] = []
    began = time.monotonic()
    with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as executor:
        bar = tqdm(range(1, steps + 1), desc="training", unit="step", dynamic_ncols=True)
        upcoming = executor.submit(next, stream)
        for step in bar:
            images, shares, classes = upcoming.result()
            upcoming = executor.submit(next, stream)  # made while the text tower works
            general = torch.from_numpy(rng.random(len(classes)) < GENERAL_SHARE)
            learnt = Batch(images, shares, classes, torch.where(general, len(CLASSES), classes))
            named = [captions.draw(name, options.sentences, rng) for name in draw_names(rng)]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                text = encode(clip, torch.stack(named))
            schedule.optimizer.zero_grad()
            # The class token cannot tell the state before the patches can; until then its loss would be noise.
            state = 1 if options.start else 0.1 + 0.9 * float(np.clip((step - 250) / 500, 0, 1))
            parts = backward(clip, readers, text, taps, learnt, executor, state_weight=state, bf16=bf16)
            nn.utils.clip_grad_norm_([*clip.parameters(), *readers.parameters()], 1.0)
            schedule.optimizer.step()
            schedule.step()
            bar.set_postfix(patch=f"{parts['patch']:.3f}", state=f"{parts['state']:.3f}")
            rows.append({"step": step, "seconds": round(time.monotonic() - began, 1), **parts, **dict.fromkeys(AUROCS)})
            if step % options.validate_every == 0 or step == steps:
                write_weights(clip, captions, options.output)
                measured = _validate(options, held_out)
                bar.write(f"step {step}: {measured}")
                rows[-1] |= measured
                _write_record(rows, options.output)


def _make_schedule(clip: nn.Module, readers: nn.Module, options: Options) -> LambdaLR:
    """Make AdamW, weight decay on matrices alone, with a rate that warms up, stays, and falls at the end."""
    rest, decayed = ({"params": [], "weight_decay": decay} for decay in (0.0, 0.05))
    for name, value in (*clip.named_parameters(), *readers.named_parameters()):
        group = decayed if value.ndim > 1 and "embedding" not in name else rest
        group["params"].append(value)
    optimiser = torch.optim.AdamW([decayed, rest], lr=options.lr, betas=(0.9, 0.98))

    def factor(step: int) -> float:
        fallen = (step / options.steps - (1 - options.fall)) / max(
            options.fall, 1e-9
        )  # 0 where the fall begins, 1 where it ends
        return min((step + 1) / WARMUP, 1, 1 - (1 - REST) * fallen)

    return LambdaLR(optimiser, factor)


def _validate(options: Options, pool: Pool) -> Row:
    """Measure SDP's pixel and image AUROC, mean over the pool's classes, on pictures that were not trained on."""
    fidelity, own = Fidelity.named("corrected"), {"image_size": None, "features_list": None}
    settings = {"model": str(options.config), "pretrained": str(options.output / "demo.safetensors")}
    settings |= {"device": torch.device("cpu"), "precision": options.precision}
    backbone = load_backbone(fidelity=fidelity, **own, **settings)
    prompts, choice = read_prompts("industrial"), RepVecChoice("mean")
    text = {name: class_text_features(backbone, prompts, name, choice, None) for name in CLASSES}
    detector = SDP(backbone, text, fidelity, get_spec("demo").smoothing)
    aurocs = []
    for number in np.unique(pool.classes):
        rows, name = np.flatnonzero(pool.classes == number), CLASSES[number]
        pictures = np.concatenate([pool.sound[rows], pool.faulty[rows]])
        masks = np.concatenate([np.zeros_like(pool.masks[rows]), pool.masks[rows]]) > 127
        images = normalise(pictures.astype(np.float32) / 255)
        found = [detector.predict(part, [name] * len(part)) for part in images.split(16)]
        maps, probability = (torch.cat([one[i] for one in found]).numpy() for i in range(2))
        scores = detector.image_scores(probability, maps.max((1, 2)), maps.min((1, 2)))
        pixel, image = (masks.ravel(), maps.ravel()), (np.repeat([0, 1], len(rows)), scores)
        aurocs.append((roc_auc_score(*pixel), roc_auc_score(*image)))
    return {key: round(float(mean), 4) for key, mean in zip(AUROCS, np.mean(aurocs, axis=0), strict=True)}


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
