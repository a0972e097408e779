"""Test SDP, CLIP-AD without training, on a data set; test_SDP.sh runs it with the paper's settings."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from data.options import add_data_options, evaluation_set_from_options, fill_in_from_data_set
from data.output_options import add_output_options
from data.testing import add_seed_option, check_published, evaluate_detector, start_test
from datasets.registry import get_spec
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
from models.sdp import SDP
from utils.errors import run
from utils.stopwatch import Stopwatch


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Zero-shot anomaly detection with SDP (CLIP-AD).")
    add_data_options(parser)
    add_model_options(parser)
    add_prompt_options(parser)
    add_map_options(parser)
    add_seed_option(parser)
    add_output_options(parser, default_folder="results/sdp/NAME")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the test and write its results."""
    args = parse_arguments(arguments)
    with start_test(args, Path("results/sdp") / args.dataset):
        test(args)


def test(args: argparse.Namespace) -> None:
    """Test the method that the options describe, and write its results."""
    check_published(args, "SDP", [args.dataset])
    stopwatch = Stopwatch()
    resolve_model_options(args)
    fill_in_from_data_set(args, get_spec(args.dataset))
    fidelity = Fidelity.named(args.fidelity)
    device = find_device(args.device)
    prompts = read_prompts(args.prompts)
    with stopwatch("data set"):
        images = evaluation_set_from_options(args)
    with stopwatch("model"):
        backbone = backbone_from_options(args, device)
    with stopwatch("text"):
        text_features = text_features_from_options(args, backbone, prompts, images.phrases)

    detector = SDP(backbone, text_features, fidelity, args.smoothing)
    evaluate_detector(args, detector, backbone, images, method="SDP", fidelity=fidelity, stopwatch=stopwatch)


if __name__ == "__main__":
    run(main, parallel=True)
