"""Any of the methods as a detector, from its name and the options that all entry points share."""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from models.backbone import Backbone
from models.fidelity import Fidelity
from models.options import (
    backbone_from_options,
    find_device,
    resolve_model_options,
    text_features_from_options,
)
from models.prompts import read_prompts
from models.sdp import SDP
from models.sdp_plus import SDPPlus
from models.sdp_plus_checkpoint import differences, load_adapters, read_adapters
from utils.errors import UserError
from utils.evaluation import Detector

logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A detector, its backbone, and what its scores depend on."""

    detector: Detector
    backbone: Backbone
    origin: dict[str, Any]


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the method and its checkpoint."""
    parser.add_argument(
        "--method", choices=("sdp", "sdp_plus"), default="sdp", help="the detector (default: %(default)s)"
    )
    parser.add_argument("--checkpoint", type=Path, help="trained adapters, for all methods but sdp")


def detector_from_options(args: argparse.Namespace, phrases: Mapping[str, str]) -> Loaded:
    """Load the method that the options name.

    Args:
        args: the options, of which those of the backbone are resolved here; those that depend on a data set are
            filled in already.
        phrases: what each class is called in the prompts.

    Raises:
        UserError: the backbone or the checkpoint cannot be read or do not fit, or a checkpoint is missing or too many.
    """
    if (args.method == "sdp") != (args.checkpoint is None):
        raise UserError(
            "--method sdp takes no --checkpoint; choose --method sdp_plus for trained adapters"
            if args.method == "sdp"
            else f"--method {args.method} needs trained adapters: give them with --checkpoint"
        )
    checkpoint = read_adapters(args.checkpoint) if args.checkpoint is not None else None
    if checkpoint is not None:
        args.fidelity = args.fidelity or checkpoint.fidelity
    resolve_model_options(args)
    fidelity = Fidelity.named(args.fidelity)
    prompts = read_prompts(args.prompts)
    backbone = backbone_from_options(args, find_device(args.device))
    text_features = text_features_from_options(args, backbone, prompts, phrases)
    origin = {
        "method": args.method,
        "checkpoint_sha256": checkpoint.sha256 if checkpoint is not None else None,
        "weights_sha256": backbone.weights.sha256,
        "image_size": backbone.image_size,
        "features_list": list(backbone.features_list),
        "fidelity": args.fidelity,
        "precision": args.precision,
        "smoothing": args.smoothing,
        "prompts": args.prompts,
        "rep_vec": args.rep_vec,
        "phrases": list(phrases.values()),
    }
    if checkpoint is None:
        detector: Detector = SDP(backbone, text_features, fidelity, args.smoothing)
    else:
        for difference in differences(checkpoint, backbone):
            logger.warning("%s", difference)
        adapters = load_adapters(checkpoint, backbone)
        detector = SDPPlus(adapters, backbone, text_features, fidelity, args.smoothing)
    return Loaded(detector, backbone, origin)
