"""Train the demonstration model: a small CLIP that knows the surfaces of the demo set and their defects.

    python demo/train.py

Pictures are rendered anew (never those of the demo set), captions are the detectors' own sentences.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path[0] = str(PROJECT)

from utils.arguments import positive_float, positive_int
from utils.errors import run

FOLDER = PROJECT / "pretrained_models" / "demo"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument("--config", type=Path, default=FOLDER / "demo.json", help="open_clip model config")
    parser.add_argument("--steps", type=positive_int, default=6000, help="optimiser steps")
    parser.add_argument("--pairs", type=positive_int, default=6400, help="pairs of pictures rendered")
    parser.add_argument("--validation_pairs", type=positive_int, default=320, help="pairs rendered to validate on")
    parser.add_argument("--batch", type=positive_int, default=16, help="pairs of pictures a step")
    parser.add_argument("--lr", type=positive_float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--sentences", type=positive_int, default=2, help="per class and state a step")
    parser.add_argument("--seed", type=positive_int, default=20240, help="of everything random")
    parser.add_argument("--threads", type=positive_int, default=2, help="to compute with")
    parser.add_argument("--validate_every", type=positive_int, default=200, help="steps between validations")
    args = parser.parse_args(arguments)

    from demo.training import train  # which imports PyTorch: seconds that --help and a wrong option do not need

    train(**vars(args))


if __name__ == "__main__":
    run(main)
