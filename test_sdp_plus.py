"""Test SDP+, CLIP-AD with trained adapters, on a data set; test_SDP_plus.sh runs it with the paper's settings."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from data.options import add_data_options, evaluation_set_from_options, fill_in_from_data_set
from data.output_options import add_output_options
from data.testing import add_seed_option, check_published, evaluate_detector, start_test
from datasets.registry import get_spec
from models.adapter_checkpoint import differences, seen_in_training
from models.fidelity import Fidelity
from models.options import (
    add_map_options,
    add_model_options,
    add_prompt_options,
    backbone_from_options,
    find_device,
    resolve_model_options,
    text_features_from_options,
)
from models.prompts import read_prompts
from models.sdp_plus import SDPPlus
from models.sdp_plus_checkpoint import load_adapters, read_adapters
from utils.errors import run
from utils.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Zero-shot anomaly detection with SDP+ (CLIP-AD).")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="trained adapters: a file of train_sdp_plus.py, of the authors, or safetensors",
    )
    add_data_options(parser)
    add_model_options(parser, fidelity="the checkpoint's")
    add_prompt_options(parser)
    add_map_options(parser)
    add_seed_option(parser)
    add_output_options(parser, default_folder="results/sdp_plus/NAME")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the test and write its results."""
    args = parse_arguments(arguments)
    with start_test(args, Path("results/sdp_plus") / args.dataset):
        test(args)


def test(args: argparse.Namespace) -> None:
    """Test the method that the options describe, and write its results."""
    check_published(args, "SDP+", [args.dataset])
    stopwatch = Stopwatch()
    checkpoint = read_adapters(args.checkpoint)
    args.fidelity = args.fidelity or checkpoint.fidelity
    resolve_model_options(args)
    spec = get_spec(args.dataset)
    if args.smoothing is None:
        args.smoothing = spec.smoothing_sdp_plus
    fill_in_from_data_set(args, spec)
    fidelity = Fidelity.named(args.fidelity)
    device = find_device(args.device)
    prompts = read_prompts(args.prompts)
    with stopwatch("data set"):
        images = evaluation_set_from_options(args)
    with stopwatch("model"):
        backbone = backbone_from_options(args, device)
        adapters = load_adapters(checkpoint, backbone)
    for sentence in (*differences(checkpoint, backbone), *seen_in_training(checkpoint, spec.name, images.phrases)):
        logger.warning("%s", sentence)
    if args.fidelity != checkpoint.fidelity:
        logger.warning("%s was trained in %s fidelity", checkpoint.path, checkpoint.fidelity)
    with stopwatch("text"):
        text_features = text_features_from_options(args, backbone, prompts, images.phrases)

    evaluate_detector(
        args,
        SDPPlus(adapters, backbone, text_features, fidelity, args.smoothing),
        backbone,
        images,
        method="SDP+",
        fidelity=fidelity,
        stopwatch=stopwatch,
        further={"checkpoint": {"path": str(checkpoint.path), "sha256": checkpoint.sha256, **checkpoint.origin}},
    )


if __name__ == "__main__":
    run(main, parallel=True)
