"""Any of the methods as a detector, from its name and the options that all entry points share."""

import argparse
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from engine.dp_clip_options import adapter_settings, add_adapter_options
from engine.options import (
    backbone_from_options,
    dp_clip_text_features_from_options,
    find_device,
    resolve_model_options,
    text_features_from_options,
)
from models.adapter_checkpoint import AdapterCheckpoint, differences
from models.backbone import Backbone
from models.dp_clip import DPClip
from models.dp_clip_checkpoint import load_image_adapter, read_image_adapter, settings_record
from models.fidelity import Fidelity
from models.prompts import read_prompts
from models.sdp import SDP
from models.sdp_plus import SDPPlus
from models.sdp_plus_checkpoint import load_adapters, read_adapters
from utils.errors import UserError
from utils.evaluation_types import Detector

logger = logging.getLogger(__name__)

_OF_CLIP_AD = ("smoothing", "rep_vec", "dbscan_eps", "dbscan_min_samples")
_OF_DP_CLIP = ("image_adapt_layers", "image_adapt_weight", "relu", "grn")


class Loaded(NamedTuple):
    """A detector, its backbone, and what its scores depend on."""

    detector: Detector
    backbone: Backbone
    origin: dict[str, Any]


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the method and its checkpoint."""
    parser.add_argument("--method", choices=_METHODS, default="sdp", help="the detector (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="trained adapters, for all methods but sdp")
    add_adapter_options(parser)


def refuse_idle_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program, as the parser does, if an option was given that the method has no use for."""
    for name in _OF_CLIP_AD if args.method == "dp_clip" else _OF_DP_CLIP:
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} is not an option of --method {args.method}")


def detector_from_options(args: argparse.Namespace, phrases: Mapping[str, str]) -> Loaded:
    """Load the method that the options name.

    In released fidelity DP-CLIP's images influence each other within a batch, so they are taken one by one.

    Args:
        args: the options, of which those of the backbone are resolved here, in place; those that depend on a data
            set are filled in already.
        phrases: what each class is called in the prompts.

    Raises:
        UserError: the backbone or the checkpoint cannot be read or do not fit, or a checkpoint is missing or too many.
    """
    if args.method == "sdp" and args.checkpoint is not None:
        raise UserError("--method sdp takes no --checkpoint; choose sdp_plus or dp_clip for trained adapters")
    if args.method != "sdp" and args.checkpoint is None:
        raise UserError(f"--method {args.method} needs trained adapters: give them with --checkpoint")
    return _METHODS[args.method](args, phrases)


def _sdp(args: argparse.Namespace, phrases: Mapping[str, str]) -> Loaded:
    resolve_model_options(args)
    prompts = read_prompts(args.prompts)
    backbone = backbone_from_options(args, find_device(args.device))
    text = text_features_from_options(args, backbone, prompts, phrases)
    detector = SDP(backbone, text, Fidelity.named(args.fidelity), args.smoothing)
    return Loaded(detector, backbone, _clip_ad_origin(args, backbone, phrases, None))


def _sdp_plus(args: argparse.Namespace, phrases: Mapping[str, str]) -> Loaded:
    checkpoint = read_adapters(args.checkpoint)
    args.fidelity = args.fidelity or checkpoint.fidelity
    resolve_model_options(args)
    prompts = read_prompts(args.prompts)
    backbone = backbone_from_options(args, find_device(args.device))
    adapters = load_adapters(checkpoint, backbone)
    text = text_features_from_options(args, backbone, prompts, phrases)
    detector = SDPPlus(adapters, backbone, text, Fidelity.named(args.fidelity), args.smoothing)
    return Loaded(detector, backbone, _clip_ad_origin(args, backbone, phrases, checkpoint))


def _dp_clip(args: argparse.Namespace, phrases: Mapping[str, str]) -> Loaded:
    checkpoint = read_image_adapter(args.checkpoint)
    args.fidelity = args.fidelity or checkpoint.fidelity
    resolve_model_options(args)
    fidelity = Fidelity.named(args.fidelity, "dp_clip")
    backbone = backbone_from_options(args, find_device(args.device), "dp_clip")
    settings = adapter_settings(args, backbone, fidelity, checkpoint)
    adapter = load_image_adapter(checkpoint, backbone, settings)
    text = dp_clip_text_features_from_options(args, backbone, phrases)
    if fidelity.grn_over_batch and args.batch_size > 1:
        logger.info("in released fidelity the images of a batch influence each other: they are taken one by one")
        args.batch_size = 1
    origin = _origin(args, backbone, phrases, checkpoint) | {"domain": args.domain} | settings_record(settings)
    return Loaded(DPClip(backbone, adapter, text, args.domain), backbone, origin)


_METHODS: Mapping[str, Callable[[argparse.Namespace, Mapping[str, str]], Loaded]] = MappingProxyType(
    {"sdp": _sdp, "sdp_plus": _sdp_plus, "dp_clip": _dp_clip}
)


def _clip_ad_origin(
    args: argparse.Namespace, backbone: Backbone, phrases: Mapping[str, str], checkpoint: AdapterCheckpoint | None
) -> dict[str, Any]:
    return _origin(args, backbone, phrases, checkpoint) | {
        "smoothing": args.smoothing,
        "rep_vec": args.rep_vec,
        "dbscan": [args.dbscan_eps, args.dbscan_min_samples],
    }


def _origin(
    args: argparse.Namespace, backbone: Backbone, phrases: Mapping[str, str], checkpoint: AdapterCheckpoint | None
) -> dict[str, Any]:
    """What scores depend on, as JSON has it; warns of what a checkpoint was trained with otherwise."""
    if checkpoint is not None:
        for difference in differences(checkpoint, backbone):
            logger.warning("%s", difference)
        if args.fidelity != checkpoint.fidelity:
            logger.warning("%s was trained in %s fidelity", checkpoint.path, checkpoint.fidelity)
    return {
        "method": args.method,
        "checkpoint_sha256": None if checkpoint is None else checkpoint.sha256,
        "weights_sha256": backbone.weights.sha256,
        "activation": backbone.activation,
        "image_size": backbone.image_size,
        "features_list": list(backbone.features_list),
        "fidelity": args.fidelity,
        "precision": args.precision,
        "prompts_sha256": hashlib.sha256(repr(read_prompts(args.prompts)).encode()).hexdigest(),
        "phrases": [args.obj_name or phrase for phrase in phrases.values()],
    }
