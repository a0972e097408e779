"""Command-line options of what a run writes and measures."""

import argparse
from pathlib import Path

from utils.arguments import percentage, positive_int
from utils.measures.bootstrap import Bootstrap


def add_output_options(parser: argparse.ArgumentParser, default_folder: str) -> None:
    """Add the options that decide what is written, and where."""
    group = parser.add_argument_group("output")
    group.add_argument("--save_path", type=Path, help=f"folder for the results (default: {default_folder})")
    group.add_argument("--save_maps", action="store_true", help="write every anomaly map as maps/<img_path>.npy")
    group.add_argument(
        "--visualization",
        action="store_true",
        help="write every image beside its map and its ground truth to imgs/, and some on a contact sheet",
    )
    group.add_argument(
        "--no_report",
        action="store_true",
        help="leave out report.html, the page of all images, maps, scores and curves",
    )
    group.add_argument(
        "--compare_published",
        action="store_true",
        help="write published.md, with the measures beside those the method was published with",
    )
    add_measure_options(parser)


def add_measure_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what is measured."""
    group = parser.add_argument_group("measures")
    group.add_argument(
        "--legacy_pro", action="store_true", help="add a column with PRO by 200 thresholds, as older tables have it"
    )
    group.add_argument(
        "--bootstrap",
        type=positive_int,
        metavar="DRAWS",
        help="give every measure a confidence interval, from this many draws of the images (1000 is usual)",
    )
    group.add_argument(
        "--confidence",
        type=percentage,
        default=95.0,
        metavar="PERCENT",
        help="confidence of the intervals (default: %(default)g)",
    )


def bootstrap_from_options(args: argparse.Namespace) -> Bootstrap | None:
    """How intervals are to be made, None if they are not asked for."""
    return None if args.bootstrap is None else Bootstrap(args.bootstrap, args.confidence, args.seed)
