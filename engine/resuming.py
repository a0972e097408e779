"""The state that a stopped training left, and whether what it depends on is still the same."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.earlier_results import EARLIER
from engine.training_sets import COLUMNS
from models.checkpoints import read_checkpoint
from utils.arguments import as_given
from utils.distributed import world_size
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Options that may change when a training is resumed: no parameter that is trained depends on them.
FREE = {
    *("resume", "epochs", "save_freq", "print_freq", "save_path", "num_workers", "device", "train_dataset_dir"),
    *("test_dataset", "test_dataset_dir", "test_protocol", "test_classes", "cache_dir", "cache_memory", "smoothing"),
    *("activation_checkpointing", "max_pixels", "tile", "overlap", "tile_scale", "tile_context"),
    "seeds",  # each training has one of them
}


def earlier_state(arguments: Mapping[str, Any], path: Path, method: str) -> dict[str, Any]:
    """Read the state of a method's training, whose options must be those of this one, given as plain data."""
    state = read_checkpoint(path)
    before, found = state.get("arguments"), state.get("method")
    if not isinstance(before, Mapping):
        raise UserError(f"{path} is no state to resume from: it has no 'arguments'")
    if found != method:
        raise UserError(f"{path} is of a training of {found}, not of {method}: choose another --save_path")
    before = {**EARLIER, **before}
    for key, value in arguments.items():
        if key not in FREE and before.get(key) != value:
            together = " for all processes together" if key == "batch_size" and world_size() > 1 else ""
            raise _changed(f"--{key}", f"{as_given(value)}{together}", before.get(key), path)
    return state


def refuse_changes(state: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuse a state, read from `path`, if a checkpoint made `now` depends on anything else beside the options."""
    before, after = _dependencies(state), _dependencies(now)
    for what in (what for what in after if what in before):
        if before[what] != after[what]:
            raise _changed(what, as_given(after[what]), before[what], path)
    if unknown := [what for what in after if what not in before and not what.startswith("image ")]:
        logger.warning("%s does not record %s: it is not known whether that changed", path, ", ".join(unknown))


def _dependencies(content: Mapping[str, Any]) -> dict[str, Any]:
    """List what a training depends on, as its checkpoint records it, by what a message calls it."""
    found = dict(content.get("backbone", {}))
    found |= {f"the SHA-256 of prompts {name}": one["sha256"] for name, one in content.get("prompts", {}).items()}
    if "images" in content:
        rows = [*zip(*(content["images"][name] for name in COLUMNS), strict=True)]
        for place, (path, name, label, mask, _, digest) in enumerate(rows, 1):
            content_of = f"SHA-256 {digest}, mask's {mask or 'none'}"
            found[f"image {place}"] = f"{path} of class {name} (label {label}, {content_of})"
        found["the number of images"] = len(rows)
    said = {"what the classes are called": "phrases", "what masks are anomalous above": "mask_thresholds"}
    found |= {what: content[key] for what, key in said.items() if key in content}
    return found


def _changed(what: str, now: str, before: Any, path: Path) -> UserError:
    remedy = "give the same, or start over in another --save_path"
    return UserError(f"{what} is {now}, but was {as_given(before)} in the training of {path}: {remedy}")
