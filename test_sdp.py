"""Test SDP, CLIP-AD without training, on a data set; test_SDP.sh runs it with the paper's settings."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from data.options import (
    add_data_options,
    evaluation_set_from_options,
    fill_in_from_data_set,
    loader_from_options,
)
from datasets.registry import get_spec
from models.fidelity import Fidelity
from models.options import (
    add_model_options,
    add_prompt_options,
    backbone_from_options,
    find_device,
    resolve_model_options,
    text_features_from_options,
)
from models.prompts import read_prompts
from models.sdp import SDP
from utils.arguments import non_negative_float, seed
from utils.errors import run
from utils.evaluation import Stopwatch
from utils.report import Outputs, add_output_options, evaluate_and_report
from utils.runtime import seed_everything, start_log


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Zero-shot anomaly detection with SDP (CLIP-AD).")
    add_data_options(parser)
    add_model_options(parser)
    add_prompt_options(parser)
    parser.add_argument(
        "--smoothing",
        type=non_negative_float,
        help="standard deviation in pixels of the Gaussian filter on the maps; default: the data set's (8)",
    )
    parser.add_argument(
        "--seed", type=seed, default=42, help="seed of all random numbers (default: %(default)s)"
    )
    add_output_options(parser, default_folder="results/sdp/NAME")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the test and write its results."""
    args = parse_arguments(arguments)
    args.save_path = args.save_path or Path("results/sdp") / args.dataset
    start_log(args.save_path / "test.log")
    seed_everything(args.seed)
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

    evaluate_and_report(
        SDP(backbone, text_features, fidelity, args.smoothing),
        loader_from_options(args, images, backbone.image_size, pin_memory=backbone.device.type == "cuda"),
        images.entries,
        read_image=partial(images.read_image, image_size=backbone.image_size),
        device=backbone.device,
        stopwatch=stopwatch,
        outputs=Outputs(
            folder=args.save_path,
            legacy_pro=args.legacy_pro,
            save_maps=args.save_maps,
            visualization=args.visualization,
        ),
        title=f"SDP on {args.dataset}",
        description={
            "method": "SDP",
            "dataset": args.dataset,
            "arguments": {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()},
            "fidelity": {"name": args.fidelity, **asdict(fidelity)},
            "backbone": {
                "name": backbone.name,
                "image_size": backbone.image_size,
                "features_list": backbone.features_list,
                "activation": backbone.activation,
            },
            "weights": {"path": str(backbone.weights.path), "sha256": backbone.weights.sha256},
        },
    )


if __name__ == "__main__":
    run(main)
