"""The options of the entry points: one field is one option, with its help, type and default.

An entry point's options are a frozen dataclass that inherits from those here; see `utils.arguments.parse`. Nothing that
takes long to import is imported here, so that `--help` and mistakes are answered at once.
"""

from argparse import BooleanOptionalAction
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from datasets.registry import REGISTRY, DatasetSpec, canonical_name
from models.fidelity import FidelityName
from models.presets import PRESETS, find_preset
from models.prompts import prompt_files
from models.representative import REP_VECS, RepVec
from utils.arguments import (
    Options,
    flag,
    non_empty,
    non_negative_float,
    non_negative_int,
    option,
    percentage,
    positive_float,
    positive_int,
    seed,
    share,
)
from utils.bootstrap import Bootstrap
from utils.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
DATA_SETS = ", ".join(REGISTRY)
CLIP_AD_FIDELITY = "what the preset's published numbers were made with, else corrected"
DEFAULT_ADAPT_WEIGHT = 0.1
NAME = {"type": canonical_name, "choices": REGISTRY, "metavar": "NAME"}


def fidelity_option(default: str) -> Any:
    """The option `--fidelity`, whose default is `default` in words."""
    said = f"compute as the authors' released code does, or as the paper describes; default: {default}"
    return option(said, None, choices=get_args(FidelityName))


def prompts_option(default: str, value: str | None = None) -> Any:
    """The option `--prompts`, whose default is `default` in words."""
    return option(f"phrases and templates: {', '.join(prompt_files())}, or a JSON file; default: {default}", value)


def data_set_option(default: str) -> Any:
    """The option `--dataset` of a program that can do without one, and then does `default`, in words."""
    return option(f"one of {DATA_SETS}; folder is for images of your own (default: {default})", None, **NAME)


# ---- Data ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(Options):
    """How files are read."""

    title = "reading"
    num_workers: int = option(
        "processes that read ahead; 0 reads in the main one (default: %(default)s)", 2, type=non_negative_int
    )


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(WorkerOptions):
    """How images are read."""

    title = "reading"
    batch_size: int = option("images a batch (default: %(default)s)", 8, type=positive_int)


@dataclass(frozen=True, kw_only=True)
class ClassOptions(Options):
    """Which classes of a data set are looked at."""

    title = "data"
    classes: tuple[str, ...] | None = option(
        "take these classes only (default: all of the data set)", None, nargs="+", metavar="CLASS"
    )


@dataclass(frozen=True, kw_only=True)
class DataSetOptions(ClassOptions):
    """One data set, or none."""

    title = "data"
    dataset: str | None = data_set_option("none")
    data_path: Path | None = option("the data set's folder (default: data/NAME)", None, type=Path)
    meta: Path | None = option(
        "list of its images, a meta.json or .jsonl; default: the folder's meta.json, built if there is none",
        None,
        type=Path,
    )


@dataclass(frozen=True, kw_only=True)
class DataSetsOptions(ClassOptions):
    """One data set or several, to be tested on."""

    title = "data"
    dataset: tuple[str, ...] = option(
        f"one or several of {DATA_SETS}; folder is for images of your own", nargs="+", **NAME
    )
    data_path: tuple[Path, ...] | None = option(
        "their folders, in the same order (default: data/NAME)", None, nargs="+", type=Path, metavar="DIR"
    )
    meta: tuple[Path, ...] | None = option(
        "lists of their images, in the same order, as meta.json or .jsonl; default: each folder's, built if missing",
        None,
        nargs="+",
        type=Path,
        metavar="FILE",
    )


# ---- Backbone, prompts and maps --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(Options):
    """The frozen CLIP, and how it is run."""

    title = "backbone"
    model: str = option(
        f"a preset ({', '.join(PRESETS)}), an open_clip model, or a config JSON (default: %(default)s)", "vit-l-14-336"
    )
    pretrained: str | None = option(
        "an open_clip tag of the model, or a state dict (.safetensors, .pt); default: the preset's", None
    )
    image_size: int | None = option(
        "side of the input in pixels; default: the preset's or the model's own", None, type=positive_int
    )
    features_list: tuple[int, ...] | None = option(
        "1-based numbers of the blocks to tap; default: the preset's, or the last of each quarter",
        None,
        nargs="+",
        type=positive_int,
        metavar="BLOCK",
    )
    fidelity: FidelityName | None = fidelity_option(CLIP_AD_FIDELITY)
    device: str = option("auto (CUDA where there is one), cpu, cuda or cuda:N (default: %(default)s)", "auto")
    precision: str = option(
        "arithmetic of the towers; bf16 and fp16 use autocast (default: %(default)s)",
        "fp32",
        choices=("fp32", "bf16", "fp16"),
    )
    compile: bool = flag("compile the image tower first, which takes a minute or so and pays in long runs on CUDA")


@dataclass(frozen=True, kw_only=True)
class PromptOptions(Options):
    """The sentences about a class."""

    title = "prompts"
    prompts: str | None = prompts_option("those of the data set's domain")
    cache_dir: Path = option(
        "where sentence embeddings are kept between runs (default: %(default)s)", PROJECT / ".cache", type=Path
    )


@dataclass(frozen=True, kw_only=True)
class ObjectNameOptions(Options):
    """What the sentences call a class."""

    title = "prompts"
    obj_name: str | None = option("call every class this in the prompts, not its phrase", None, type=non_empty)


