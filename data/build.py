"""Build a data set's `meta.json`, the list of its images, from its folder.

    python data/build.py btad --root /data/btad
    python data/build.py visa --out full-shot.jsonl    # as JSON lines, in DP-CLIP's form

Prints the number of images beside the published ones, and warns of everything that looks wrong.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.checks import by_kind, check, check_unlisted
from data.counts import completeness, counts_table
from data.files import PROJECT, find_meta, meta_path
from data.layouts import LAYOUTS
from datasets.meta import is_json_lines, read_meta, write_meta
from datasets.registry import REGISTRY, DatasetSpec, canonical_name, get_spec
from utils.errors import UserError, run

logger = logging.getLogger(__name__)


def build_meta(
    layout: str,
    root: str | Path,
    out: str | Path | None = None,
    *,
    mask_threshold: int = 0,
    decode: bool = True,
    **options: str | None,
) -> Path:
    """Write the list of the images in `root`; what is wrong with the data set is logged as warnings.

    Args:
        layout: one of `LAYOUTS`.
        root: the data set's folder, which is not written to if `out` lies elsewhere.
        out: the file to write, see `write_meta`; default `meta_path(root)`.
        mask_threshold: see `load_mask`.
        decode: see `check`.
        options: the layout's own.

    Returns:
        the file written.

    Raises:
        UserError: there is no such folder, or no test image in it, or the file cannot be written.
    """
    root = _existing(layout, Path(root)).resolve()
    expected = f"expected is {LAYOUTS[layout].expected}"
    try:
        found = LAYOUTS[layout].read(root, **options)
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UserError(f"{error}; {expected}") from error
        raise
    checked = check(found, mask_threshold, decode)
    for kind, places in by_kind(checked.notes):
        logger.warning("%s%s %s", kind.text, ", left out" if kind.left_out else "", places)
    if not found.test:
        raise UserError(f"no test images found in {root}; {expected}")
    if not checked.test:
        raise UserError(f"none of the {len(found.test)} test images in {root} can be used; see the warnings")
    out = meta_path(root) if out is None else Path(out)
    if out.exists():
        logger.info("%s is there already, and is replaced", out)
    if is_json_lines(out) and checked.train:
        logger.info("JSON lines have no training split: its %d images are left out", len(checked.train))
    write_meta(out, checked.meta())
    try:
        read_meta(out, root)
    except UserError:
        out.unlink(missing_ok=True)  # or it would stop every later run, too
        raise
    logger.info("wrote %s", out)
    return out


def ensure_meta(spec: DatasetSpec, root: str | Path) -> Path:
    """Find the `meta.json` of a data set, or build it if there is none.

    Args:
        spec: the data set.
        root: its folder. If that is read-only, the file is kept in the project's `.cache/meta`.

    Raises:
        UserError: as of `build_meta`.
    """
    root = _existing(spec.layout, Path(root))
    path = find_meta(root)
    if path is not None:
        logger.info("reading %s as it is; delete it if the data set has changed", path)
    else:
        logger.info("%s has no meta.json: building it", root)
        path = build_meta(spec.layout, root, mask_threshold=spec.mask_threshold)
    _warn_of_unlisted(spec, root, path)
    return path


def _existing(layout: str, root: Path) -> Path:
    """The folder of a data set, which is drawn into it if it is not there and can be drawn."""
    drawn_by = LAYOUTS[layout].drawn_by
    if drawn_by is not None and not root.exists():
        logger.info("there is no folder %s: drawing the data set", root)
        importlib.import_module(drawn_by).generate(root)
    if not root.is_dir():
        expected = f"expected is {LAYOUTS[layout].expected}"
        raise UserError(f"there is no folder {root}: put the data set there or name its folder; {expected}")
    return root


def _warn_of_unlisted(spec: DatasetSpec, root: Path, path: Path) -> None:
    """Warn of images of a user's own that the list does not name."""
    if spec.published is None:
        for problem in check_unlisted(root, path, read_meta(path, root)):
            logger.warning("%s; %s", problem.what, problem.remedy)


def main(arguments: Sequence[str] | None = None, name: str | None = None) -> None:
    """Write the list of a data set's images, print their counts, and warn of problems.

    Args:
        arguments: of the command line, default the process's own.
        name: of the data set; None if the arguments begin with it.
    """
    parser = argparse.ArgumentParser(description="Write meta.json, the list of a data set's images.")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if name is None:
        builders = parser.add_subparsers(
            title="data sets, and what is expected in their folders", metavar="NAME", required=True
        )
        for spec in REGISTRY.values():
            expected = LAYOUTS[spec.layout].expected
            _add_options(builders.add_parser(spec.name, help=expected), spec)
        arguments[:1] = map(canonical_name, arguments[:1])
    else:
        _add_options(parser, get_spec(name))
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    spec = args.spec
    out = build_meta(
        spec.layout,
        args.root,
        args.out,
        mask_threshold=spec.mask_threshold,
        decode=not args.no_check,
        **{option: getattr(args, option) for option in LAYOUTS[spec.layout].options},
    )
    _warn_of_unlisted(spec, args.root, out)
    meta = read_meta(out, args.root)
    print(counts_table(meta, spec.published))
    print(completeness(meta, spec.published))


def _add_options(parser: argparse.ArgumentParser, spec: DatasetSpec) -> None:
    """Add the options of building one data set."""
    expected = LAYOUTS[spec.layout].expected
    parser.description = f"Write meta.json for {spec.name}. Expected in its folder: {expected}."
    parser.set_defaults(spec=spec)
    parser.add_argument(
        "--root", type=Path, default=PROJECT / spec.folder, help="the data set's folder (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        help="the file to write (default: meta.json in the data set's folder, or below the project's "
        ".cache/meta if that is read-only); one called .jsonl gets the test split as JSON lines, as DP-CLIP has it",
    )
    parser.add_argument(
        "--no_check",
        action="store_true",
        help="do not read the images and masks, which takes a while and finds those that are broken, of the "
        "wrong size, empty, or in both splits",
    )
    for option, text in LAYOUTS[spec.layout].options.items():
        parser.add_argument(f"--{option}", help=text)


if __name__ == "__main__":
    run(main)
