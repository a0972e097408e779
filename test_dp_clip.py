"""Test DP-CLIP on one data set or several; test_DP_CLIP.sh runs it on all of the paper's."""

import argparse
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from data.options import EvaluationSet, add_data_sets_options, evaluation_sets_from_options
from data.output_options import add_output_options
from data.testing import add_seed_option, check_published, evaluate_detector, start_test
from models.adapter import ImageAdapter
from models.adapter_checkpoint import AdapterCheckpoint, differences, seen_in_training
from models.backbone import Backbone
from models.dp_clip import SMOOTHING, DPClip
from models.dp_clip_checkpoint import load_image_adapter, read_image_adapter
from models.dp_clip_options import adapter_settings, add_adapter_options
from models.fidelity import Fidelity
from models.options import (
    add_dp_clip_prompt_options,
    add_model_options,
    backbone_from_options,
    dp_clip_text_features_from_options,
    find_device,
    resolve_model_options,
)
from models.text import discard_text_tower
from utils.distributed import is_main
from utils.epochs import Summary
from utils.errors import UserError, run
from utils.evaluation_types import ClassResult
from utils.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Zero-shot anomaly detection with DP-CLIP.")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="a trained image adapter, of train_dp_clip.py or of the authors; several epochs of one training give a "
        "curve",
    )
    add_data_sets_options(parser)
    add_model_options(parser, fidelity="the checkpoint's")
    add_dp_clip_prompt_options(parser)
    add_adapter_options(parser)
    parser.add_argument(
        "--domain", choices=SMOOTHING, help="how maps are smoothed and images scored; default: by the data set"
    )
    add_seed_option(parser, default=111)
    add_output_options(parser, default_folder="results/dp_clip")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tests and write their results."""
    args = parse_arguments(arguments)
    with start_test(args, Path("results/dp_clip")):
        test(args)


def test(args: argparse.Namespace) -> None:
    """Test every checkpoint on every data set that the options name, and write the results."""
    check_published(args, "DP-CLIP", args.dataset)
    stopwatch = Stopwatch()
    checkpoints = _read_checkpoints(args)
    args.fidelity = args.fidelity or next(iter(checkpoints.values())).fidelity
    resolve_model_options(args)
    fidelity = Fidelity.named(args.fidelity, "dp_clip")
    device = find_device(args.device)
    with stopwatch("data set"):
        data_sets = evaluation_sets_from_options(args)
    with stopwatch("model"):
        backbone = backbone_from_options(args, device, "dp_clip")
        adapters = {
            name: load_image_adapter(checkpoint, backbone, adapter_settings(args, backbone, fidelity, checkpoint))
            for name, checkpoint in checkpoints.items()
        }
    _warn(args, checkpoints, backbone, data_sets)
    with stopwatch("text"):
        texts = [dp_clip_text_features_from_options(args, backbone, images.described_phrases) for images in data_sets]
    discard_text_tower(backbone)

    summary = Summary(args.save_path, "DP-CLIP")
    for name, checkpoint in checkpoints.items():
        folder = args.save_path / name if len(checkpoints) > 1 else args.save_path
        for images, text in zip(data_sets, texts, strict=True):
            results = _test(args, folder, checkpoint, adapters[name], backbone, images, text, fidelity, stopwatch)
            if is_main():
                summary.add(checkpoint.origin["epoch"], images.spec.name, results)
    if is_main():
        logger.info("DP-CLIP, means over the classes\n%s", summary.table())
        logger.info("the tables are in %s", args.save_path / "summary.md")


def _read_checkpoints(args: argparse.Namespace) -> dict[str, AdapterCheckpoint]:
    """The checkpoints by what their results are called, in the order of their epochs.

    Raises:
        UserError: one cannot be read, or they cannot be told apart or be tested together.
    """
    read = [read_image_adapter(path) for path in args.checkpoint]
    if args.fidelity is None and len({checkpoint.fidelity for checkpoint in read}) > 1:
        raise UserError("--checkpoint names files trained in different fidelities: test them in separate runs")
    read.sort(key=lambda checkpoint: checkpoint.origin["epoch"])
    named = {f"epoch_{checkpoint.origin['epoch']}": checkpoint for checkpoint in read}
    if len(named) < len(read):
        raise UserError("--checkpoint names two files of one epoch: test them in separate runs")
    return named


def _warn(
    args: argparse.Namespace,
    checkpoints: Mapping[str, AdapterCheckpoint],
    backbone: Backbone,
    data_sets: Sequence[EvaluationSet],
) -> None:
    """Say where a test departs from the training, or does not show what it seems to."""
    for checkpoint in checkpoints.values():
        for difference in differences(checkpoint, backbone):
            logger.warning("%s", difference)
        if args.fidelity != checkpoint.fidelity:
            logger.warning("%s was trained in %s fidelity", checkpoint.path, checkpoint.fidelity)
    seen = [
        sentence
        for checkpoint in checkpoints.values()
        for images in data_sets
        for sentence in seen_in_training(checkpoint, images.spec.name, images.phrases)
    ]
    for sentence in dict.fromkeys(seen):  # once for all epochs of a training
        logger.warning("%s", sentence)
    if Fidelity.named(args.fidelity, "dp_clip").grn_over_batch:
        logger.info(
            "in released fidelity the images of a batch influence each other: the figures hold for --batch_size %d",
            args.batch_size,
        )


def _test(
    args: argparse.Namespace,
    folder: Path,
    checkpoint: AdapterCheckpoint,
    adapter: ImageAdapter,
    backbone: Backbone,
    images: EvaluationSet,
    text: Mapping[str, Tensor],
    fidelity: Fidelity,
    stopwatch: Stopwatch,
) -> list[ClassResult]:
    """Test one checkpoint on one data set, with its results in a folder of the data set's name."""
    name = images.spec.name
    position = args.dataset.index(name)
    own = argparse.Namespace(
        **{
            **vars(args),
            "checkpoint": checkpoint.path,
            "dataset": name,
            "data_path": images.root,
            "meta": args.meta[position] if args.meta else None,
            "domain": args.domain or images.spec.domain,
            "save_path": folder / name,
        }
    )
    return evaluate_detector(
        own,
        DPClip(backbone, adapter, text, own.domain),
        backbone,
        images,
        method="DP-CLIP",
        fidelity=fidelity,
        stopwatch=Stopwatch(Counter(stopwatch.seconds)),
        further={"checkpoint": {"path": str(checkpoint.path), "sha256": checkpoint.sha256, **checkpoint.origin}},
    )


if __name__ == "__main__":
    run(main, parallel=True)
