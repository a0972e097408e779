"""The options of the trainings, see `engine.options`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from engine.options import (
    DATA_SETS,
    NAME,
    AdapterOptions,
    BackboneOptions,
    MapOptions,
    ObjectNameOptions,
    PromptOptions,
    ReadingOptions,
    RepVecOptions,
    SeedOptions,
    fidelity_option,
    prompts_option,
)
from models.fidelity import FidelityName
from utils.arguments import Options, flag, non_negative_float, option, positive_float, positive_int, seed, share


@dataclass(frozen=True, kw_only=True)
class TrainingDataOptions(Options):
    """What is trained on."""

    title = "data"
    train_dataset: tuple[str, ...] = option(f"data sets whose test split is trained on: {DATA_SETS}", nargs="+", **NAME)
    train_dataset_dir: tuple[Path, ...] | None = option(
        "their folders, in the same order (default: data/NAME)", None, nargs="+", type=Path, metavar="DIR"
    )
    train_classes: tuple[str, ...] | None = option(
        "train on these classes only (default: all of the data set)", None, nargs="+", metavar="CLASS"
    )
    train_meta: tuple[Path, ...] | None = option(
        "lists of their images, in the same order, as meta.json or .jsonl (default: each folder's meta.json)",
        None,
        nargs="+",
        type=Path,
        metavar="FILE",
    )
    shot: int | None = option(
        "train on K normal and K anomalous images of each class, those data/few_shot.py draws by --seed (default: all)",
        None,
        type=positive_int,
        metavar="K",
    )


@dataclass(frozen=True, kw_only=True)
class ValidationOptions(Options):
    """What a training is validated on."""

    title = "validation"
    test_dataset: str | None = option(
        "validate on it after every checkpoint; none of its images may be trained on (default: none)", None, **NAME
    )
    test_dataset_dir: Path | None = option("its folder (default: data/NAME)", None, type=Path)
    test_classes: tuple[str, ...] | None = option("validate on these classes only", None, nargs="+", metavar="CLASS")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """How long is trained, and what is kept."""

    title = "training"
    save_path: Path = option("folder for checkpoints, curves and the log", type=Path)
    epochs: int = option("passes over the images (default: %(default)s)", 5, type=positive_int)
    save_freq: int = option(
        "epochs between two checkpoints, and validations (default: %(default)s)", 1, type=positive_int
    )
    resume: bool = flag("go on with the training in --save_path, if there is one")


@dataclass(frozen=True, kw_only=True)
class TokenOptions(Options):
    """The cache of patch tokens; it lies in the prompts' `cache_dir`."""

    title = "cache of patch tokens"
    no_cache: bool = flag("keep no tokens: encode every image anew in each epoch")
    cache_precision: str = option(
        "how tokens are kept in --cache_dir; fp32 takes twice the space (default: %(default)s)",
        "fp16",
        choices=("fp16", "fp32"),
    )
    cache_memory: float = option(
        "tokens that take no more are held in memory, others mapped from the disk (default: %(default)s)",
        4.0,
        type=non_negative_float,
        metavar="GIB",
    )


@dataclass(frozen=True, kw_only=True)
class SDPPlusTrainingOptions(
    TrainingDataOptions,
    ReadingOptions,
    ValidationOptions,
    BackboneOptions,
    ObjectNameOptions,
    PromptOptions,
    RepVecOptions,
    MapOptions,
    TokenOptions,
    TrainingOptions,
    SeedOptions,
):
    """A training of SDP+'s adapters."""

    title = "training"
    learning_rate: float = option("of Adam (default: %(default)s)", 1e-4, type=positive_float)
    print_freq: int = option(
        "epochs between two lines of the loss in the log (default: %(default)s)", 1, type=positive_int
    )


@dataclass(frozen=True, kw_only=True)
class OptimisationOptions(Options):
    """How DP-CLIP's image adapter is optimised."""

    title = "optimisation"
    short_for: ClassVar = {
        "--amp": ("precision", "bf16", "mixed precision, short for --precision bf16; with fp16, the loss is scaled")
    }
    learning_rate: float = option("of Adam (default: %(default)s)", 5e-4, type=positive_float)
    milestones: tuple[int, ...] = option(
        "steps after which the learning rate is halved (default: 16000 32000)",
        (16000, 32000),
        nargs="+",
        type=positive_int,
        metavar="STEP",
    )
    decoupling_weight: float = option(
        "weight of the decoupling loss (default: %(default)s)", 0.1, type=non_negative_float, metavar="WEIGHT"
    )
    momentum_alpha: float = option(
        "share of a prototype that an update keeps, from 0 to 1 (default: %(default)s)",
        0.999,
        type=share,
        metavar="ALPHA",
    )
    accumulate: int = option(
        "batches a step, which takes the mean of their gradients; losses and prototypes stay each batch's own "
        "(default: %(default)s)",
        1,
        type=positive_int,
        metavar="K",
    )
    clip_gradient: float | None = option(
        "shorten gradients that are longer than this (default: no)", None, type=positive_float, metavar="LENGTH"
    )
    activation_checkpointing: bool = flag("keep the blocks' inputs only: less memory, more time, the same result")


@dataclass(frozen=True, kw_only=True)
class DPClipTrainingOptions(
    TrainingDataOptions,
    ReadingOptions,
    BackboneOptions,
    ObjectNameOptions,
    PromptOptions,
    AdapterOptions,
    OptimisationOptions,
    TrainingOptions,
    SeedOptions,
):
    """A training of DP-CLIP's image adapter."""

    title = "training"
    batch_size: int = option("images a batch and process (default: %(default)s)", 3, type=positive_int)
    fidelity: FidelityName | None = fidelity_option("released")
    prompts: str = prompts_option("dp_clip", "dp_clip")
    epochs: int = option("passes over the images (default: %(default)s)", 20, type=positive_int)
    seed: int = option("seed of all random numbers (default: %(default)s)", 111, type=seed)
    no_augmentation: bool = flag("train on the images as they are tested")
