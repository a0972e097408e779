"""Find anomalies in photographs of your own; predict.sh runs it with settings to edit."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from data.options import add_reading_options, fill_in_from_data_set
from data.photographs import find_photographs
from data.prediction import calibration_from_options, predict_photographs
from data.prediction_files import PredictionFiles, check_unused
from data.prediction_writer import PredictionWriter
from data.testing import add_seed_option
from datasets.registry import get_spec
from models.backbone import Backbone
from models.detectors import add_method_options, detector_from_options, refuse_idle_options
from models.options import CLIP_AD_FIDELITY, add_map_options, add_model_options, add_prompt_options
from utils.arguments import finite_float, non_empty, rate
from utils.calibration import Calibration
from utils.distributed import from_main, is_main
from utils.errors import run
from utils.evaluation_types import Detector
from utils.lock import locked
from utils.runtime import environment, git_commit, seed_everything, start_log

logger = logging.getLogger(__name__)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Find anomalies in photographs of your own, with a threshold if there are normal ones."
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="image files, folders, patterns in quotes like 'parts/**/*.png', or - for a list on standard input",
    )
    parser.add_argument(
        "--object", type=non_empty, default="object", help="what is on them, as in 'metal nut' (default: %(default)s)"
    )
    add_method_options(parser)
    group = parser.add_argument_group("calibration")
    group.add_argument("--normal_dir", type=Path, help="folder of normal images to calibrate on")
    group.add_argument("--calibration", type=Path, help="calibration.json of an earlier run, instead")
    group.add_argument(
        "--false_alarm_rate",
        type=rate,
        default=0.05,
        help="share of normal images that may be called anomalous, with --normal_dir (default: %(default)s)",
    )
    group.add_argument(
        "--threshold", type=finite_float, help="mark what scores above this on the maps, where there is no calibration"
    )
    add_model_options(parser, fidelity=f"the checkpoint's; without one, {CLIP_AD_FIDELITY}")
    add_prompt_options(parser, obj_name=False)
    parser.add_argument(
        "--domain",
        choices=("industrial", "medical"),
        default="industrial",
        help="whose prompts to take where --prompts names none, and dp_clip's form of maps and scores (default: "
        "%(default)s)",
    )
    add_map_options(parser)
    add_seed_option(parser)
    add_reading_options(parser.add_argument_group("reading"))
    group = parser.add_argument_group("output")
    group.add_argument(
        "--save_path", type=Path, default=Path("results/predict"), help="folder for the results (default: %(default)s)"
    )
    group.add_argument("--save_maps", action="store_true", help="write every anomaly map to maps/ as .npy")
    group.add_argument(
        "--save_masks", action="store_true", help="write the marked pixels of every image to masks/ as .png"
    )
    group.add_argument("--no_overlays", action="store_true", help="leave out overlays/, the images with their maps")
    group.add_argument("--resume", action="store_true", help="go on with the prediction in --save_path")
    args = parser.parse_args(arguments)
    refuse_idle_options(parser, args)
    if args.normal_dir is not None and args.calibration is not None:
        parser.error("give --normal_dir or --calibration, not both")
    if args.threshold is not None and (args.normal_dir or args.calibration):
        parser.error("--threshold is for predictions without calibration, which has its own")
    if args.save_masks and not (args.normal_dir or args.calibration or args.threshold is not None):
        parser.error("--save_masks needs what pixels are marked by: --normal_dir, --calibration or --threshold")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, and say what was found; 1 if an image could not be read."""
    args = parse_arguments(arguments)
    paths = from_main(lambda: find_photographs(args.inputs, sys.stdin))
    with locked(args.save_path):
        if is_main() and not args.resume:
            check_unused(args.save_path)
        start_log(args.save_path / "predict.log", append=args.resume)
        seed_everything(args.seed)
        return predict(args, paths)


def predict(args: argparse.Namespace, paths: Sequence[Path]) -> int:
    """Predict the images at `paths` as the options say; 1 if one could not be read."""
    if args.method == "dp_clip":
        args.prompts = args.prompts or "dp_clip"
    fill_in_from_data_set(args, replace(get_spec("folder"), domain=args.domain))
    detector, backbone, origin = detector_from_options(args, {args.object: args.object})
    calibration = calibration_from_options(args, detector, backbone, origin)

    if not is_main():
        share_in_prediction(args, detector, backbone, paths)
        return 0
    settings = origin | {
        "calibration": None if calibration is None else asdict(calibration),
        "threshold": args.threshold,
        "environment": environment(backbone.device),
        "git_commit": git_commit(Path(__file__).parent),
    }
    files = PredictionFiles(args.save_path, settings)
    if calibration is not None:
        calibration.save(args.save_path / "calibration.json")
        tell_calibration(calibration, args.save_path)
    writer = PredictionWriter(args, files, paths, calibration)
    order = from_main(writer.order)
    logger.info("%d images, of which %d are to be predicted now", len(paths), len(order))
    for one in predict_photographs(args, detector, backbone, paths, order, "predicting"):
        writer.write(one)
    return writer.finish()


def share_in_prediction(
    args: argparse.Namespace, detector: Detector, backbone: Backbone, paths: Sequence[Path]
) -> None:
    """Predict this process's share of the images, and hand the results to the main process."""
    order = from_main(list)
    for _ in predict_photographs(args, detector, backbone, paths, order, "predicting"):
        pass


def tell_calibration(calibration: Calibration, folder: Path) -> None:
    """Log what the calibration promises."""
    count = len(calibration.map_max)
    logger.info(
        "calibrated on %d normal images, kept in %s: at most %.1f %% of normal images are called anomalous",
        count,
        folder / "calibration.json",
        100 * calibration.promised_rate,
    )
    if calibration.promised_rate > calibration.rate:
        logger.warning(
            "a false-alarm rate of %g needs %d normal images or more; with %d no less than %.1f %% can be promised",
            calibration.rate,
            calibration.needed_images,
            count,
            100 * calibration.promised_rate,
        )


if __name__ == "__main__":
    run(main, parallel=True)
