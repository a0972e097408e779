"""Draw a number of normal and of anomalous images of each class, to train on, and write their list as JSON lines.

    python data/few_shot.py --dataset visa --shot 4    # writes data/visa/4-shot.jsonl

The same seed gives the same draw, whatever the order of the data set's list. The papers train on the test split of
another data set than they test on.
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.build import ensure_meta
from datasets.meta import SPLITS, Entry, meta_path, read_about, read_meta, write_meta
from datasets.registry import REGISTRY, canonical_name, get_spec
from utils.arguments import Parser, given_path, positive_int, seed
from utils.errors import UserError, run
from utils.names import log_to_terminal, shown

logger = logging.getLogger(__name__)

LABELS = {"normal": 0, "anomalous": 1}


def draw(entries: Iterable[Entry], shot: int, seed: int) -> list[Entry]:
    """Draw `shot` images of each label from a class, or all of them where there are fewer; unlabelled are passed over.

    Images are ranked by a hash of the seed and their path, and the first are drawn. So a draw does not depend on the
    order of the entries, and is a part of the draw of a larger `shot`. Normal images come first, each label's by path.
    """
    ranked = sorted(entries, key=lambda entry: hashlib.sha256(f"{seed} {entry.img_path}".encode()).digest())
    groups = ([entry for entry in ranked if entry.anomaly == label][:shot] for label in LABELS.values())
    return [entry for group in groups for entry in sorted(group, key=lambda entry: entry.img_path)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw from a data set, write the list, and print a table of what was drawn, with a warning where that is less."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    names = f"one of {', '.join(REGISTRY)}; folder is for images of your own"
    add("--dataset", required=True, type=canonical_name, choices=REGISTRY, metavar="NAME", help=names)
    add("--protocol", metavar="NAME", help="that of the data set, where it has several (default: its first)")
    add("--shot", required=True, type=positive_int, help="how many images to draw of each class and label")
    add("--root", type=given_path, help="the data set's folder (default: data/NAME)")
    add("--meta", type=given_path, help="a meta.json or .jsonl to draw from (default: the folder's meta.json)")
    add("--split", choices=SPLITS, default="test", help="the split to draw from (default: %(default)s)")
    add("--seed", type=seed, default=111, help="which draw (default: %(default)s)")
    out = "SHOT-shot.jsonl in the data set's folder, or below the project's .cache/meta if that is read-only"
    add("--out", type=given_path, help=f"the file to write (default: {out})")
    args = parser.parse_args(arguments)
    log_to_terminal()
    spec = get_spec(args.dataset, args.protocol)
    root = args.root or spec.folder
    meta = args.meta or ensure_meta(spec, root)
    read_about(meta, spec)  # which refuses another protocol's
    classes = dict(sorted(read_meta(meta, root)[args.split].items()))
    drawn = {name: draw(entries, args.shot, args.seed) for name, entries in classes.items()}
    if not any(drawn.values()):
        raise UserError(f"{meta} has no labelled images in its {args.split} split, so none can be drawn")
    out = args.out or meta_path(root, f"{args.shot}-shot{spec.label.removeprefix(spec.name)}.jsonl")
    if out.exists():
        logger.info("%s is there already, and is replaced", out)
    write_meta(out, {"test": drawn})
    rows, fewer = [], []
    for name, entries in classes.items():
        rows.append([name])
        for kind, label in LABELS.items():
            have, there = ([entry.anomaly for entry in group].count(label) for group in (drawn[name], entries))
            rows[-1].append(f"{have} of {there}")
            fewer += [f"{name} ({have} {kind})"] * (have < args.shot)
    print(shown(tabulate(rows, headers=["class", *LABELS]), keep="\n"))
    if fewer:
        logger.warning("fewer than %d images of a kind: %s", args.shot, ", ".join(fewer))
    logger.info("wrote %s; give it to a training with --train_meta", out)


if __name__ == "__main__":
    run(main)
