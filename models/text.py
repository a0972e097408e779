"""Text features of a class: its sentences through CLIP's text tower, summed up in one vector a state."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from models.backbone import Backbone
from models.prompts import PromptEnsemble
from models.representative import RepVecChoice, representative_vector
from utils.checked_arrays import digest_of, read_array, write_array
from utils.errors import UserError

logger = logging.getLogger(__name__)

CHUNK = 64  # sentences at once: few enough to be of like lengths


def class_text_features(
    backbone: Backbone, prompts: PromptEnsemble, phrase: str, choice: RepVecChoice, cache_dir: Path | None
) -> Tensor:
    """Compute text features t of a class called `phrase`: unit columns, normal and anomalous, float32 [D, 2].

    Sentence embeddings are kept in `cache_dir` between runs; without one they are encoded each time.
    """
    normal, anomalous = prompts.sentences(phrase)
    embeddings = _cached_embeddings(backbone, [*normal, *anomalous], cache_dir)
    columns = [representative_vector(rows, choice) for rows in np.split(embeddings, [len(normal)])]
    return torch.from_numpy(np.stack(columns, axis=1)).to(backbone.device)


def _cached_embeddings(backbone: Backbone, sentences: list[str], cache_dir: Path | None) -> np.ndarray:
    """Embeddings [n, D] from the cache, or encoded and put there; a damaged file counts as none."""
    if cache_dir is None:
        return encode_sentences(backbone, sentences).cpu().numpy()
    origin = {
        "weights": backbone.weights.sha256,
        "config": backbone.config_sha256,
        "activation": backbone.activation,
        "precision": backbone.precision,
        "device": backbone.device.type,
        "open_clip": open_clip.__version__,
        "sentences": sentences,
    }
    path = cache_dir / f"{digest_of(origin)}.safetensors"
    embeddings = read_array(path, (len(sentences), backbone.clip.visual.output_dim), np.dtype(np.float32))
    if embeddings is not None:
        return embeddings
    embeddings = encode_sentences(backbone, sentences).cpu().numpy()
    try:
        write_array(path, embeddings)
    except UserError as error:
        logger.warning("sentence embeddings are not kept in --cache_dir: %s", error)
    return embeddings


@torch.inference_mode()
def encode_sentences(backbone: Backbone, sentences: Sequence[str]) -> Tensor:
    """Encode sentences as unit vectors, float32 [n, D]."""
    clip = backbone.clip
    tokens = open_clip.tokenize(list(sentences), clip.context_length + 1)  # cut off there, and filled up with 0
    for sentence, beyond in zip(sentences, tokens[:, -1].tolist(), strict=True):
        if beyond:
            raise UserError(
                f"the sentence '{sentence}' has more than the {clip.context_length} tokens that {backbone.name} reads; "
                "choose a shorter name for the object, or shorter --prompts"
            )
    order = tokens.argmax(dim=-1).argsort()  # so that sentences of like lengths are encoded together
    with backbone.autocast():
        parts = [encode_tokens(clip, ids.to(backbone.device)) for ids in tokens[order].split(CHUNK)]
    embeddings = torch.cat(parts)[order.argsort()]
    if not embeddings.isfinite().all():
        raise UserError(
            f"{backbone.name} gave sentence embeddings that are not finite: with --precision fp16 or bf16 try fp32, "
            "else check the weights"
        )
    return embeddings


def encode_tokens(clip: open_clip.CLIP, ids: Tensor) -> Tensor:
    """Encode token ids [n, T] as unit vectors, float32 [n, D].

    The tower is causal and read at the end-of-text token, so what all rows have behind theirs is left out.
    """
    ends = ids.argmax(dim=-1)  # the end-of-text token has the highest id
    length = int(ends.max()) + 1
    x = clip.token_embedding(ids[:, :length]) + clip.positional_embedding[:length]  # [n, length, C]
    x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
    x = clip.ln_final(x[torch.arange(len(x)), ends])  # [n, C]
    projection = clip.text_projection
    x = x @ projection if isinstance(projection, Tensor) else projection(x)
    return F.normalize(x.float(), dim=-1)


def discard_text_tower(backbone: Backbone) -> None:
    """Free the text tower's memory, once all text features are there: no sentence can be encoded afterwards."""
    del backbone.clip.transformer, backbone.clip.token_embedding
