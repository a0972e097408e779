"""Build a data set's `meta.json`, the list of its images, from its folder.

    python data/build.py btad --root /data/btad
    python data/build.py visa --out full-shot.jsonl    # as JSON lines, in DP-CLIP's form

Prints the number of images beside the known ones, and warns of everything that looks wrong.
"""

import importlib
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.checks import check, check_unlisted, counts_table, incompleteness
from data.found import grouped
from data.layouts import LAYOUTS
from data.masks import check_masks
from data.patterns import where_images_lie
from datasets.layout_options import LayoutOptions
from datasets.meta import About, Entry, Finding, find_meta, is_json_lines, meta_path, read_about, read_meta, write_meta
from datasets.registry import REGISTRY, DatasetSpec, canonical_name
from utils.arguments import Parser, given_path, given_text, mask_threshold
from utils.errors import UserError, run
from utils.names import log_to_terminal, shown

logger = logging.getLogger(__name__)


def build_meta(
    spec: DatasetSpec,
    root: str | Path,
    out: str | Path | None = None,
    *,
    decode: bool = True,
    **options: str | int | None,
) -> Path:
    """Write the list of the images in `root`, and return its file; what is wrong is logged as warnings.

    The list goes to `out` (see `write_meta`), else to `meta_path`, and nothing else is written but by the layout's
    `prepare`. `decode` is that of `check`; `options` are the layout's.
    """
    root = _existing(spec, Path(root)).resolve()
    layout = LAYOUTS[spec.label]
    expected = f"expected is {layout.expected}"
    given = {name: value for name, value in options.items() if value is not None}
    if layout.by_masks and spec.mask_threshold != default_threshold(spec):
        given["mask_threshold"] = spec.mask_threshold
    by_masks = layout.by_masks or About(options=given).by_patterns
    reading = {name: value for name, value in given.items() if by_masks or name != "mask_threshold"}
    if layout.prepare is not None:
        layout.prepare(root)
    try:
        found = layout.read(root, **reading)
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UserError(f"{error}; {expected}") from error
        raise
    checked = check(found, spec.mask_threshold, decode)
    findings = [Finding(f"{kind.text}{', left out' * kind.left_out}", *rest) for kind, *rest in checked.notes]
    for sentence in sentences(findings):
        logger.warning("%s", sentence)
    if not found.count("test"):
        raise UserError(f"no test images found in {root}; {where_images_lie(root)}; {expected}")
    if not checked.count("test"):
        raise UserError(f"none of the {found.count('test')} test images in {root} can be used; see the warnings")
    out = meta_path(root, spec.meta_name) if out is None else Path(out)
    if out.exists():
        logger.info("%s is there already, and is replaced", out)
    if is_json_lines(out) and checked.count("train"):
        logger.info("JSON lines have no training split: its %d images are left out", checked.count("train"))
    phrases = {}
    with suppress(UserError):  # what a user has added to the list that is replaced
        phrases = read_about(out).phrases
    # What one run sees in the masks by its own threshold, others need not.
    is_kept = decode and spec.mask_threshold == given.get("mask_threshold", default_threshold(spec))
    about = About(findings if is_kept else None, given, phrases, spec.protocol)
    new = out.with_name(f".new-{out.name}")
    try:
        write_meta(new, checked.meta, about)
        read_meta(new, root)  # what would stop every later run must not be left there
        new.replace(out)
    except UserError as error:
        raise UserError(str(error).replace(str(new), str(out))) from error
    finally:
        new.unlink(missing_ok=True)
    logger.info("wrote %s", out)
    _warn_of_unlisted(spec, root, out)
    return out


def default_threshold(spec: DatasetSpec) -> int:
    """Return the value above which masks begin in a data set unless a user says otherwise."""
    return REGISTRY.get(spec.name, spec).mask_threshold


def ensure_meta(spec: DatasetSpec, root: str | Path, patterns: Mapping[str, str | int] | None = None) -> Path:
    """Find the list of a data set's images in its folder or, if that is read-only, in `.cache/meta`; or build it.

    One that was built by other `patterns` is built again, if there are any; any other is not replaced.
    """
    root, patterns = _existing(spec, Path(root)), patterns or {}
    if patterns and spec.name != "folder":
        raise UserError(f"--{next(iter(patterns))} is for --dataset folder: {spec.name} has a layout of its own")
    path = find_meta(root, spec.meta_name)
    about = read_about(path) if path and patterns else About()
    if path is None or (about.options != patterns and about.by_patterns):
        logger.info("%s has no %s%s: building it", root, spec.meta_name, " of these patterns" if path else "")
        return build_meta(spec, root, path, **patterns)
    if patterns and about.options != patterns:
        raise UserError(f"{path} was not built by patterns: delete it, or leave --{next(iter(patterns))} out")
    logger.info("reading %s as it is; delete it if the data set has changed", path)
    _warn_of_unlisted(spec, root, path)
    return path


