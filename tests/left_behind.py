"""What the entry points leave in their folders, and trained parts for tests of all methods."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import train_dp_clip
import train_sdp_plus


def results(folder: Path) -> dict[str, Any]:
    """Read a run's results.json."""
    return json.loads((folder / "results.json").read_text())


def table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoints(folder: Path, data: Path, *options: str, dp_clip: Sequence[str] = ()) -> dict[str, list[str]]:
    """Train SDP+ and DP-CLIP for an epoch; returns the options that name each method's trained parts."""
    common = ["--train_dataset", "mvtec", "--train_dataset_dir", str(data), "--num_workers", "0", "--epochs", "1"]
    common += ["--cache_dir", str(folder / "cache"), *options, "--save_path"]
    train_sdp_plus.main([*common, str(folder / "sdp_plus")])
    train_dp_clip.main([*common, str(folder / "dp_clip"), *dp_clip])
    files = {"sdp_plus": folder / "sdp_plus" / "epoch_1.pth", "dp_clip": folder / "dp_clip" / "image_adapter.pth"}
    return {"sdp": [], **{method: ["--checkpoint", str(file)] for method, file in files.items()}}
