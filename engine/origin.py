"""What stands below every table: in words, what its figures were made with, and what a reader must know of that."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from datasets.image_set import ImageSet
from datasets.registry import Published
from engine.options import PromptOptions, TileOptions
from models.adapter_checkpoint import AdapterCheckpoint
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.presets import PRESETS, preset_name
from models.prompts import read_prompts
from utils.files import sha256_of
from utils.measures.bootstrap import Bootstrap
from utils.results import Run, origin

DEMO_MODEL = "the demonstration model knows only its ten surfaces: what it finds elsewhere says nothing of the method"


def run_on(
    images: ImageSet,
    *,
    folder: Path,
    title: str,
    description: Mapping[str, Any],
    device: torch.device,
    made_with: str,
    notes: Sequence[str] = (),
    bootstrap: Bootstrap | None = None,
) -> Run:
    """Make what the files of a run on a data set say of it; command and environment join the `description`."""
    own = Published.count(len(images.phrases()), [entry.anomaly for entry in images.entries])
    return Run(
        folder=folder,
        title=title,
        images=len(images.entries),
        classes=own.classes,
        description={**description, **origin(device)},
        notes=[*images.notes, *notes, *([f"in brackets: {bootstrap}"] if bootstrap else [])],
        bootstrap=bootstrap,
        whole=(images.whole or own).counts,
        made_with=f"{made_with}{f', protocol {images.spec.protocol}' if images.spec.protocol else ''}",
    )


def tile_settings(options: TileOptions) -> dict[str, Any]:
    """Give the resolved options of tiles by their names; all None where there are none."""
    return {field.name: getattr(options, field.name) for field in fields(TileOptions)}


def describe(
    options: PromptOptions, backbone: Backbone, fidelity: Fidelity, checkpoint: AdapterCheckpoint | None
) -> dict[str, Any]:
    """Record what a detector is made with; `options` are resolved."""
    weights, prompts = backbone.weights, read_prompts(options.prompts)
    of_backbone = ("name", "config_sha256", "image_size", "features_list", "activation")
    described = {
        "fidelity": {"name": options.fidelity, **asdict(fidelity)},
        "backbone": {key: getattr(backbone, key) for key in of_backbone},
        "weights": {"path": str(weights.path), "sha256": weights.sha256, "tag": weights.tag},
        "prompts": {"name": options.prompts, "sha256": prompts.sha256},
    }
    if getattr(options, "tile", None) is not None:
        described["tiles"] = tile_settings(options)
    if checkpoint is not None:
        described["checkpoint"] = {"path": str(checkpoint.path), "sha256": checkpoint.sha256, **checkpoint.origin}
    return described


def made_with(described: Mapping[str, Any]) -> str:
    """Sum up in words what `describe` records."""
    weights, name = described["weights"], preset_name(described["backbone"]["name"])
    parts = [
        f"made with {name if name in PRESETS else Path(name).name}",
        _file(weights["tag"] or weights["path"], weights),
        f"{described['backbone']['image_size']} px{_tiles(described.get('tiles'))}",
        f"{described['fidelity']['name']} fidelity",
        f"prompts {_file(described['prompts']['name'], described['prompts'])}",
    ]
    if checkpoint := described.get("checkpoint"):
        parts.append(f"checkpoint {_file(checkpoint['path'], checkpoint)}")
    return ", ".join(parts)


def _tiles(settings: Mapping[str, Any] | None) -> str:
    if settings is None:
        return ""
    scale = "" if settings["tile_scale"] == 1 else f" at scale {settings['tile_scale']:g}"
    whole = "and the whole image" if settings["tile_context"] else "alone"
    return f" by tiles of {settings['tile']} px{scale}, overlap {settings['overlap']:g}, {whole}"


def _file(name: str, described: Mapping[str, Any]) -> str:
    return f"{Path(name).name} (SHA-256 {described['sha256'][:8]})"


def notes_on(dataset: str, described: Mapping[str, Any]) -> list[str]:
    """List what a reader of figures on a data set must know of what they were made with."""
    variant = [described["variant"]] if "variant" in described else []
    return [*variant, DEMO_MODEL] if dataset != "demo" and is_demonstration(described["weights"]["sha256"]) else variant


def is_demonstration(sha256: str | None) -> bool:
    """Tell the weights of the demonstration model by their SHA-256; none are where these are not there."""
    with suppress(OSError):
        return sha256 == sha256_of(PRESETS["demo"].pretrained)
    return False
