"""Captions of the demonstration model: the detectors' own sentences about what its surfaces are called."""

from collections.abc import Mapping
from itertools import chain

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.render import CLASSES
from models.prompts import PromptEnsemble
from models.text import encode_tokens
from utils.errors import UserError

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
