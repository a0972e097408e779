"""The demonstration model's network: the captions that its words are of, how it starts, how it is written to files."""

import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from demo.pool import Pool, normalise
from demo.render import CLASSES
from models.checkpoints import read_checkpoint
from models.prompts import PromptEnsemble
from models.sdp import IMAGE_TEMPERATURE
from models.text import encode_tokens
from utils.errors import UserError
from utils.files import atomic_open, sha256_of, write_text

OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "circuit": ("circuit board", "printed circuit board", "pcb"),
    "fabric": ("woven fabric", "cloth", "textile", "carpet"),
    "foil": ("printed foil", "printed pattern", "pattern"),
    "gear": ("cog wheel", "metal gear", "cog"),
    "leather": ("leather with a seam", "brown leather"),
    "metal": ("brushed metal", "metal plate", "metal surface"),
    "tablet": ("pill", "capsule", "round tablet"),
    "tile": ("tiles", "mosaic", "tiled wall"),
    "washer": ("ring", "metal ring", "metal washer"),
    "wood": ("wooden board", "wood surface", "boards"),
}
UNKNOWN = "zyx"  # stands for any word that the model was never told: its embedding is zero
GENERAL = ("object", "part", "surface", "product", "item", "material", UNKNOWN, f"{UNKNOWN} {UNKNOWN}")
POSITION_SCALE = 0.5  # standard deviation of the position embedding at the start
QUERY_GAIN, VALUE_GAIN, OUTPUT_GAIN = 0.7, 1.0, 0.5


class Captions:
    """All sentences as token numbers of a small vocabulary, in which 0 is any word that no caption holds."""

    def __init__(self, prompts: PromptEnsemble, context_length: int) -> None:
        tokenize = open_clip.SimpleTokenizer(context_length=context_length)
        unknown = set(tokenize.encode(UNKNOWN))
        names = [*CLASSES, *chain(*OTHER_NAMES.values()), *GENERAL]
        tokens = {name: [tokenize(part) for part in prompts.sentences(name)] for name in names}
        used = torch.cat([*chain(*tokens.values())]).unique().tolist()
        # Number in CLIP's vocabulary of each word of the small one but word 0, ascending, [k].
        self.ids = torch.tensor([token for token in used if token not in unknown | {0}], dtype=torch.int32)
        self.vocabulary = tokenize.vocab_size  # of CLIP
        small = torch.zeros(self.vocabulary, dtype=torch.long)
        small[self.ids.long()] = torch.arange(1, len(self.ids) + 1)
        # Name -> tokens [n, T] of each state's n sentences, normal first.
        self.every = {name: [small[part] for part in both] for name, both in tokens.items()}

    def draw(self, name: str, count: int, rng: np.random.Generator) -> Tensor:
        """Draw `count` sentences of each state at random, tokens [2, count, T]."""
        if count > (there := min(map(len, self.every[name]))):
            raise UserError(f"--sentences {count}: there are only {there} of a state")
        return torch.stack([tokens[rng.choice(len(tokens), count, replace=False)] for tokens in self.every[name]])


def draw_names(rng: np.random.Generator) -> list[str]:
    """Draw a name for each class, most often its own, and last a general name that fits them all."""
    names = [one if rng.random() < 0.6 else str(rng.choice(OTHER_NAMES[one])) for one in CLASSES]
    return [*names, str(rng.choice(GENERAL))]


def encode(clip: nn.Module, sentences: Tensor) -> Tensor:
    """Encode groups of sentences [groups, 2, n, T]: for each state the mean embedding, unit length, [groups, D, 2]."""
    embeddings = encode_tokens(clip, sentences.flatten(0, 2)).unflatten(0, sentences.shape[:3])
    return F.normalize(embeddings.mean(2), dim=-1).transpose(1, 2)


