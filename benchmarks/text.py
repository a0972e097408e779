"""Times the sentences of one class through the text tower: at their own lengths, at the full context, from the cache.

python benchmarks/text.py
"""

from functools import partial

import open_clip
import torch
import torch.nn.functional as F
from harness import Options, benchmark, medians, print_ratios

from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features, encode_sentences
from tests.random_weights import random_backbone


@benchmark(model="ViT-B-16-plus-240", phrase="bottle", repeats=3)
def main(args: Options) -> None:
    prompts = read_prompts("industrial")
    sentences = [sentence for state in prompts.sentences(args.phrase) for sentence in state]
    backbone = random_backbone(args.model, args.folder)
    tokens = open_clip.tokenize(sentences, backbone.clip.context_length)

    @torch.inference_mode()
    def full_context() -> torch.Tensor:
        return F.normalize(backbone.clip.encode_text(tokens), dim=-1)

    cached = partial(class_text_features, backbone, prompts, args.phrase, RepVecChoice("mean"), args.folder)
    ways = {
        "at their own lengths": partial(encode_sentences, backbone, sentences),
        "at the full context": full_context,
        "text features from the cache": cached,
    }
    own, full, _ = (way() for way in ways.values())
    least, most = (tokens.argmax(dim=-1) + 1).aminmax()
    print(f"{len(sentences)} sentences of {least} to {most} tokens, {torch.get_num_threads()} threads")
    print(f"largest difference of the unit vectors {(own - full).abs().max():.1e}\n")
    print_ratios(medians(ways, args.repeats))