def known_problems(spec: DatasetSpec, root: Path, path: Path, entries: Sequence[Entry]) -> list[str]:
    """Say what is known to be wrong with the entries of a list, a sentence each.

    That is what was found when the list was built; of one that does not say, the masks are looked at now.
    """
    classes, about = {"", *(entry.cls_name for entry in entries)}, read_about(path)
    findings = about.findings
    if findings is None or spec.mask_threshold != about.options.get("mask_threshold", default_threshold(spec)):
        logger.info("%s does not say what is wrong with the masks above %d: looking", path, spec.mask_threshold)
        notes = check_masks(entries, root, spec.mask_threshold)
        findings = [Finding(kind.text, *rest) for kind, *rest in notes]
    return sentences(finding for finding in findings if finding.cls_name in classes)


def sentences(findings: Iterable[Finding]) -> list[str]:
    """Say what was found, a sentence for each kind, with the first few places."""
    return [f"{what} {places}" for what, places in grouped(findings)]


def _existing(spec: DatasetSpec, root: Path) -> Path:
    """Find the folder of a data set; one that can be drawn is drawn into it if it is missing."""
    layout = LAYOUTS[spec.label]
    if layout.drawn_by is not None and not root.exists():
        logger.info("there is no folder %s: drawing the data set", root)
        importlib.import_module(layout.drawn_by).generate(root)
    if not root.is_dir():
        what = f"there is no folder {root}: put the data set there or name its folder"
        raise UserError(f"{what}; expected is {layout.expected}")
    return root


def _warn_of_unlisted(spec: DatasetSpec, root: Path, path: Path) -> None:
    if LAYOUTS[spec.label].takes_all:
        meta, by_patterns = read_meta(path, root), read_about(path).by_patterns
        for problem in check_unlisted(root, path, meta, by_patterns=by_patterns):
            logger.warning("%s; %s", problem.what, problem.remedy)


def main(arguments: Sequence[str] | None = None, name: str | None = None) -> None:
    """Write the list of a data set's images, print their counts, and warn of problems.

    The arguments of the command line begin with the data set's name, unless a script is for one and gives it.
    """
    command = [*([] if name is None else [name]), *(sys.argv[1:] if arguments is None else arguments)]
    parser = Parser(description="Write meta.json, the list of a data set's images.")
    title = "data sets, and what is expected in their folders"
    builders = parser.add_subparsers(title=title, metavar="NAME", required=True)
    for spec in REGISTRY.values():
        expected = LAYOUTS[spec.name].expected
        builder = builders.add_parser(spec.name, prog=None if name is None else parser.prog, help=expected)
        builder.description = f"Write meta.json for {spec.name}. Expected in its folder: {expected}."
        builder.set_defaults(spec=spec)
        add = builder.add_argument
        add("--root", type=given_path, default=spec.folder, help="the data set's folder (default: %(default)s)")
        out = "meta.json in the data set's folder, or below the project's .cache/meta if that is read-only"
        jsonl = "one called .jsonl gets the test split as JSON lines, as DP-CLIP has it"
        add("--out", type=given_path, help=f"the file to write (default: {out}); {jsonl}")
        what = "do not read images and masks: faster, but finds none broken, of a wrong size, empty, or in both splits"
        add("--no_check", action="store_true", help=what)
        if spec.protocols:
            what = "what of the data set is listed, and in which form, see docs/data.md (default: %(default)s)"
            add("--protocol", choices=spec.protocols, default=spec.protocol, help=what)
        for option, text in LAYOUTS[spec.name].options.items():
            add(f"--{option}", type=given_text, help=text)
        for one in (one for one in fields(LayoutOptions) if spec.name == "folder" or one.name == "mask_threshold"):
            kind = mask_threshold if one.name == "mask_threshold" else given_text
            add(f"--{one.name}", type=kind, help=one.metadata["help"].removeprefix("of folder: "))
    args = parser.parse_args([*map(canonical_name, command[:1]), *command[1:]])
    own = LayoutOptions(**{one.name: getattr(args, one.name, None) for one in fields(LayoutOptions)})
    if mistake := own.mistake():
        parser.error(mistake)
    log_to_terminal()
    spec = args.spec.under(getattr(args, "protocol", None)).with_threshold(args.mask_threshold)
    published = spec.published
    options = {option: getattr(args, option) for option in LAYOUTS[spec.label].options} | own.patterns()
    options["mask_threshold"] = args.mask_threshold
    meta = read_meta(build_meta(spec, args.root, args.out, decode=not args.no_check, **options), args.root)
    print(shown(counts_table(meta, published), keep="\n"))
    if published is None:
        print(f"test images: {sum(map(len, meta['test'].values()))}, classes: {len(meta['test'])}")
    else:
        print(incompleteness(meta, published) or f"the test split is complete, {published.source}")


if __name__ == "__main__":
    run(main)