def start(clip: open_clip.CLIP, captions: Captions, pool: Pool) -> None:
    """Give an untrained model a token embedding of the captions' words alone, whose word 0 stays zero, and its start.

    The image tower starts otherwise than open_clip's, which saves hundreds of steps. The patch embedding whitens
    the pool's patches, so that fine detail weighs as much as brightness. Positions are sines and cosines, so that
    near is similar. Attention starts as in Trockman and Kolter's mimetic initialisation (arXiv:2305.09828): a token
    attends to tokens like itself, and their mean is subtracted from it; what remains is what is unusual about it.
    """
    embedding = nn.Embedding(len(captions.ids) + 1, clip.token_embedding.embedding_dim, padding_idx=0)
    nn.init.normal_(embedding.weight[1:], std=0.02)
    clip.token_embedding = embedding
    with torch.no_grad():
        clip.logit_scale.fill_(math.log(IMAGE_TEMPERATURE))  # where it stays: no loss reads it
        visual = clip.visual
        visual.conv1.weight.copy_(_whitening(pool, *visual.conv1.weight.shape[::3]))
        visual.positional_embedding[1:] = _positions(visual.grid_size[0], visual.positional_embedding.shape[1])
        for block in visual.transformer.resblocks:
            _start_attention(block.attn)


def _positions(grid: int, width: int) -> Tensor:
    """Compute sines and cosines of both coordinates [grid^2, width], wavelengths from 4 patches to twice the grid."""
    count = width // 4
    wavelengths = 4 * (grid / 2) ** (torch.arange(count) / (count - 1))
    phase = 2 * math.pi * torch.arange(grid)[:, None] / wavelengths  # [grid, count]
    line = torch.cat([phase.sin(), phase.cos()], dim=1)
    both = torch.cat([line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)], dim=2)
    return both.flatten(0, 1) * (POSITION_SCALE * math.sqrt(2))


def _start_attention(attention: nn.MultiheadAttention) -> None:
    """Set, in place, equal queries and keys, orthogonal values, and an output that subtracts them."""
    width, heads = attention.embed_dim, attention.num_heads
    similar = torch.cat([nn.init.orthogonal_(torch.empty(width // heads, width)) for _ in range(heads)])
    values = nn.init.orthogonal_(torch.empty(width, width))
    attention.in_proj_weight.copy_(torch.cat([QUERY_GAIN * similar, QUERY_GAIN * similar, VALUE_GAIN * values]))
    attention.out_proj.weight.copy_(-OUTPUT_GAIN / VALUE_GAIN * values.T)


def _whitening(pool: Pool, width: int, patch: int) -> Tensor:
    """Compute filters [width, 3, patch, patch] to which the pool's patches respond uncorrelated, of unit variance."""
    pictures = normalise(pool.faulty[:500].astype(np.float32) / 255)
    patches = F.unfold(pictures, patch, stride=patch).transpose(1, 2).flatten(0, 1)  # [n, 3 patch^2]
    variances, directions = torch.linalg.eigh(torch.cov(patches.T))  # ascending
    filters = directions[:, -width:] / (variances[-width:] + 0.01).sqrt()
    return filters.T.reshape(width, 3, patch, patch)


def go_on(clip: open_clip.CLIP, captions: Captions, weights: Path) -> None:
    """Give a model that `start` has prepared the weights of an earlier training on the same captions."""
    state = read_checkpoint(weights)
    ids = state.pop("token_embedding.ids", None)
    if not isinstance(ids, Tensor) or not torch.equal(ids, captions.ids):
        raise UserError(f"{weights} was trained on other captions; choose weights of this training")
    del state["token_embedding.size"]
    rows = state.pop("token_embedding.rows")
    state["token_embedding.weight"] = torch.cat([torch.zeros_like(rows[:1]), rows])
    clip.load_state_dict(state)


def write_weights(clip: nn.Module, captions: Captions, folder: Path) -> None:
    """Write the weights in half precision, the token embedding by its used rows, and `SHA256SUMS`."""
    state = {key: value.half().contiguous() for key, value in clip.state_dict().items()}
    state["token_embedding.rows"] = state.pop("token_embedding.weight")[1:].contiguous()
    size = torch.tensor(captions.vocabulary, dtype=torch.int32)
    state |= {"token_embedding.ids": captions.ids, "token_embedding.size": size}
    with atomic_open(folder / "demo.safetensors", "wb") as file:
        file.write(save(state))
    names = [name for name in ("demo.json", "demo.safetensors") if (folder / name).is_file()]
    write_text(folder / "SHA256SUMS", "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names))
