"""Draw a few images of each class and label, to train on: writes `k-shot.jsonl`."""

import argparse
import hashlib
import logging
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.build import ensure_meta
from data.files import PROJECT, meta_path
from datasets.meta import SPLITS, Entry, read_meta, write_meta
from datasets.registry import REGISTRY, canonical_name, get_spec
from utils import arguments
from utils.errors import UserError

logger = logging.getLogger(__name__)

LABELS = {"normal": 0, "anomalous": 1}


def draw(classes: Mapping[str, Iterable[Entry]], shot: int, seed: int) -> dict[str, list[Entry]]:
    """Draw images of each class and label without replacement; unlabelled ones are passed over.

    Images are ranked by a hash of the seed and their path, and the first are drawn. So a draw does not
    depend on the order of the entries or on other classes, and is a part of the draw of a larger `shot`.

    Args:
        classes: the entries of each class.
        shot: how many to draw of each class and label; all of them where there are fewer.
        seed: which draw.

    Returns:
        what was drawn of each class, in the order of the classes: normal before anomalous, each by path.
    """

    def rank(entry: Entry) -> bytes:
        return hashlib.sha256(f"{seed} {entry.img_path}".encode()).digest()

    drawn = {}
    for name, entries in classes.items():
        entries = sorted(entries, key=rank)
        groups = ([entry for entry in entries if entry.anomaly == label][:shot] for label in LABELS.values())
        drawn[name] = [entry for group in groups for entry in sorted(group, key=lambda entry: entry.img_path)]
    return drawn


def table(
    classes: Mapping[str, Collection[Entry]], drawn: Mapping[str, Collection[Entry]], shot: int
) -> tuple[str, list[str]]:
    """How many images were drawn of how many, as a table; and where they are fewer than `shot`, in words."""
    rows, fewer = [], []
    for name, entries in classes.items():
        row = [name]
        for kind, label in LABELS.items():
            have, there = (sum(entry.anomaly == label for entry in group) for group in (drawn[name], entries))
            row.append(f"{have} of {there}")
            if have < shot:
                fewer.append(f"{name} ({have} {kind})")
        rows.append(row)
    return tabulate(rows, headers=["class", *LABELS]), fewer


def main(argv: Sequence[str] | None = None) -> None:
    """Draw from a data set, write the list, and print a table of what was drawn.

    Args:
        argv: arguments of the command line, default the process's own.

    Raises:
        UserError: the data set cannot be read, or has no labelled image in that split.
    """
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    spec = get_spec(args.dataset)
    root = args.root or PROJECT / spec.folder
    meta = args.meta or ensure_meta(spec, root)
    split = read_meta(meta, root)[args.split]
    classes = {name: split[name] for name in sorted(split)}
    drawn = draw(classes, args.shot, args.seed)
    if not any(drawn.values()):
        raise UserError(f"{meta} has no labelled images in its {args.split} split, so none can be drawn")
    out = args.out or meta_path(root, f"{args.shot}-shot.jsonl")
    if out.exists():
        logger.info("%s is there already, and is replaced", out)
    write_meta(out, {"test": drawn})
    counts, fewer = table(classes, drawn, args.shot)
    print(counts)
    if fewer:
        logger.warning("fewer than %d images of a kind: %s", args.shot, ", ".join(fewer))
    logger.info("wrote %s; give it to a training with --train_meta", out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Draw a number of normal and of anomalous images of each class, and write their list as "
        "JSON lines. The same seed gives the same draw, whatever the order of the data set's list."
    )
    parser.add_argument(
        "--dataset",
        required=True,
        type=canonical_name,
        choices=REGISTRY,
        metavar="NAME",
        help=f"one of {', '.join(REGISTRY)}; folder is for images of your own",
    )
    parser.add_argument(
        "--shot", required=True, type=arguments.positive_int, help="how many images to draw of each class and label"
    )
    parser.add_argument("--root", type=Path, help="the data set's folder (default: data/NAME)")
    parser.add_argument(
        "--meta", type=Path, help="the list to draw from, as meta.json or .jsonl (default: the folder's meta.json)"
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="test",
        help="the split to draw from; the papers train on the test split of another data set than they test on "
        "(default: %(default)s)",
    )
    parser.add_argument("--seed", type=arguments.seed, default=111, help="which draw (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        help="the file to write (default: SHOT-shot.jsonl in the data set's folder, or below the project's "
        ".cache/meta if that is read-only)",
    )
    return parser


if __name__ == "__main__":
    from utils.errors import run

    run(main)
