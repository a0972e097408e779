"""What the demonstration model is trained for: losses, each on what SDP itself computes."""

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dual_path import Tap, encode_dual_path
from models.sdp import IMAGE_TEMPERATURE, LinearAdapters, token_scores

# Times this, SDP's token score, a sum over four taps, is a patch's log-odds where the texts are at a distance of 1.
TOKEN_SCALE = 3.4
NEAR = 0.35  # length of the difference of the two states' texts above which it is a loss
POSITIVE_WEIGHT = 6.0  # anomalous patches are few
CHUNK = 16  # images that a thread works on at once


class Batch(NamedTuple):
    """Images and what is to be learnt of them."""

    images: Tensor  # normalised [B, 3, S, S]
    shares: Tensor  # share of each patch that is anomalous [B, N]
    classes: Tensor  # class numbers [B]
    called: Tensor  # number of the class whose name each goes by, that after the last for a general name [B]


def losses(taps: list[Tap], readers: LinearAdapters, text: Tensor, batch: Batch) -> dict[str, Tensor]:
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


def explicit_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute attention by two plain products: for 257 tokens in bf16 on a CPU, far faster."""
    logits = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    return logits.softmax(-1).to(value.dtype) @ value


def backward(
    clip: nn.Module,
    readers: LinearAdapters,
    text: Tensor,
    taps: Sequence[int],
    batch: Batch,
    pool: Executor,
    *,
    state_weight: float,
    bf16: bool,
) -> dict[str, float]:
    """Leave a batch's gradients in the parameters of both towers and of the readers, and return the mean losses.

    The towers are tapped after the blocks `taps`. The chunks of the batch are worked on by the pool's threads and
    added up in their order.
    """
    parameters = [*clip.visual.parameters(), *readers.parameters()]
    weights = {"state": state_weight, "class": 0.4, "patch": 1.5, "tap": 0.3, "peak": 1.0, "read": 8.0, "near": 2.0}

    def of_chunk(*fields: Tensor) -> tuple[tuple[Tensor, ...], dict[str, float]]:
        chunk = Batch(*fields)
        leaf = text.detach().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            features = encode_dual_path(clip.visual, chunk.images, taps, shared_buffers=False)
        parts = losses(features, readers, leaf, chunk)
        total = sum(weights[name] * value for name, value in parts.items())
        gradients = torch.autograd.grad(total, [*parameters, leaf])
        return gradients, {name: value.item() for name, value in parts.items()}

    attention = explicit_attention if bf16 else F.scaled_dot_product_attention
    with patch.object(F, "scaled_dot_product_attention", attention):
        gradients, parts = zip(*pool.map(of_chunk, *(field.split(CHUNK) for field in batch)), strict=True)
    *means, of_text = (torch.stack(one).mean(0) for one in zip(*gradients, strict=True))
    text.backward(of_text)
    for parameter, gradient in zip(parameters, means, strict=True):
        parameter.grad = gradient
    return {name: float(np.mean([one[name] for one in parts])) for name in weights}
