"""Times the sentences of one class through the text tower: at their own lengths, at the full context, from the cache.

python benchmarks/text.py
"""

import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import medians, ratio_table, start
from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features, encode_sentences
from tests.random_weights import random_backbone


def main() -> None:
    args = start(
        __doc__,
        model=("ViT-B-16-plus-240", "open_clip model name"),
        phrase=("bottle", "what the class is called"),
        repeats=(3, "timed rounds"),
    )
    prompts, choice = read_prompts("industrial"), RepVecChoice("mean")
    normal, anomalous = prompts.sentences(args.phrase)
    sentences = normal + anomalous
    with tempfile.TemporaryDirectory() as folder:
        backbone = random_backbone(args.model, Path(folder))

        @torch.inference_mode()
        def full_context() -> torch.Tensor:
            return F.normalize(backbone.clip.encode_text(backbone.tokenize(sentences)), dim=-1)

        difference = float((encode_sentences(backbone, sentences) - full_context()).abs().max())
        lengths = backbone.tokenize(sentences).argmax(dim=-1) + 1
        seconds = medians(
            {
                "at their own lengths": lambda: encode_sentences(backbone, sentences),
                "at the full context": full_context,
                "text features from the cache": lambda: class_text_features(
                    backbone, prompts, args.phrase, choice, Path(folder)
                ),
            },
            args.repeats,
        )
    print(f"{len(sentences)} sentences of {lengths.min()} to {lengths.max()} tokens, {torch.get_num_threads()} threads")
    print(f"largest difference of the unit vectors {difference:.1e}\n")
    print(ratio_table(seconds))


if __name__ == "__main__":
    main()
