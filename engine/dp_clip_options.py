"""Command-line options of DP-CLIP's image adapter and its training, and what they stand for."""

import argparse
from typing import Any

from engine.dp_clip_training import TrainingSettings
from models.adapter import AdapterSettings
from models.adapter_checkpoint import AdapterCheckpoint
from models.backbone import Backbone
from models.dual_path import STAGES
from models.fidelity import Fidelity
from utils.arguments import as_given, non_negative_float, non_negative_int, positive_float, positive_int, share
from utils.errors import UserError

DEFAULT_WEIGHT = 0.1


def add_adapter_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the image adapter's form, which is the checkpoint's where there is one that says it."""
    group = parser.add_argument_group("image adapter")
    group.add_argument(
        "--image_adapt_layers",
        type=non_negative_int,
        nargs="+",
        metavar="LAYER",
        help="0-based numbers of the blocks whose output is adapted; default: the first quarter of them "
        "(0 1 2 3 4 5 of ViT-L-14-336)",
    )
    group.add_argument(
        "--image_adapt_weight",
        type=share,
        metavar="WEIGHT",
        help=f"share of the adapted tokens in what goes on, from 0 to 1 (default: {DEFAULT_WEIGHT})",
    )
    group.add_argument(
        "--relu", action=argparse.BooleanOptionalAction, help="end the projections in a LeakyReLU (default: no)"
    )
    group.add_argument(
        "--grn",
        action=argparse.BooleanOptionalAction,
        help="normalise responses, which purifies channels (default: yes)",
    )


def adapter_settings(
    args: argparse.Namespace, backbone: Backbone, fidelity: Fidelity, checkpoint: AdapterCheckpoint | None = None
) -> AdapterSettings:
    """The form of an image adapter: as the checkpoint records it, else as the options say, else as published.

    Raises:
        UserError: an option contradicts the checkpoint, or a block is named that is not there, comes after the last
            tap, or is named twice.
    """
    depth = len(backbone.clip.visual.transformer.resblocks)
    values: dict[str, Any] = {
        "image_adapt_layers": list(range(depth // STAGES)),
        "image_adapt_weight": DEFAULT_WEIGHT,
        "relu": False,
        "grn": True,
    }
    recorded = checkpoint.origin["settings"] if checkpoint is not None else {}
    for name in values:
        wanted, trained = getattr(args, name), recorded.get(name)
        if wanted is not None and trained is not None and wanted != trained:
            raise UserError(
                f"--{name} is {as_given(wanted)}, but {checkpoint.path} was trained with {as_given(trained)}: leave "
                "the option out"
            )
        if wanted is not None or trained is not None:
            values[name] = trained if wanted is None else wanted
    layers = values["image_adapt_layers"]
    last = max(backbone.features_list)
    beyond = next((number for number in layers if number >= last), None)
    if beyond is not None:
        raise UserError(
            f"--image_adapt_layers: {beyond} is not one of the blocks 0 to {last - 1}, which come before the last tap"
        )
    if len(set(layers)) < len(layers):
        raise UserError(f"--image_adapt_layers {as_given(layers)}: give each block once")
    return AdapterSettings(
        features_list=backbone.features_list,
        adapt_layers=tuple(sorted(layers)),
        adapt_weight=values["image_adapt_weight"],
        relu=values["relu"],
        grn=values["grn"],
        grn_over_batch=fidelity.grn_over_batch,
    )


def add_optimisation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the optimisation."""
    group = parser.add_argument_group("optimisation")
    group.add_argument("--learning_rate", type=positive_float, default=5e-4, help="of Adam (default: %(default)s)")
    group.add_argument(
        "--milestones",
        type=positive_int,
        nargs="+",
        metavar="STEP",
        default=[16000, 32000],
        help="steps after which the learning rate is halved (default: 16000 32000)",
    )
    group.add_argument(
        "--decoupling_weight",
        type=non_negative_float,
        default=0.1,
        metavar="WEIGHT",
        help="weight of the decoupling loss (default: %(default)s)",
    )
    group.add_argument(
        "--momentum_alpha",
        type=share,
        default=0.999,
        metavar="ALPHA",
        help="share of a prototype that an update keeps, from 0 to 1 (default: %(default)s)",
    )
    group.add_argument(
        "--accumulate",
        type=positive_int,
        default=1,
        metavar="K",
        help="take a step every K batches, with the mean of their gradients; losses and prototypes remain those of "
        "each batch (default: %(default)s)",
    )
    group.add_argument(
        "--clip_gradient",
        type=positive_float,
        metavar="LENGTH",
        help="shorten gradients that are longer than this (default: no)",
    )
    group.add_argument(
        "--amp",
        dest="precision",
        action="store_const",
        const="bf16",
        help="mixed precision, short for --precision bf16; with fp16, the loss is scaled",
    )
    group.add_argument(
        "--activation_checkpointing",
        action="store_true",
        help="keep the blocks' inputs only and compute the rest again: less memory, more time, the same result",
    )


def training_settings(args: argparse.Namespace) -> TrainingSettings:
    """What the options of the optimisation stand for."""
    return TrainingSettings(
        learning_rate=args.learning_rate,
        milestones=tuple(args.milestones),
        decoupling_weight=args.decoupling_weight,
        momentum_alpha=args.momentum_alpha,
        clip_gradient=args.clip_gradient,
        activation_checkpointing=args.activation_checkpointing,
    )
