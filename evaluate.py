"""Measure saved anomaly maps, a run's or another program's, or compare runs; no model is needed.

    python evaluate.py --maps my_maps --dataset mvtec --data_path data/mvtec --bootstrap 1000
    python evaluate.py --maps my_maps --data_path my_data --scores my_scores.csv
    python evaluate.py --compare results/sdp/mvtec results/sdp_plus/mvtec
    python evaluate.py --published results/sdp/mvtec

The map of an image lies in the folder of maps under the image's path, with .npy, .tiff or .png after its name or
in the place of its suffix: bottle/test/broken/000.png.npy or bottle/test/broken/000.tiff.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from data.comparison import compare_runs
from data.options import add_data_set_options, add_worker_option, evaluation_set_from_options
from data.output_options import add_measure_options, bootstrap_from_options
from data.published import write_published
from data.saved_scores import read_scores
from data.testing import add_seed_option
from datasets.saved_maps import SavedMapDataset, SavedMaps, find_maps, make_map_loader
from page.page import HtmlReport
from utils.arguments import positive_int
from utils.distributed import is_main, rank, world_size
from utils.errors import run
from utils.evaluation_types import Writer
from utils.lock import locked
from utils.measures.bootstrap import Bootstrap
from utils.report import evaluate_and_report
from utils.results import ResultsWriter, Run, origin
from utils.runtime import start_log
from utils.stopwatch import Stopwatch

PICTURE_SIZE = 512  # of an image on the page, in pixels
MAXIMUM_IS_SCORE = "an image's score is its map's maximum, as no scores were given"
COMPARISON_DRAWS = 1000
ONLY_WITH_MAPS = ("scores", "legacy_pro", "classes", "report")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--maps", type=Path, metavar="FOLDER", help="measure the maps in this folder")
    task.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("A", "B"),
        help="the differences between the measures of two finished runs on the same images, with paired bootstrap "
        "intervals: image measures from their scores.csv, pixel measures if both saved their maps",
    )
    task.add_argument(
        "--published",
        type=Path,
        metavar="RUN",
        help="write published.md into the folder of a finished run: its measures beside the published ones",
    )
    group = parser.add_argument_group("data")
    add_data_set_options(group, default="folder, with --compare that of run A")
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
    add_seed_option(parser)
    parser.add_argument(
        "--save_path",
        type=Path,
        help="folder for the results (default: results/evaluate/NAME, with --compare results/compare)",
    )
    args = parser.parse_args(arguments)
    if not args.maps and (given := [name for name in ONLY_WITH_MAPS if getattr(args, name)]):
        parser.error(f"--{given[0]} goes with --maps")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure or compare, and write the results."""
    args = parse_arguments(arguments)
    if not (args.maps or is_main()):
        return  # the other two tasks are no work to share
    if args.published:
        path = write_published(args.published)
        print(f"{path.read_text(encoding='utf-8')}\nwritten to {path}")
    elif args.compare:
        args.save_path = args.save_path or Path("results/compare")
        with locked(args.save_path):
            start_log(args.save_path / "compare.log")
            compare_runs(args, Bootstrap(args.bootstrap or COMPARISON_DRAWS, args.confidence, args.seed))
    else:
        args.dataset = args.dataset or "folder"
        args.save_path = args.save_path or Path("results/evaluate") / args.dataset
        with locked(args.save_path):
            start_log(args.save_path / "evaluate.log")
            measure_maps(args)


def measure_maps(args: argparse.Namespace) -> None:
    """Measure the maps in `args.maps`, and write what a run writes."""
    stopwatch = Stopwatch()
    with stopwatch("data set"):
        images = evaluation_set_from_options(args)
        maps = find_maps(args.maps, images.entries)
        scores = None if args.scores is None else read_scores(args.scores, images.entries)
    dataset = SavedMapDataset(
        images.entries, images.root, maps, map_size=args.map_size, mask_threshold=images.spec.mask_threshold
    )
    device = torch.device("cpu")
    about = Run(
        folder=args.save_path,
        title=f"The maps of {args.maps} on {args.dataset}",
        images=len(images.entries),
        classes=len(images.phrases),
        bootstrap=bootstrap_from_options(args),
        remarks=[MAXIMUM_IS_SCORE] if scores is None else [],
        description={
            "method": "saved maps",
            "dataset": args.dataset,
            "arguments": {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()},
            **origin(device),
        },
    )
    writers: list[Writer] = [ResultsWriter(about, device, stopwatch)]
    if args.report:
        writers.append(HtmlReport(about, lambda image: images.read_image(image.sample, PICTURE_SIZE)))
    evaluate_and_report(
        SavedMaps(),
        make_map_loader(dataset, args.num_workers, share=slice(rank(), None, world_size())),
        images.entries,
        about,
        writers,
        device=device,
        stopwatch=stopwatch,
        image_scores=scores,
        legacy_pro=args.legacy_pro,
    )


if __name__ == "__main__":
    run(main, parallel=True)
