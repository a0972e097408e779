"""Times the sentences of one class through the text tower: at their own lengths, at the full context, from the cache.

python benchmarks/text.py
"""

import tempfile
from functools import partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from harness import medians, print_ratios, start

from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features, encode_sentences
from tests.random_weights import random_backbone


def main() -> None:
    args = start(__doc__, model="ViT-B-16-plus-240", phrase="bottle", repeats=3)
    prompts = read_prompts("industrial")
    sentences = [sentence for state in prompts.sentences(args.phrase) for sentence in state]
    with tempfile.TemporaryDirectory() as folder:
        backbone = random_backbone(args.model, Path(folder))
        tokens = open_clip.tokenize(sentences, backbone.clip.context_length)

        @torch.inference_mode()
        def full_context() -> torch.Tensor:
            return F.normalize(backbone.clip.encode_text(tokens), dim=-1)

        difference = float((encode_sentences(backbone, sentences) - full_context()).abs().max())
        lengths = tokens.argmax(dim=-1) + 1
        cached = partial(class_text_features, backbone, prompts, args.phrase, RepVecChoice("mean"), Path(folder))
        ways = {
            "at their own lengths": partial(encode_sentences, backbone, sentences),
            "at the full context": full_context,
            "text features from the cache": cached,
        }
        seconds = medians(ways, args.repeats)
    print(f"{len(sentences)} sentences of {lengths.min()} to {lengths.max()} tokens, {torch.get_num_threads()} threads")
    print(f"largest difference of the unit vectors {difference:.1e}\n")
    print_ratios(seconds)


if __name__ == "__main__":
    main()
