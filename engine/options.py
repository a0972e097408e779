"""The options of the entry points: one field is one option, with its type, its help and its default.

An entry point's options inherit from those here; see `utils.arguments.parse`. Nothing that takes long to import is
imported here, so that `--help` and mistakes are answered at once.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from datasets.registry import REGISTRY, DatasetSpec, canonical_name
from models.fidelity import FidelityName
from models.presets import PRESETS, find_preset
from models.prompts import prompt_files
from models.representative import RepVec
from utils.arguments import (
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    Percentage,
    PositiveFloat,
    PositiveInt,
    Seed,
    Share,
    Text,
    flag,
    option,
    required,
)
from utils.errors import UserError

if TYPE_CHECKING:
    from utils.measures.bootstrap import Bootstrap

PROJECT = Path(__file__).resolve().parents[1]
DATA_SETS = ", ".join(REGISTRY)
DEFAULT_ADAPT_WEIGHT = 0.1
DataSetName = Annotated[str, canonical_name]
NAME = {"choices": REGISTRY, "metavar": "NAME"}  # of an option that is a DataSetName

# The help of options whose default depends on the program.
DATA_SET = f"one of {DATA_SETS}; folder is for images of your own (default: {{}})"
FIDELITY = "compute as the authors' released code does, or as the paper describes; default: {}"
CLIP_AD_FIDELITY = "what the preset's published numbers were made with, else corrected"
PROMPTS = f"state phrases and templates: {', '.join(prompt_files())}, or a JSON file; default: {{}}"


class DataSetOptions(Options):
    """The data set."""

    dataset: DataSetName | None = option(DATA_SET.format("none"), **NAME)
    data_path: Path | None = option("the data set's folder (default: data/NAME)")
    meta: Path | None = option(
        "its images, meta.json or .jsonl (image_path, label, class_name, mask_path); default: the folder's, or built"
    )
    classes: tuple[str, ...] | None = option("take these classes only (default: all)", metavar="CLASS")


class DataSetsOptions(Options):
    """The data sets."""

    dataset: tuple[DataSetName, ...] = required(f"one or more of {DATA_SETS}; folder is for images of your own", **NAME)
    data_path: tuple[Path, ...] | None = option("their folders, in this order (default: data/NAME)", metavar="DIR")
    meta: tuple[Path, ...] | None = option(
        "their images, each meta.json or .jsonl, in this order; default: each folder's meta.json, or built",
        metavar="FILE",
    )
    classes: tuple[str, ...] | None = option("take these classes only (default: all)", metavar="CLASS")


class ReadingOptions(Options):
    """How images are read."""

    batch_size: PositiveInt = option("images a batch", 8)
    num_workers: NonNegativeInt = option("processes that read ahead; 0 reads in the main one", 2)


class BackboneOptions(Options):
    """The frozen CLIP, and how it is run."""

    model: str = option(f"a preset ({', '.join(PRESETS)}), an open_clip model, or a config JSON", "vit-l-14-336")
    pretrained: str | None = option("an open_clip tag, or a state dict (.safetensors, .pt); default: the preset's")
    image_size: PositiveInt | None = option("side of the input in pixels; default: the preset's or the model's own")
    features_list: tuple[PositiveInt, ...] | None = option(
        "1-based numbers of the blocks to tap; default: the preset's, or the last of each quarter", metavar="BLOCK"
    )
    fidelity: FidelityName | None = option(FIDELITY.format(CLIP_AD_FIDELITY))
    device: str = option("auto (CUDA where there is one), cpu, cuda or cuda:N", "auto")
    precision: Literal["fp32", "bf16", "fp16"] = option("arithmetic of the towers; bf16 and fp16 use autocast", "fp32")
    compile: bool = flag("compile the image tower first, which takes a minute or so and pays in long runs on CUDA")


class PromptOptions(Options):
    """The sentences about a class."""

    prompts: str | None = option(PROMPTS.format("those of the data set's domain"))
    cache_dir: Path = option("where sentence embeddings are kept", PROJECT / ".cache")


class ObjectNameOptions(Options):
    """What the sentences call a class."""

    obj_name: Text | None = option("call every class this in the prompts, not its phrase")


class ClipAdOptions(Options):
    """How SDP and SDP+ sum up the sentences, and smooth the maps."""

    rep_vec: RepVec = option("how the sentences of a state become one vector", "mean")
    dbscan_eps: PositiveFloat | None = option("radius of --rep_vec dbscan; default: the data set's")
    dbscan_min_samples: PositiveInt | None = option("core size of --rep_vec dbscan; default: the data set's")
    smoothing: NonNegativeFloat | None = option(
        "standard deviation in pixels of the maps' Gaussian filter; default: the data set's, mostly 8"
    )


class AdapterOptions(Options):
    """The form of DP-CLIP's image adapter, which is the checkpoint's where there is one that says it."""

    image_adapt_layers: tuple[NonNegativeInt, ...] | None = option(
        "0-based numbers of the blocks whose output is adapted; default: the first quarter (0 to 5 of ViT-L)",
        metavar="LAYER",
    )
    image_adapt_weight: Share | None = option(
        f"share of the adapted tokens in what goes on, from 0 to 1 (default: {DEFAULT_ADAPT_WEIGHT})", metavar="WEIGHT"
    )
    relu: bool | None = option("end the projections in a LeakyReLU (default: no)")
    grn: bool | None = option("normalise responses, which purifies channels (default: yes)")


class SeedOptions(Options):
    """Random numbers."""

    seed: Seed = option("seed of all random numbers", 42)


class MeasureOptions(Options):
    """What is measured."""

    legacy_pro: bool = flag("add a column with PRO by 200 thresholds, as older tables have it")
    bootstrap: PositiveInt | None = option(
        "give measures confidence intervals, from so many draws of the images (1000 is usual)", metavar="DRAWS"
    )
    confidence: Percentage = option("confidence of the intervals (default: 95)", 95.0, metavar="PERCENT")


class OutputOptions(MeasureOptions):
    """What a test writes, and where to."""

    save_path: Path | None = option(
        "folder for the results (default: results/METHOD/NAME, with several data sets results/METHOD)"
    )
    save_maps: bool = flag("write every anomaly map as maps/<img_path>.npy")
    visualization: bool = flag("write every image beside its map and ground truth to imgs/, some on a contact sheet")
    no_report: bool = flag("leave out report.html, the page of all images, maps, scores and curves")
    compare_published: bool = flag("write published.md: the measures beside those the method was published with")


class TestOptions(
    DataSetsOptions, ReadingOptions, BackboneOptions, ObjectNameOptions, PromptOptions, OutputOptions, SeedOptions
):
    """What every test has, beside its method's own options."""


