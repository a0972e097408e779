"""What is wrong with a data set, as problems with their remedies; nothing is written."""

from collections.abc import Collection
from pathlib import Path

from data.build import GENERATED, LAYOUTS, find_meta, some_of
from data.checks import check
from data.common import Found, completeness, is_complete, unlisted_images
from data.kinds import NO_MASK
from datasets.meta import Meta, read_meta
from datasets.registry import DatasetSpec
from utils.errors import UserError
from utils.problems import ERROR, WARNING, Problem

EMPTY: Meta = {"train": {}, "test": {}}
REBUILD = "correct the list; a meta.json in the data set's folder that is deleted is built anew"


def check_data_set(
    spec: DatasetSpec, root: Path, meta_file: Path | None, classes: Collection[str] | None
) -> tuple[Meta, list[Problem]]:
    """Read every image and mask of a data set, and say what is wrong with it.

    Args:
        spec: the data set.
        root: its folder.
        meta_file: the list of its images; None for the folder's own or, without one, what a run would list.
        classes: those to look at; None for all.

    Returns:
        The images that can be read, and the problems.
    """
    path = meta_file
    try:
        if not root.is_dir():
            return EMPTY, [_no_folder(spec, root)]
        path = path or find_meta(root)
        found = LAYOUTS[spec.layout].read(root.resolve()) if path is None else _listed(path, root)
        found, unknown = _only(classes, found, path or root)
        checked = check(found, root.resolve(), spec.mask_threshold)
        unlisted = []
        if spec.published is None and classes is None:
            unlisted = unlisted_images(root, found.meta())
    except UserError as error:
        return EMPTY, [Problem(ERROR, str(error), _expected(spec) if path is None else REBUILD)]
    except OSError as error:  # a folder that may be listed but not entered, a disk that fails
        what = f"cannot read {error.filename or root}: {error.strerror or error}"
        return EMPTY, [Problem(ERROR, what, "see to its permissions and its disk")]
    meta = checked.meta()
    problems = [*unknown]
    problems += [
        Problem(kind.level, f"{kind.text} ({len(where)}): {some_of(where)}", kind.remedy)
        for kind, where in checked.problems.items()
        if where
    ]
    if not meta["test"] and not unknown:
        problems.append(Problem(ERROR, f"{path or root} has no test image that can be read", _expected(spec)))
    elif classes is None and not is_complete(meta, spec.published):
        remedy = "get the rest, or do not compare the figures with published ones"
        problems.append(Problem(WARNING, f"{root} has {completeness(meta, spec.published)}", remedy))
    if unlisted:
        what = f"images in {root} that {path or 'its layout'} does not list ({len(unlisted)}): {some_of(unlisted)}"
        remedy = "put them where the layout has them, and delete meta.json to have it built anew"
        problems.append(Problem(WARNING, what, remedy))
    return meta, problems


def _no_folder(spec: DatasetSpec, root: Path) -> Problem:
    what = f"there is no folder {root}"
    if spec.layout in GENERATED:
        return Problem(WARNING, f"{what} yet", f"it is drawn when first needed, or by python data/{spec.name}.py")
    return Problem(ERROR, what, f"put the data set there or name its folder with --data_path; {_expected(spec)}")


def _expected(spec: DatasetSpec) -> str:
    return f"expected is {LAYOUTS[spec.layout].EXPECTED}"


def _listed(path: Path, root: Path) -> Found:
    """What a list has. If any of its images has a mask, anomalous ones without are noted as the builders do."""
    meta = read_meta(path, root)
    train, test = ([entry for group in split.values() for entry in group] for split in meta.values())
    found = Found(train, test)
    if any(entry.mask_path for entry in test):
        found.problems[NO_MASK] = [e.img_path for e in test if e.anomaly == 1 and not e.mask_path]
    return found


def _only(classes: Collection[str] | None, found: Found, place: Path) -> tuple[Found, list[Problem]]:
    """The entries of some classes, and an error for each of these that the test split lacks."""
    if classes is None:
        return found, []
    known = dict.fromkeys(entry.cls_name for entry in found.test)
    splits = ([entry for entry in split if entry.cls_name in classes] for split in (found.train, found.test))
    remedy = f"choose --classes from {', '.join(known)}"
    missing = [name for name in dict.fromkeys(classes) if name not in known]
    return (
        Found(*splits, found.problems),
        [Problem(ERROR, f"{place} has no class {name} in its test split", remedy) for name in missing],
    )
