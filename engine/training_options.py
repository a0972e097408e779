"""The options of the trainings, see `engine.options`."""

from pathlib import Path
from typing import ClassVar, Literal

from datasets.layout_options import LayoutOptions
from engine.options import (
    DATA_SETS,
    FIDELITY,
    FOLDERS,
    LISTS,
    NAME,
    PROMPTS,
    PROTOCOL,
    PROTOCOLS,
    AdapterOptions,
    BackboneOptions,
    ClipAdOptions,
    DataSetName,
    PhraseOptions,
    ReadingOptions,
    SeedOptions,
    TileOptions,
)
from models.fidelity import FidelityName
from utils.arguments import NonNegativeFloat, Options, PositiveFloat, PositiveInt, Seed, Share, flag, option, required


class TrainingDataOptions(LayoutOptions):
    """What is trained on."""

    train_dataset: tuple[DataSetName, ...] = required(f"train on the test split of these: {DATA_SETS}", **NAME)
    train_dataset_dir: tuple[Path, ...] | None = option(FOLDERS, metavar="DIR")
    train_classes: tuple[str, ...] | None = option("train on these classes only (default: all)", metavar="CLASS")
    train_meta: tuple[Path, ...] | None = option(LISTS, metavar="FILE")
    train_protocol: tuple[str, ...] | None = option(PROTOCOLS, metavar="NAME")
    shot: PositiveInt | None = option(
        "take K normal and K anomalous images of each class, drawn by --seed as data/few_shot.py does (default: all)",
        metavar="K",
    )


class ValidationOptions(Options):
    """What a training is validated on."""

    test_dataset: DataSetName | None = option(
        "validate on it after every checkpoint; none of its images may be trained on (default: none)", **NAME
    )
    test_dataset_dir: Path | None = option("its folder (default: data/NAME)")
    test_protocol: str | None = option(f"{PROTOCOL}; default: its first", metavar="NAME")
    test_classes: tuple[str, ...] | None = option("validate on these classes only", metavar="CLASS")


class EpochOptions(Options):
    """How long is trained, and what is kept."""

    save_path: Path = required("folder for checkpoints, curves and the log")
    epochs: PositiveInt = option("passes over the images", 5)
    save_freq: PositiveInt = option("epochs between two checkpoints, and validations", 1)
    print_freq: PositiveInt = option("epochs between two lines of the loss in the log", 1)
    resume: bool = flag("go on with the training in --save_path, if there is one")
    seeds: tuple[Seed, ...] | None = option(
        "train once by each of these in place of --seed, one after another, into seed_N in --save_path", metavar="SEED"
    )


class TokenOptions(Options):
    """The cache of patch tokens; it lies in the prompts' `cache_dir`."""

    no_cache: bool = flag("keep no tokens: encode every image in each epoch")
    cache_precision: Literal["fp16", "fp32"] = option(
        "how tokens are kept in --cache_dir; fp32 takes twice the space", "fp16"
    )
    cache_memory: NonNegativeFloat = option(
        "tokens that take no more are held in memory, others mapped from the disk", 4.0, metavar="GIB"
    )


class OptimisationOptions(Options):
    """How DP-CLIP's image adapter is optimised."""

    short_for: ClassVar = {
        "--amp": ("precision", "bf16", "mixed precision, short for --precision bf16; with fp16, the loss is scaled")
    }
    learning_rate: PositiveFloat = option("of Adam", 5e-4)
    milestones: tuple[PositiveInt, ...] = option(
        "steps after which the learning rate is halved (default: 16000 32000)", (16000, 32000), metavar="STEP"
    )
    decoupling_weight: NonNegativeFloat = option("weight of the decoupling loss", 0.1, metavar="WEIGHT")
    momentum_alpha: Share = option("share of a prototype that an update keeps, from 0 to 1", 0.999, metavar="ALPHA")
    accumulate: PositiveInt = option(
        "batches a step, by their mean gradient; losses and prototypes stay each batch's own", 1, metavar="K"
    )
    clip_gradient: PositiveFloat | None = option("shorten longer gradients to this (default: no)", metavar="LENGTH")
    activation_checkpointing: bool = flag(
        "keep the blocks' inputs, compute the rest again: less memory, the same result"
    )
    no_augmentation: bool = flag("train on the images as they are tested")


class TrainingOptions(TrainingDataOptions, ReadingOptions, BackboneOptions, PhraseOptions, EpochOptions, SeedOptions):
    """What every training has, beside its method's own options."""


class SDPPlusTrainingOptions(TrainingOptions, ValidationOptions, TileOptions, ClipAdOptions, TokenOptions):
    """A training of SDP+'s adapters."""

    learning_rate: PositiveFloat = option("of Adam", 1e-4)

    def mistake(self) -> str | None:
        given = self.first_given(("test_dataset_dir", "test_protocol", "test_classes", "tile"))
        return f"--{given} goes with --test_dataset" if given and self.test_dataset is None else super().mistake()


class DPClipTrainingOptions(TrainingOptions, AdapterOptions, OptimisationOptions):
    """A training of DP-CLIP's image adapter."""

    batch_size: PositiveInt = 3
    fidelity: FidelityName = option(FIDELITY.format("released"), "released")
    prompts: str = option(PROMPTS.format("dp_clip"), "dp_clip")
    epochs: PositiveInt = 20
    seed: Seed = 111
