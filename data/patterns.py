"""Images of one's own in any layout: found by patterns like `MT_*/Imgs/*.jpg`, and each one's mask by its name."""

import posixpath
import re
from collections import Counter
from glob import escape, has_magic
from pathlib import Path, PurePosixPath

from data.found import Found, Kind, natural
from datasets.image_files import IMAGE_SUFFIXES, OTHER_SUFFIXES, is_result, passed_over
from datasets.images import load_mask
from datasets.layout_options import PLACEHOLDERS
from datasets.meta import Entry, path_problem
from utils.errors import UserError, some_of
from utils.files import matches, visible_files

FOLDERS_SHOWN = 5


def read_patterns(
    root: Path,
    *,
    normal: str | None = None,
    anomalous: str | None = None,
    mask: str | None = None,
    class_name: str | None = None,
    mask_threshold: int = 0,
) -> Found:
    """Read the images below the resolved `root` that match patterns, as the test split.

    `anomalous` takes what `normal` does not. `mask` and `class_name` have `PLACEHOLDERS`, which are filled in for each
    image. A file that is an image's mask is no image. Without `normal`, images whose mask is all zero are normal; with
    it, the kind of an anomaly is called as the last folder that the pattern leaves open, or else as the image's.
    """
    found = Found(root)
    matched = {} if normal is None else dict.fromkeys(_matching(found, "normal", normal), 0)
    if anomalous is not None:
        matched = dict.fromkeys(_matching(found, "anomalous", anomalous), 1) | matched
    masks = {} if mask is None else {path: _mask(root, path, mask) for path in matched}
    files, of_anomalous = {*masks.values()}, {masks[path] for path, label in matched.items() if label and masks}
    images = {path: label for path, label in matched.items() if path not in files}
    for kind, pattern, label in (("normal", normal, 0), ("anomalous", anomalous, 1)):
        if pattern is not None and label not in images.values():
            raise UserError(f"--{kind} '{pattern}' matches no image but what --normal matches, and masks")
    for path, label in sorted(images.items(), key=lambda item: item[1]):
        name = root.name if class_name is None else _filled("class_name", class_name, root, path)
        own = masks.get(path, "")
        # Names may count up in each folder, and the masks of anomalous images alone be there.
        is_there = bool(own) and (root / own).exists() and (label == 1 or own not in of_anomalous)
        if mask is not None and label and not is_there:
            found.note(Kind.NO_MASK, path, name)
        if is_there and normal is None:
            label = int(load_mask(root / own, mask_threshold).any())
        kind = "anomalous" if normal is None else _kind(path, anomalous or "")
        found.append("test", Entry(path, own if is_there else "", name, kind if label else "good", label))
    return found


def _matching(found: Found, kind: str, pattern: str) -> list[str]:
    """Find the images that a pattern matches, relative to the root, in natural order; there must be some."""
    root = found.root
    if problem := path_problem(pattern, root):
        raise UserError(f"--{kind} '{pattern}' {problem}")
    paths = {path.relative_to(root) for path in matches(posixpath.join(escape(str(root)), pattern)) if path.is_file()}
    files = sorted(paths, key=lambda path: [*map(natural, path.parts)])
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and not is_result(root / path)]
    if not images:
        others = passed_over(files)
        raise UserError(f"--{kind} '{pattern}' matches no image in {root}; {others or where_images_lie(root)}")
    for path in files:
        if path.suffix.lower() in OTHER_SUFFIXES:
            found.note(Kind.OTHER_FORMAT, path.as_posix())
    return [path.as_posix() for path in images]


def _filled(option: str, template: str, root: Path, path: str) -> str:
    """Fill the placeholders of a template in for the image `path` below `root`."""
    file = PurePosixPath(root.name, path)
    values = {"dir": str(PurePosixPath(path).parent), "stem": file.stem, "name": file.name}
    values |= {f"parent{number}": folder.name for number, folder in enumerate(file.parents[:-1], 1)}
    values["parent"] = values["parent1"]
    try:
        return re.sub(r"\{(\w*)\}", lambda found: values[found[1]], template)
    except KeyError as error:
        raise UserError(f"--{option} '{template}': there is no {{{error.args[0]}}}; known are {PLACEHOLDERS}") from None


def _mask(root: Path, path: str, template: str) -> str:
    own = posixpath.normpath(_filled("mask", template, root, path))
    if own == path:
        raise UserError(f"--mask '{template}' is the image itself for {path}: the mask must be another file")
    if problem := path_problem(own, root):
        raise UserError(f"--mask '{template}': {own}, for {path}, {problem}")
    return own


def _kind(path: str, pattern: str) -> str:
    """Name the kind of an anomaly: the last folder of the image's that the pattern leaves open, or else its own."""
    folders, parts = (PurePosixPath(one).parts[-2::-1] for one in (path, pattern))
    open_ones = (folder for folder, part in zip(folders, parts, strict=False) if has_magic(part))
    return next(open_ones, folders[0] if folders else "anomalous")


def where_images_lie(root: Path) -> str:
    """Say which folders below `root` have images, how deep they are, and by which pattern they would be read."""
    files = (file for file in visible_files(root) if file.suffix.lower() in IMAGE_SUFFIXES and not is_result(file))
    counts = Counter((file.parent.relative_to(root), file.suffix) for file in files)
    if not counts:
        return f"there is no image anywhere in it (known are {', '.join(sorted(IMAGE_SUFFIXES))})"
    folders = sorted(counts, key=lambda one: [natural(str(part)) for part in one])
    places = [f"{counts[one]} {one[1]} in {one[0].as_posix()} ({len(one[0].parts)} deep)" for one in folders]
    folder, suffix = max(folders, key=counts.get)
    example = (escape(str(folder / "x"))[:-1] + f"*{suffix}").removeprefix("./")
    how = f"as --dataset folder they are read by patterns like '{example}' (--normal, --anomalous)"
    return f"images lie elsewhere: {some_of(places, FOLDERS_SHOWN)}; {how}"
