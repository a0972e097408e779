"""From resolved options to a device, a backbone on it, its text features, and the form of an image adapter."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.options import OF_A_DETECTOR, AdapterOptions, BackboneOptions, PromptOptions
from models.adapter import AdapterSettings
from models.adapter_checkpoint import AdapterCheckpoint, mismatches, settings_record
from models.backbone import Backbone, load_backbone
from models.dual_path import STAGES
from models.fidelity import Fidelity
from models.presets import preset_name
from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features
from utils.arguments import as_given, plain_record
from utils.distributed import first_of_machine_first, local_rank, world_size
from utils.errors import UserError
from utils.files import write_json

logger = logging.getLogger(__name__)

OF_A_BACKBONE = ("pretrained", "image_size", "features_list")  # options that mean one model only


def find_device(name: str) -> torch.device:
    """Find the device called `name`; "auto" is CUDA if there is one, and of several processes each has its own GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if world_size() > 1 and name.startswith("cuda"):
        if name != "cuda":
            raise UserError(f"--device {name}: of several processes, each has its own; give cuda or auto")
        name = f"cuda:{local_rank()}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: not a device; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: only cpu and cuda are supported")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if world_size() > 1 and device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def backbone_from_options(options: BackboneOptions, fidelity: Fidelity, device: torch.device) -> Backbone:
    """Load the backbone of resolved options onto `device`."""
    given = {field.name: getattr(options, field.name) for field in fields(BackboneOptions)}
    return load_backbone(**given | {"fidelity": fidelity, "device": device})


def text_features(
    options: PromptOptions, backbone: Backbone, phrases: Mapping[str, str], choice: RepVecChoice
) -> dict[str, Tensor]:
    """Text features [D, 2] of every class, from its phrase in the prompts; `options` are resolved."""
    prompts = read_prompts(options.prompts)
    features: dict[str, Tensor] = {}
    with first_of_machine_first():
        for class_name, phrase in phrases.items():
            logger.info("class %s is called '%s' in the prompts", class_name, phrase)
            cache = options.cache_dir / "text"
            features[class_name] = class_text_features(backbone, prompts, phrase, choice, cache)
    return features


def adapter_settings(
    options: AdapterOptions, backbone: Backbone, fidelity: Fidelity, checkpoint: AdapterCheckpoint | None = None
) -> AdapterSettings:
    """The form of an image adapter: as the checkpoint records it, else as the options say, else as published."""
    first_quarter = range(len(backbone.clip.visual.transformer.resblocks) // STAGES)
    published = settings_record(AdapterSettings(features_list=backbone.features_list, adapt_layers=first_quarter))
    recorded = checkpoint.origin["settings"] if checkpoint is not None else {}
    given = {name: value for name, value in plain_record(options).items() if name in published and value is not None}
    for name, value in given.items():
        if recorded.get(name, value) != value:
            raise UserError(
                f"--{name} is {as_given(value)}, but {checkpoint.path} was trained with {as_given(recorded[name])}: "
                "leave the option out"
            )
    settings = published | recorded | given
    layers, last = settings["image_adapt_layers"], max(backbone.features_list)
    if max(layers, default=-1) >= last:
        beyond = f"{max(layers)} is not one of the blocks 0 to {last - 1}, which come before the last tap"
        raise UserError(f"--image_adapt_layers: {beyond}")
    if len(set(layers)) < len(layers):
        raise UserError(f"--image_adapt_layers {as_given(layers)}: give each block once")
    return AdapterSettings(
        features_list=backbone.features_list,
        adapt_layers=tuple(sorted(layers)),
        adapt_weight=settings["image_adapt_weight"],
        relu=settings["relu"],
        grn=settings["grn"],
        grn_over_batch=fidelity.grn_over_batch,
    )


def as_trained(checkpoint: AdapterCheckpoint | None, options: PromptOptions) -> dict[str, Any]:
    """What a checkpoint was trained with, for `resolve` to fill in options that were left open.

    Prompts that are not to be had here, or have changed, are written from the checkpoint into the cache.
    """
    if checkpoint is None:
        return {}
    known = ("fidelity", "model", *OF_A_BACKBONE, *OF_A_DETECTOR)
    values = {name: value for name, value in checkpoint.options.items() if name in known and value is not None}
    if options.model is not None and preset_name(options.model) != values.get("model"):
        values = {name: value for name, value in values.items() if name not in OF_A_BACKBONE}
    name = values.get("prompts")
    if options.prompts is None and name in checkpoint.prompts:
        prompts = checkpoint.prompts[name]
        with suppress(UserError):
            if read_prompts(name) == prompts:
                return values
        values["prompts"] = str(options.cache_dir / "prompts" / f"{prompts.sha256}.json")
        write_json(Path(values["prompts"]), prompts.record())
        logger.info("the prompts are those that %s was trained with, in %s", checkpoint.path, values["prompts"])
    return values


def differences(
    checkpoint: AdapterCheckpoint | None, backbone: Backbone, options: PromptOptions, given: PromptOptions
) -> list[str]:
    """In what the backbone and options, resolved and as given, differ from a checkpoint's training, a sentence each."""
    if checkpoint is None:
        return []
    found, recorded, known = mismatches(checkpoint, backbone), checkpoint.options, checkpoint.prompts
    for name in sorted({"fidelity", *OF_A_DETECTOR} - {"prompts"}):
        trained = recorded.get(name)
        used = getattr(options, "object" if name == "obj_name" and hasattr(options, "object") else name, None)
        if None not in (trained, used) and trained != used:
            found.append(f"{checkpoint.path} was trained with --{name} {trained}, and is used with {used}")
    by_domain = given.prompts is None and recorded.get("prompts") is None and options.prompts not in known
    if known and not by_domain and read_prompts(options.prompts) not in known.values():
        found.append(f"{checkpoint.path} was trained with the prompts {', '.join(known)}, and is used with others")
    return found
