"""Train the demonstration model: a small CLIP that knows the surfaces of the demo set and their defects.

    python demo/train.py
    python demo/train.py --start pretrained_models/demo/demo.safetensors --seed 20250      # go on from weights

Pictures are rendered afresh (never those of the demo set), captions are the detectors' own sentences.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from utils.arguments import Options, PositiveFloat, PositiveInt, ProcessCount, Share, option, parse
from utils.errors import run

FOLDER = Path(__file__).resolve().parents[1] / "pretrained_models" / "demo"


class DemoTrainingOptions(Options):
    """The training of the demonstration model."""

    output: Path = option("folder to write to", FOLDER)
    config: Path = option("open_clip model config", FOLDER / "demo.json")
    start: Path | None = option("weights of this training to go on from; else from the beginning")
    precision: Literal["fp32", "bf16"] = option("arithmetic of the towers; bf16 pays with AVX-512", "fp32")
    steps: PositiveInt = option("optimiser steps", 6000)
    pairs: PositiveInt = option("pairs of pictures rendered", 6400)
    validation_pairs: PositiveInt = option("pairs rendered to validate on", 320)
    batch: PositiveInt = option("pairs of pictures a step", 16)
    lr: PositiveFloat = option("highest learning rate", 1.5e-3)
    fall: Share = option("share of the steps, the last, over which the learning rate falls", 1 / 3)
    sentences: PositiveInt = option("per class and state a step", 2)
    seed: PositiveInt = option("of everything random", 20240)
    threads: ProcessCount = option("to compute with", 2)
    validate_every: PositiveInt = option("steps between validations", 200)

    def mistake(self) -> str | None:
        """Say that a batch cannot be filled, or that a step would leave float32's range."""
        if self.lr > 1:
            return f"--lr {self.lr:g} is more than 1, from which nothing is learnt"
        return "--batch takes more pairs than --pairs renders" if self.batch > self.pairs else None


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(DemoTrainingOptions, __doc__, arguments)

    from demo.training import train  # which imports PyTorch: seconds that --help and a wrong option do not need

    train(options)


if __name__ == "__main__":
    run(main)