class ExaminationOptions(
    DataSetOptions, ReadingOptions, BackboneOptions, ObjectNameOptions, PromptOptions, ClipAdOptions
):
    """The options of doctor.py: those of the run that is to be examined."""

    dataset: DataSetName | None = option(DATA_SET.format("none, and the installation alone is checked"), **NAME)


class TaskOptions(Options):
    """What is to be done, one of these."""

    exclusive = True
    maps: Path | None = option("measure the maps in this folder", metavar="FOLDER")
    compare: tuple[Path, Path] | None = option(
        "paired differences of two runs' measures: of images from their scores.csv, of pixels if both saved their maps",
        nargs=2,
        metavar=("A", "B"),
    )
    published: Path | None = option(
        "write published.md into a finished run's folder: its measures beside the published ones", metavar="RUN"
    )


class SavedMapOptions(Options):
    """How maps are read, and what is written."""

    map_size: PositiveInt | None = option(
        "side in pixels of a square that maps and masks are resized to, bilinear; default: each map's, one for a class"
    )
    num_workers: NonNegativeInt = option("processes that read ahead; 0 reads in the main one", 2)
    scores: Path | None = option("image scores, a CSV of image_path and score; default: the maps' maxima")
    report: bool = flag("write report.html, the page of all images, maps, scores and curves; reads the images for it")
    save_path: Path | None = option(
        "folder for the results (default: results/evaluate/NAME, with --compare results/compare)"
    )


class EvaluationOptions(TaskOptions, DataSetOptions, SavedMapOptions, MeasureOptions, SeedOptions):
    """The options of evaluate.py."""

    dataset: DataSetName | None = option(DATA_SET.format("folder, with --compare that of run A"), **NAME)

    def mistake(self) -> str | None:
        """Say which option would do nothing."""
        given = [name for name in ("scores", "legacy_pro", "classes", "report") if getattr(self, name)]
        return f"--{given[0]} goes with --maps" if given and not self.maps else None


def bootstrap_of(options: MeasureOptions, seed: int) -> "Bootstrap | None":
    """How intervals are to be made, None if they are not asked for."""
    from utils.measures.bootstrap import Bootstrap  # which belongs to the measures, and those take long to import

    return None if options.bootstrap is None else Bootstrap(options.bootstrap, options.confidence, seed)


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
        values = {name: getattr(preset, name) for name in ("pretrained", "image_size", "features_list")}
        values["fidelity"] = preset.clip_ad_fidelity
    elif options.pretrained is None:
        from models.backbone import check_servable, read_config  # which import open_clip, and that takes seconds

        check_servable(options.model, read_config(options.model), options.image_size, options.features_list)
        raise UserError(f"--model {options.model}: say with --pretrained which weights to use")
    if spec is not None:
        values |= {name: getattr(spec, name) for name in ("domain", "dbscan_eps", "dbscan_min_samples", "smoothing")}
        values["prompts"] = spec.domain
    values |= {name: value for name, value in defaults.items() if value is not None}
    open_ = {name: value for name, value in values.items() if getattr(options, name, "absent") is None}
    return replace(options, **open_)
