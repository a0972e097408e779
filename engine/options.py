"""Command-line options of the backbone and the prompts, and what they stand for."""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from models.architecture import check_servable, read_config
from models.backbone import Backbone, load_backbone
from models.fidelity import Fidelity, FidelityName, System
from models.presets import PRESETS, find_preset
from models.prompts import PromptEnsemble, prompt_files, read_prompts
from models.representative import REP_VECS, RepVecChoice
from models.text import class_text_features
from utils.arguments import non_empty, non_negative_float, positive_float, positive_int
from utils.distributed import first_of_machine_first, local_rank, world_size
from utils.errors import UserError

DEFAULT_MODEL = "vit-l-14-336"
CLIP_AD_FIDELITY = "what the published numbers of the preset were made with, else corrected"


def add_model_options(parser: argparse.ArgumentParser, fidelity: str = CLIP_AD_FIDELITY) -> None:
    """Add the options that choose a backbone and how it is run.

    Args:
        parser: is given the options.
        fidelity: what `--fidelity` is by default, in words.
    """
    group = parser.add_argument_group("backbone")
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help=f"a preset ({', '.join(PRESETS)}), an open_clip model name, or the path of a model config JSON "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--pretrained",
        help="an open_clip tag of the model, or the path of a state dict (.safetensors, .pt); default: the preset's",
    )
    group.add_argument(
        "--image_size", type=positive_int, help="side of the input in pixels; default: the preset's or the model's own"
    )
    group.add_argument(
        "--features_list",
        type=positive_int,
        nargs="+",
        metavar="BLOCK",
        help="1-based numbers of the blocks to tap; default: the preset's, or the last of each quarter",
    )
    group.add_argument(
        "--fidelity",
        choices=("released", "corrected"),
        help=f"compute as the authors' released code does, or as the paper describes; default: {fidelity}",
    )
    group.add_argument(
        "--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N (default: auto)"
    )
    group.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="arithmetic of the towers; bf16 and fp16 use autocast (default: %(default)s)",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the image tower first, which takes a minute or so and pays in long runs on CUDA",
    )


def add_prompt_options(parser: argparse.ArgumentParser, *, obj_name: bool = True) -> None:
    """Add the options that decide on CLIP-AD's text features; without `--obj_name` where another option names all."""
    group = parser.add_argument_group("prompts")
    _add_sentence_options(group, "those of the data set's domain", obj_name=obj_name)
    group.add_argument(
        "--rep_vec",
        choices=REP_VECS,
        default="mean",
        help="how the sentences of a state become one vector (default: %(default)s)",
    )
    group.add_argument("--dbscan_eps", type=positive_float, help="radius of --rep_vec dbscan; default: the data set's")
    group.add_argument(
        "--dbscan_min_samples", type=positive_int, help="core size of --rep_vec dbscan; default: the data set's"
    )


def add_dp_clip_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide on DP-CLIP's text features, whose sentences are always summed up by their mean."""
    _add_sentence_options(parser.add_argument_group("prompts"), "dp_clip")
    parser.set_defaults(prompts="dp_clip")


def _add_sentence_options(group: argparse._ArgumentGroup, prompts: str, *, obj_name: bool = True) -> None:
    """Add the options of the sentences, whose `--prompts` are `prompts` by default, in words."""
    if obj_name:
        group.add_argument("--obj_name", type=non_empty, help="call every class this in the prompts, not its phrase")
    else:
        group.set_defaults(obj_name=None)
    group.add_argument(
        "--prompts",
        help=f"state phrases and templates: {', '.join(prompt_files())}, or the path of such a JSON file; "
        f"default: {prompts}",
    )
    group.add_argument(
        "--cache_dir",
        type=Path,
        default=Path(__file__).resolve().parents[1] / ".cache",
        help="where sentence embeddings are kept between runs (default: %(default)s)",
    )


def add_map_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the anomaly maps."""
    parser.add_argument(
        "--smoothing",
        type=non_negative_float,
        help="standard deviation in pixels of the Gaussian filter on the maps; default: the data set's, mostly 8",
    )


def find_device(name: str) -> torch.device:
    """The device called `name`, where "auto" is CUDA if there is one; of several processes, each has a GPU of its own.

    Raises:
        UserError: no such device here, or fewer than processes.
    """
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


def resolve_model_options(args: argparse.Namespace) -> None:
    """Fill in, in place, the backbone options that were left open.

    Raises:
        UserError: a model without a preset came without weights.
    """
    preset = find_preset(args.model)
    if preset is None:
        if args.pretrained is None:
            check_servable(args.model, read_config(args.model), args.image_size, args.features_list)
            raise UserError(f"--model {args.model}: say with --pretrained which weights to use")
        args.fidelity = args.fidelity or "corrected"
        return
    args.model = preset.model
    args.pretrained = args.pretrained or preset.pretrained
    args.image_size = args.image_size or preset.image_size
    args.features_list = args.features_list or list(preset.features_list)
    args.fidelity = args.fidelity or preset.clip_ad_fidelity


def backbone_from_options(args: argparse.Namespace, device: torch.device, system: System = "clip_ad") -> Backbone:
    """Load the backbone that resolved options describe for a system, onto `device`."""
    name: FidelityName = args.fidelity
    return load_backbone(
        model=args.model,
        pretrained=args.pretrained,
        image_size=args.image_size,
        features_list=args.features_list,
        fidelity=Fidelity.named(name, system),
        device=device,
        precision=args.precision,
        compile=args.compile,
    )


def text_features_from_options(
    args: argparse.Namespace, backbone: Backbone, prompts: PromptEnsemble, phrases: Mapping[str, str]
) -> dict[str, Tensor]:
    """CLIP-AD's text features [D, 2] of every class, from resolved options, prompts and what each class is called."""
    choice = RepVecChoice(args.rep_vec, args.dbscan_eps, args.dbscan_min_samples)
    return _text_features(args, backbone, prompts, phrases, choice)


def dp_clip_text_features_from_options(
    args: argparse.Namespace, backbone: Backbone, phrases: Mapping[str, str]
) -> dict[str, Tensor]:
    """DP-CLIP's text features [D, 2] of every class, in float32 whatever the precision of the image tower."""
    exact = replace(backbone, precision="fp32")
    return _text_features(args, exact, read_prompts(args.prompts), phrases, RepVecChoice("mean"))


def _text_features(
    args: argparse.Namespace,
    backbone: Backbone,
    prompts: PromptEnsemble,
    phrases: Mapping[str, str],
    choice: RepVecChoice,
) -> dict[str, Tensor]:
    logger = logging.getLogger(__name__)
    features: dict[str, Tensor] = {}
    with first_of_machine_first():
        for class_name, phrase in phrases.items():
            phrase = args.obj_name or phrase
            logger.info("class %s is called '%s' in the prompts", class_name, phrase)
            cache = args.cache_dir / "text"
            features[class_name] = class_text_features(backbone, prompts, phrase, choice, cache)
    return features