@dataclass(frozen=True, kw_only=True)
class RepVecOptions(Options):
    """How CLIP-AD sums up the sentences."""

    title = "prompts"
    rep_vec: RepVec = option(
        "how the sentences of a state become one vector (default: %(default)s)", "mean", choices=REP_VECS
    )
    dbscan_eps: float | None = option("radius of --rep_vec dbscan; default: the data set's", None, type=positive_float)
    dbscan_min_samples: int | None = option(
        "core size of --rep_vec dbscan; default: the data set's", None, type=positive_int
    )


@dataclass(frozen=True, kw_only=True)
class MapOptions(Options):
    """CLIP-AD's anomaly maps."""

    smoothing: float | None = option(
        "standard deviation in pixels of the maps' Gaussian filter; default: the data set's, mostly 8",
        None,
        type=non_negative_float,
    )


@dataclass(frozen=True, kw_only=True)
class AdapterOptions(Options):
    """The form of DP-CLIP's image adapter, which is the checkpoint's where there is one that says it."""

    title = "image adapter"
    image_adapt_layers: tuple[int, ...] | None = option(
        "0-based numbers of the blocks whose output is adapted; default: the first quarter of them",
        None,
        nargs="+",
        type=non_negative_int,
        metavar="LAYER",
    )
    image_adapt_weight: float | None = option(
        f"share of the adapted tokens in what goes on, from 0 to 1 (default: {DEFAULT_ADAPT_WEIGHT})",
        None,
        type=share,
        metavar="WEIGHT",
    )
    relu: bool | None = option("end the projections in a LeakyReLU (default: no)", None, action=BooleanOptionalAction)
    grn: bool | None = option(
        "normalise responses, which purifies channels (default: yes)", None, action=BooleanOptionalAction
    )


# ---- Run and output --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SeedOptions(Options):
    """Random numbers."""

    seed: int = option("seed of all random numbers (default: %(default)s)", 42, type=seed)


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(Options):
    """What is measured."""

    title = "measures"
    legacy_pro: bool = flag("add a column with PRO by 200 thresholds, as older tables have it")
    bootstrap: int | None = option(
        "give measures confidence intervals, from this many draws of the images (1000 is usual)",
        None,
        type=positive_int,
        metavar="DRAWS",
    )
    confidence: float = option(
        "confidence of the intervals (default: %(default)g)", 95.0, type=percentage, metavar="PERCENT"
    )


@dataclass(frozen=True, kw_only=True)
class OutputOptions(MeasureOptions):
    """What a test writes, and where to."""

    title = "output"
    save_path: Path | None = option(
        "folder for the results (default: results/METHOD/NAME, with several data sets results/METHOD)", None, type=Path
    )
    save_maps: bool = flag("write every anomaly map as maps/<img_path>.npy")
    visualization: bool = flag("write every image beside its map and ground truth to imgs/, some on a contact sheet")
    no_report: bool = flag("leave out report.html, the page of all images, maps, scores and curves")
    compare_published: bool = flag("write published.md: the measures beside those the method was published with")


@dataclass(frozen=True, kw_only=True)
class TestOptions(
    DataSetsOptions, ReadingOptions, BackboneOptions, ObjectNameOptions, PromptOptions, OutputOptions, SeedOptions
):
    """What every test has, beside its method's own options."""


@dataclass(frozen=True, kw_only=True)
class ExaminationOptions(
    DataSetOptions, ReadingOptions, BackboneOptions, ObjectNameOptions, PromptOptions, RepVecOptions
):
    """The options of doctor.py: those of the run that is to be examined."""

    dataset: str | None = data_set_option("none, and the installation alone is checked")


def bootstrap_of(options: MeasureOptions, seed: int) -> Bootstrap | None:
    """How intervals are to be made, None if they are not asked for."""
    return None if options.bootstrap is None else Bootstrap(options.bootstrap, options.confidence, seed)


# ---- What was left open ----------------------------------------------------------------------------------------------

BackboneT = TypeVar("BackboneT", bound=BackboneOptions)


def resolve(options: BackboneT, spec: DatasetSpec | None = None, **defaults: Any) -> BackboneT:
    """Fill options that were left open; those that were given, and those that a program does not have, are left alone.

    Args:
        options: of any program with a backbone.
        spec: the data set that prompts and maps are for; None to leave them open.
        defaults: what comes before the values of preset and data set, unless it is None.

    Raises:
        UserError: a model without a preset came without weights.
    """
    preset = find_preset(options.model)
    values: dict[str, Any] = {"fidelity": "corrected"}
    if preset is not None:
        options = replace(options, model=preset.model)
        values = {
            "pretrained": preset.pretrained,
            "image_size": preset.image_size,
            "features_list": preset.features_list,
            "fidelity": preset.clip_ad_fidelity,
        }
    elif options.pretrained is None:
        from models.architecture import check_servable, read_config  # which import open_clip, and that takes seconds

        check_servable(options.model, read_config(options.model), options.image_size, options.features_list)
        raise UserError(f"--model {options.model}: say with --pretrained which weights to use")
    if spec is not None:
        values |= {
            "prompts": spec.domain,
            "dbscan_eps": spec.dbscan_eps,
            "dbscan_min_samples": spec.dbscan_min_samples,
            "smoothing": spec.smoothing,
            "domain": spec.domain,
        }
    values |= {name: value for name, value in defaults.items() if value is not None}
    open_ = {name: value for name, value in values.items() if getattr(options, name, "absent") is None}
    return replace(options, **open_)
