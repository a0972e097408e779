"""The training of the demonstration model: its losses, on what SDP computes, its steps, validation and record."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from datasets.registry import get_spec
from demo.network import Captions, draw_names, encode, go_on, start, write_weights
from demo.pool import Pool, batches, normalise, render_pool
from demo.render import CLASSES
from models.backbone import load_backbone
from models.dual_path import STAGES, Tap, encode_dual_path
from models.fidelity import Fidelity
from models.model_config import build_clip, check_servable, read_config
from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.sdp import IMAGE_TEMPERATURE, SDP, LinearAdapters, token_scores
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
# Times this, SDP's token score, a sum over four taps, is a patch's log-odds where the texts are at a distance of 1.
TOKEN_SCALE = 3.4
NEAR = 0.35  # length of the difference of the two states' texts above which it is a loss
POSITIVE_WEIGHT = 6.0  # anomalous patches are few
CHUNK = 16  # images among which faulty ones are ranked above sound ones
WEIGHTS = {"class": 0.4, "patch": 1.5, "tap": 0.3, "peak": 1.0, "read": 8.0, "near": 2.0}  # of the losses but "state"


class Targets(NamedTuple):
    """What is to be learnt of a batch."""

    shares: Tensor  # share of each patch that is anomalous [B, N]
    classes: Tensor  # class numbers [B]
    called: Tensor  # number of the class whose name each goes by, that after the last for a general name [B]


def losses(taps: list[Tap], readers: LinearAdapters, text: Tensor, batch: Targets) -> dict[str, Tensor]:
    """Compute the losses of a batch.

    "state" and "class" are the class token's. "patch" is that of the patches' state by SDP's scores of all taps,
    "tap" by each alone, and "read" by what a linear layer reads from each tap's original path. "peak" asks that every
    faulty image's most anomalous patches score above every sound image's. "near" asks that the two states' texts be
    as near each other as a CLIP's are, for which DP-CLIP's temperature was chosen. The layers, `readers`, help to train
    the tower and are let go of. `text` are features of the classes and, last, of a general name [classes + 1, D, 2].
    """
    own = text[batch.called]  # [B, D, 2]
    token = F.normalize(taps[-1].surgery[:, 0].float(), dim=-1)  # [B, D]
    faulty = (batch.shares.amax(1) > 0).long()
    logits = IMAGE_TEMPERATURE * (token[:, None] @ own)[:, 0]  # [B, 2]
    by_class = IMAGE_TEMPERATURE * torch.einsum("bd,cds->bcs", token, text[:-1])

    target, weight = (4 * batch.shares).clamp(max=1), torch.tensor(POSITIVE_WEIGHT)
    patches = partial(F.binary_cross_entropy_with_logits, target=target, pos_weight=weight)
    difference = (text[..., 1] - text[..., 0]).norm(dim=1)  # [classes + 1]
    scale = TOKEN_SCALE / difference.detach()[batch.called, None]  # [B, 1]
    scores = [scale * token_scores([tap], own) for tap in taps]  # [B, N] each; SDP adds them up
    together = torch.stack(scores).sum(0)
    peaks = together.logsumexp(dim=1)
    read = readers([tap.ori[:, 1:].float() for tap in taps], own)  # [taps, B, N]
    return {
        "state": F.cross_entropy(logits, faulty),
        "class": F.cross_entropy(by_class.logsumexp(-1), batch.classes),
        "patch": patches(together),
        "tap": torch.stack([patches(len(taps) * score) for score in scores]).mean(),
        "peak": F.softplus(peaks[faulty == 0][:, None] - peaks[faulty == 1][None]).mean(),
        "read": torch.stack([patches(logits) for logits in read]).mean(),
        "near": F.relu(difference - NEAR).mean(),
    }


def train(options: Options) -> None:
    """Render the pictures, train the model of the options' `config`, and write weights and record into `output`.

    The options are the `DemoTrainingOptions` of `train.py`.
    """
    seed, steps, threads = options.seed, options.steps, options.threads
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
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
    readers = LinearAdapters(STAGES, *clip.visual.proj.shape)  # which help to train the tower and are let go of
    schedule = _make_schedule(clip, readers, options)
    stream = batches(pool, options.batch, clip.visual.patch_size[0], np.random.default_rng([seed, 1]))
    rows: list[dict[str, float | None]] = []
    began = time.monotonic()
    # In bf16 plain products are far faster on a CPU than PyTorch's fused attention, for 257 tokens.
    attention = sdpa_kernel(SDPBackend.MATH) if bf16 else nullcontext()
    with attention, ThreadPoolExecutor(1) as beside:
        bar = tqdm(range(1, steps + 1), desc="training", unit="step", dynamic_ncols=True)
        upcoming = beside.submit(next, stream)
        for step in bar:
            images, shares, classes = upcoming.result()
            upcoming = beside.submit(next, stream)  # made while the towers work
            general = torch.from_numpy(rng.random(len(classes)) < GENERAL_SHARE)
            targets = Targets(shares, classes, torch.where(general, len(CLASSES), classes))
            named = torch.stack([captions.draw(name, options.sentences, rng) for name in draw_names(rng)])
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                text = encode(clip, named)
                tapped = [encode_dual_path(clip.visual, one, taps, shared_buffers=False) for one in images.split(CHUNK)]
            chunks = map(Targets, *(field.split(CHUNK) for field in targets))
            found = [losses(own, readers, text, chunk) for own, chunk in zip(tapped, chunks, strict=True)]
            parts = {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}
            # The class token cannot tell the state before the patches can; until then its loss would be noise.
            state = 1 if options.start else 0.1 + 0.9 * float(np.clip((step - 250) / 500, 0, 1))
            schedule.optimizer.zero_grad()
            (state * parts["state"] + sum(weight * parts[name] for name, weight in WEIGHTS.items())).backward()
            nn.utils.clip_grad_norm_([*clip.parameters(), *readers.parameters()], 1.0)
            schedule.optimizer.step()
            schedule.step()
            parts = {name: value.item() for name, value in parts.items()}
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
        left = (1 - step / options.steps) / max(options.fall, 1e-9)  # of the fall: 1 where it begins, 0 at the end
        return min((step + 1) / WARMUP, 1, REST + (1 - REST) * left)

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
