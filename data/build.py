"""From a data set's folder to its `meta.json`, whichever the layout; the builders' shared entry point."""

import argparse
import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType

from data import (
    brain,
    brainmri,
    btad,
    colondb,
    cvc300,
    cvc_clinicdb,
    folder,
    headct,
    isic,
    kvasir,
    liver,
    mvtec,
    retina,
    visa,
)
from data.checks import check
from data.common import completeness, counts_table, unlisted_images
from datasets.meta import is_json_lines, read_meta, write_meta
from datasets.registry import DatasetSpec, get_spec
from demo import draw
from utils.errors import UserError

logger = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[1]
# Each module has `read`, from the folder to what is `Found` in it, and `EXPECTED`, the layout in words.
LAYOUTS: Mapping[str, ModuleType] = MappingProxyType(
    {
        "mvtec": mvtec,
        "visa": visa,
        "btad": btad,
        "brain": brain,
        "liver": liver,
        "retina": retina,
        "isic": isic,
        "cvc_clinicdb": cvc_clinicdb,
        "colondb": colondb,
        "cvc300": cvc300,
        "kvasir": kvasir,
        "headct": headct,
        "brainmri": brainmri,
        "folder": folder,
        "demo": mvtec,
    }
)
# Data sets that are drawn, not downloaded: what draws one into its folder.
GENERATED: Mapping[str, Callable[[Path], object]] = MappingProxyType({"demo": draw.generate})
SHOWN = 5  # places named for each kind of problem


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
        options: passed on to the layout's `read`.

    Returns:
        the file written.

    Raises:
        UserError: there is no such folder, or no test image in it, or the file cannot be written.
    """
    root = _existing(layout, Path(root)).resolve()
    try:
        found = LAYOUTS[layout].read(root, **options)
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UserError(f"{error}; expected is {LAYOUTS[layout].EXPECTED}") from error
        raise
    checked = check(found, root, mask_threshold, decode)
    for what, where in checked.problems.items():
        if where:
            logger.warning("%s (%d): %s", what.text + ", left out" * what.left_out, len(where), some_of(where))
    if not found.test:
        raise UserError(f"no test images found in {root}; expected is {LAYOUTS[layout].EXPECTED}")
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
    """The `meta.json` of a data set; it is built if there is none.

    Args:
        spec: the data set.
        root: its folder. If that is read-only, the file is kept in the project's `.cache/meta`.

    Raises:
        UserError: as of `build_meta`.
    """
    root = Path(root)
    if spec.layout in GENERATED and not root.exists():
        logger.info("there is no folder %s: drawing the data set", root)
        GENERATED[spec.layout](root)
    root = _existing(spec.layout, root)
    path = find_meta(root)
    if path is not None:
        logger.info("reading %s as it is; delete it if the data set has changed", path)
    else:
        logger.info("%s has no meta.json: building it", root)
        path = build_meta(spec.layout, root, mask_threshold=spec.mask_threshold)
    _warn_of_unlisted(spec, root, path)
    return path


def _warn_of_unlisted(spec: DatasetSpec, root: Path, path: Path) -> None:
    """Warn of images of a user's own that the meta file does not list."""
    if spec.published is not None:
        return
    unlisted = unlisted_images(root, read_meta(path, root))
    if unlisted:
        logger.warning(
            "images in %s that %s does not list: %d (%s); they cannot be read, lie where the layout has none, or were "
            "added since (then delete it to have it built anew)",
            root,
            path,
            len(unlisted),
            ", ".join(unlisted[:SHOWN]),
        )


def find_meta(root: Path) -> Path | None:
    """The `meta.json` of a data set's folder, or the one kept for it in the project's cache; None if there is none."""
    return next((path for path in (root / "meta.json", _cached(root)) if path.is_file()), None)


def some_of(where: Sequence[str]) -> str:
    """The first few of some places, and how many more there are."""
    more = f" and {len(where) - SHOWN} more" if len(where) > SHOWN else ""
    return ", ".join(where[:SHOWN]) + more


def _existing(layout: str, root: Path) -> Path:
    if not root.is_dir():
        expected = f"expected is {LAYOUTS[layout].EXPECTED}"
        raise UserError(f"there is no folder {root}: put the data set there or name its folder; {expected}")
    return root


def meta_path(root: Path, name: str = "meta.json") -> Path:
    """Where to write a list of a data set's images: its folder, or the project's cache if that is read-only."""
    # The bits are looked at as well, since for root, who could write, they say what is wanted.
    if os.access(root, os.W_OK) and root.stat().st_mode & 0o222:
        return root / name
    logger.info("%s is read-only: its %s is kept in the project's cache", root, name)
    return _cached(root, name)


def _cached(root: Path, name: str = "meta.json") -> Path:
    folder = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return PROJECT / ".cache" / "meta" / folder / name


def main(name: str, options: Mapping[str, str] = MappingProxyType({}), arguments: Sequence[str] | None = None) -> None:
    """The entry point of the builder of data set `name`: write `meta.json`, print counts, warn of problems.

    Args:
        name: of the data set in the registry.
        options: further options of the layout's `read`, each with its help.
        arguments: of the command line, default the process's own.
    """
    spec = get_spec(name)
    parser = argparse.ArgumentParser(
        description=f"Write meta.json for {name}. Expected in its folder: {LAYOUTS[spec.layout].EXPECTED}."
    )
    parser.add_argument("--root", default=PROJECT / spec.folder, help="the data set's folder (default: %(default)s)")
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
    for option, text in options.items():
        parser.add_argument(f"--{option}", help=text)
    values = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    out = build_meta(
        spec.layout,
        values["root"],
        values["out"],
        mask_threshold=spec.mask_threshold,
        decode=not values["no_check"],
        **{option: values[option] for option in options},
    )
    _warn_of_unlisted(spec, Path(values["root"]), out)
    meta = read_meta(out, values["root"])
    print(counts_table(meta, spec.published))
    print(completeness(meta, spec.published))
