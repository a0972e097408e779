"""From resolved options to a device, a backbone on it, its text features, and the form of an image adapter."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from engine.options import DEFAULT_MODEL, OF_A_DETECTOR, AdapterOptions, BackboneOptions, DeviceOptions, PromptOptions
from models.adapter_checkpoint import AdapterCheckpoint, fits, mismatches
from models.backbone import Backbone, load_backbone
from models.dp_clip import AdapterSettings
from models.dual_path import STAGES
from models.fidelity import Fidelity
from models.linear import computes_bfloat16
from models.model_config import config_digest, read_config
from models.presets import PRESETS, find_preset, preset_name
from models.prompts import PromptEnsemble, read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features
from utils.arguments import as_given, plain_record
from utils.distributed import first_of_machine_first, local_rank, world_size
from utils.errors import UserError
from utils.files import write_json

logger = logging.getLogger(__name__)

E = TypeVar("E", bound=DeviceOptions)
P = TypeVar("P", bound=PromptOptions)

Loader = Callable[[BackboneOptions, Fidelity, torch.device], Backbone]  # see `backbone_from_options`
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
    # PyTorch takes the 300th device for another: an index has a byte.
    if device.type == "cuda" and (str(device) != name or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if world_size() > 1 and device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def with_precision(options: E, device: torch.device) -> E:
    """Choose the arithmetic that `--precision auto` leaves open."""
    if options.precision != "auto":
        return options
    precision = "bf16" if computes_bfloat16(device) else "fp32"
    logger.info("--precision auto: the towers are run in %s on this %s", precision, device.type)
    return replace(options, precision=precision)


def backbone_from_options(options: BackboneOptions, fidelity: Fidelity, device: torch.device) -> Backbone:
    """Load the backbone of resolved options onto `device`."""
    given = {field.name: getattr(options, field.name) for field in fields(BackboneOptions)}
    return load_backbone(**given | {"fidelity": fidelity, "device": device})


def text_features(
    options: PromptOptions, backbone: Backbone, phrases: Mapping[str, str], choice: RepVecChoice
) -> dict[str, Tensor]:
    """Compute text features [D, 2] of each class from its phrase in the prompts; `options` are resolved."""
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
    """Choose an image adapter's form: as the checkpoint records, else the options say, else as published."""
    first_quarter = range(len(backbone.clip.visual.transformer.resblocks) // STAGES)
    published = AdapterSettings(features_list=backbone.features_list, image_adapt_layers=first_quarter).record
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
    settings |= {"image_adapt_layers": tuple(sorted(layers)), "grn_over_batch": fidelity.grn_over_batch}
    return AdapterSettings(features_list=backbone.features_list, **settings)


def as_trained(checkpoint: AdapterCheckpoint | None, options: BackboneOptions) -> dict[str, Any]:
    """Give what a checkpoint was trained with, for `resolve` to fill in options that were left open.

    Refused are, before weights are looked for, a model of other dimensions than the adapters', and files that are gone.
    """
    if checkpoint is None:
        return {}
    known = ("fidelity", "model", *OF_A_BACKBONE, *OF_A_DETECTOR)
    values = {name: value for name, value in checkpoint.options.items() if name in known and value is not None}
    model, trained = options.model or values.get("model", DEFAULT_MODEL), values.get("model")
    is_other = trained not in (None, preset_name(model))
    if is_other and config_digest(_config(model)) != checkpoint.config_sha256:  # nor a copy of the same config
        values = {name: value for name, value in values.items() if name not in OF_A_BACKBONE}
    for name in ("model", "pretrained"):
        path = Path(values.get(name, ""))
        if getattr(options, name) is None and path.is_absolute() and not path.is_file():
            raise UserError(f"{checkpoint.path} was trained with {path}, which is gone; give --{name} and its copy")
    if not fits(checkpoint, _config(model)):
        if is_other:
            remedy = f"give --model {trained}, or leave the option out"
            raise UserError(f"{checkpoint.path} was trained with {trained}; {remedy}")
        fitting = " or ".join(name for name in PRESETS if fits(checkpoint, _config(name)))
        raise UserError(f"{checkpoint.path} does not fit {model}; give --model {fitting or 'and that of its training'}")
    return values


def _config(model: str) -> dict[str, Any]:
    preset = find_preset(model)
    return read_config(preset.model if preset else model)


def with_trained_prompts(options: P, checkpoint: AdapterCheckpoint | None, given: PromptOptions) -> P:
    """Take the sentences of a training for the prompts of resolved options that were left open."""
    recorded = checkpoint and checkpoint.prompts.get(options.prompts)
    is_given = given.prompts is not None or recorded is None
    return options if is_given else with_prompts(options, recorded, checkpoint.path)


def with_prompts(options: P, recorded: PromptEnsemble, source: Path) -> P:
    """Take recorded sentences for the prompts of resolved options.

    Where they are missing here or have changed, they are written from the `source` into the cache.
    """
    with suppress(UserError):
        if read_prompts(options.prompts) == recorded:
            return options
    path = options.cache_dir / "prompts" / f"{recorded.sha256}.json"
    write_json(path, recorded.record())
    logger.info("the prompts are those that %s was made with, in %s", source, path)
    return replace(options, prompts=str(path))


def differences(
    checkpoint: AdapterCheckpoint | None, backbone: Backbone, options: PromptOptions, given: PromptOptions
) -> list[str]:
    """Say how backbone and options, resolved and as given, differ from a checkpoint's training, a sentence each."""
    if checkpoint is None:
        return []
    found, recorded, known = mismatches(checkpoint, backbone), checkpoint.options, checkpoint.prompts
    for name in sorted({"fidelity", *OF_A_DETECTOR} - {"prompts"}):
        trained = recorded.get(name)
        used = getattr(options, "object" if name == "obj_name" and hasattr(options, "object") else name, None)
        left_open = name == "obj_name" and name in recorded and getattr(given, name, None) is not None
        if trained != used and (None not in (trained, used) or left_open):
            found.append(f"{checkpoint.path} was trained with --{name} {as_given(trained)}, and is used with {used}")
    by_domain = given.prompts is None and recorded.get("prompts") is None and options.prompts not in known
    if known and not by_domain and read_prompts(options.prompts) not in known.values():
        found.append(f"{checkpoint.path} was trained with the prompts {', '.join(known)}, and is used with others")
    return found
