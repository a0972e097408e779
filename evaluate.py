"""Measure saved anomaly maps, a run's or another program's, as the tests of this project's methods do.

    python evaluate.py --maps my_maps --data_path data/mvtec --dataset mvtec
    python evaluate.py --maps my_maps --data_path my_photos --scores my_scores.csv

The map of an image lies in the folder of maps under the image's path, with .npy, .tiff or .png after its name or
in the place of its suffix: bottle/test/broken/000.png.npy or bottle/test/broken/000.tiff.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from data.options import add_data_set_options, add_worker_option, evaluation_set_from_options
from data.saved_scores import read_scores
from datasets.saved_maps import SavedMapDataset, SavedMaps, find_maps, make_map_loader
from utils.arguments import positive_int, seed
from utils.errors import run
from utils.evaluation import Stopwatch
from utils.report import Outputs, add_measure_options, bootstrap_from_options, evaluate_and_report
from utils.runtime import start_log

PICTURE_SIZE = 512  # of an image on the page, in pixels
MAXIMUM_IS_SCORE = "an image's score is its map's maximum, as no scores were given"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=Path, required=True, help="folder of the maps")
    group = parser.add_argument_group("data")
    add_data_set_options(group, default="folder")
    add_worker_option(group)
    group.add_argument(
        "--map_size",
        type=positive_int,
        help="side in pixels of a square that every map is resized to, bilinear; default: each map's own size. Masks "
        "are resized to their map's size, and the maps of a class must be of one size",
    )
    group.add_argument(
        "--scores",
        type=Path,
        help="image scores, a CSV file with the columns image_path and score; default: the maps' maxima",
    )
    add_measure_options(parser)
    parser.add_argument(
        "--report",
        action="store_true",
        help="write report.html, the page of all images, maps, scores and curves; the images are read for it",
    )
    parser.add_argument("--seed", type=seed, default=42, help="of the intervals (default: %(default)s)")
    parser.add_argument(
        "--save_path", type=Path, help="folder for the results (default: results/evaluate/NAME)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the maps and write the results."""
    args = parse_arguments(arguments)
    args.save_path = args.save_path or Path("results/evaluate") / args.dataset
    start_log(args.save_path / "evaluate.log")
    stopwatch = Stopwatch()
    with stopwatch("data set"):
        images = evaluation_set_from_options(args)
        maps = find_maps(args.maps, images.entries)
        scores = None if args.scores is None else read_scores(args.scores, images.entries)
    dataset = SavedMapDataset(
        images.entries,
        images.root,
        maps,
        map_size=args.map_size,
        mask_threshold=images.spec.mask_threshold,
    )
    evaluate_and_report(
        SavedMaps(),
        make_map_loader(dataset, args.num_workers),
        images.entries,
        device=torch.device("cpu"),
        stopwatch=stopwatch,
        outputs=Outputs(
            folder=args.save_path,
            legacy_pro=args.legacy_pro,
            report=args.report,
            bootstrap=bootstrap_from_options(args),
        ),
        title=f"The maps of {args.maps} on {args.dataset}",
        description={
            "method": "saved maps",
            "dataset": args.dataset,
            "arguments": {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()},
        },
        to_picture=lambda seen: images.read_image(seen.sample, PICTURE_SIZE),
        image_scores=scores,
        remarks=[MAXIMUM_IS_SCORE] if scores is None else [],
    )


if __name__ == "__main__":
    run(main)
