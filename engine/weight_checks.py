"""Whether weights are on the machine, whole, and those that they are taken for; nothing is downloaded."""

from pathlib import Path

from models.presets import PRETRAINED_MODELS
from models.weights import how_to_get, local_weights
from utils.errors import UserError
from utils.files import sha256_of
from utils.problems import ERROR, WARNING, Problem, unreadable

SUMS = "SHA256SUMS"
ANEW = f"get it anew, see {PRETRAINED_MODELS / 'README.md'}"
SUMS_FOLDERS = (PRETRAINED_MODELS, PRETRAINED_MODELS / "demo")


def check_sums(folder: Path) -> list[Problem]:
    """An error for each file in `folder` whose SHA-256 is not the one that its `SHA256SUMS` lists.

    Files that are listed and not there are passed over: nobody needs all of them.
    """
    sums = folder / SUMS
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"cannot read {sums} ({reason}), so the files beside it were not checked"
        return [Problem(WARNING, what, "get the project's files anew")]
    problems = []
    for line in lines:
        digest, _, name = line.partition("  ")
        file = folder / name
        try:
            if name and file.is_file() and sha256_of(file) != digest:
                what = f"{file} is damaged or another version: its SHA-256 is not that in {SUMS}"
                problems.append(Problem(ERROR, what, ANEW))
        except OSError as error:
            problems.append(unreadable(error, file))
    return problems


def check_weights(model: str, pretrained: str) -> tuple[Path | None, list[Problem]]:
    """Where a model's weights lie, None if they are not on the machine; a warning if they must be downloaded.

    Args:
        model, pretrained: see `find_weights`.
    """
    try:
        path = local_weights(model, pretrained)
    except UserError as error:
        return None, [Problem(ERROR, str(error), "see --help for what --model and --pretrained take")]
    except OSError as error:
        return None, [unreadable(error, Path(pretrained))]
    if path is not None:
        return path, []
    what = f"the weights '{pretrained}' of {model} are not on this machine and will be downloaded when first needed"
    return None, [Problem(WARNING, what, f"without a network {how_to_get(model, pretrained)}")]
