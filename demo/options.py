"""The options of the demonstration model's training; nothing that takes long to import is imported here."""

from pathlib import Path

from utils.arguments import Options, PositiveFloat, PositiveInt, ProcessCount, option

FOLDER = Path(__file__).resolve().parents[1] / "pretrained_models" / "demo"


class DemoTrainingOptions(Options):
    """The training of the demonstration model."""

    output: Path = option("folder to write to", FOLDER)
    config: Path = option("open_clip model config", FOLDER / "demo.json")
    steps: PositiveInt = option("optimiser steps", 6000)
    pairs: PositiveInt = option("pairs of pictures rendered", 6400)
    validation_pairs: PositiveInt = option("pairs rendered to validate on", 320)
    batch: PositiveInt = option("pairs of pictures a step", 16)
    lr: PositiveFloat = option("highest learning rate", 1.5e-3)
    sentences: PositiveInt = option("per class and state a step", 2)
    seed: PositiveInt = option("of everything random", 20240)
    threads: ProcessCount = option("to compute with", 2)
    validate_every: PositiveInt = option("steps between validations", 200)
