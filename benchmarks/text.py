"""Times the sentences of one class through the text tower: at their own lengths, at the full context, from the cache.

python benchmarks/text.py
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import medians, ratio_table
from models.backbone import load_backbone
from models.fidelity import Fidelity
from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features, encode_sentences
from tests.random_weights import save_random_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16-plus-240", help="open_clip model name (default: %(default)s)")
    parser.add_argument("--phrase", default="bottle", help="what the class is called (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = save_random_weights(args.model, Path(folder) / "random.safetensors")
        backbone = load_backbone(
            model=args.model,
            pretrained=str(weights),
            image_size=None,
            features_list=None,
            fidelity=Fidelity.named("corrected"),
            device=torch.device("cpu"),
        )
        prompts = read_prompts("industrial")
        normal, anomalous = prompts.sentences(args.phrase)
        sentences = normal + anomalous
        choice = RepVecChoice("mean")

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
    print(
        f"{args.model}, {len(sentences)} sentences on '{args.phrase}' of {lengths.min()} to {lengths.max()} tokens, "
        f"{torch.get_num_threads()} threads, median of {args.repeats} rounds; "
        f"largest difference of the unit vectors {difference:.1e}\n"
    )
    print(ratio_table(seconds))


if __name__ == "__main__":
    main()
