"""Train the demonstration model: a small CLIP that knows the surfaces of the demo set and their defects.

    python demo/train.py

Pictures are rendered anew (never those of the demo set), captions are the detectors' own sentences.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from demo.options import DemoTrainingOptions
from utils.arguments import parse
from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(DemoTrainingOptions, __doc__, arguments)

    from demo.training import train  # which imports PyTorch: seconds that --help and a wrong option do not need

    train(options)


if __name__ == "__main__":
    run(main)
