"""The options of the entry points: one field is one option, with its type, its help and its default.

An entry point's options inherit from those here; see `utils.arguments.parse`. Nothing that takes long to import is
imported here, so that `--help` and mistakes are answered at once.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from datasets import images
from datasets.layout_options import LayoutOptions
from datasets.registry import REGISTRY, DatasetSpec, canonical_name
from models.fidelity import FidelityName
from models.presets import PRESETS, find_preset, preset_name
from models.prompts import prompt_files
from models.representative import RepVec
from utils.arguments import (
    FiniteFloat,
    Intensity,
    NonNegativeInt,
    Options,
    Overlap,
    Percentage,
    PositiveFloat,
    PositiveInt,
    Scale,
    Seed,
    Share,
    Sigma,
    Text,
    TileSide,
    WorkerCount,
    flag,
    option,
    required,
)
from utils.background import free_cores
from utils.errors import UserError

BackboneT = TypeVar("BackboneT", bound="BackboneOptions")

PROJECT = Path(__file__).resolve().parents[1]
DATA_SETS = ", ".join(REGISTRY)
DataSetName = Annotated[str, canonical_name]
NAME = {"choices": REGISTRY, "metavar": "NAME"}  # of an option that is a DataSetName

# What a detector depends on beside its fidelity and its backbone.
OF_A_DETECTOR = ("prompts", "obj_name", "rep_vec", "dbscan_eps", "dbscan_min_samples", "smoothing")

TILES = {"overlap": 0.25, "tile_scale": 1.0, "tile_context": True}  # with a tile

# The help of options that several programs have, {} their default.
DATA_SET = f"one of {DATA_SETS}; folder is for images of your own (default: {{}})"
FIDELITY = "compute as the authors' released code does, or as the paper describes; default: {}"
CLIP_AD_FIDELITY = "what the preset's published numbers were made with, else corrected"
FOLDERS = "their folders, in this order (default: data/NAME)"
MODEL = f"a preset ({', '.join(PRESETS)}), an open_clip model, or a config JSON; default: {{}}"
DEFAULT_MODEL = "vit-l-14-336"
MAX_PIXELS = "refuse images, masks and maps of more pixels than this"
INTENSITY = "values of images that are black and white: their files' range, what the images of a data set use, or LO,HI"
PROTOCOL = "what of the data set is taken, and in which form, where it has several protocols (docs/data.md)"
PROTOCOLS = f"{PROTOCOL}: each takes the one that it has; default: its first"
LISTS = "their images, each meta.json or .jsonl, in this order; default: each folder's meta.json, or built"
WORKERS = "processes that read ahead; 0 reads in the main one; if not given, one a core but one, at most 16"
PROMPTS = f"state phrases and templates: {', '.join(prompt_files())}, or a JSON file; default: {{}}"


class DataSetOptions(LayoutOptions):
    """The data set."""

    dataset: DataSetName | None = option(DATA_SET.format("none"), **NAME)
    data_path: Path | None = option("the data set's folder (default: data/NAME)")
    meta: Path | None = option(
        "its images, meta.json or .jsonl (image_path, label, class_name, mask_path); default: the folder's, or built"
    )
    protocol: str | None = option(f"{PROTOCOL}; default: its first", metavar="NAME")
    classes: tuple[str, ...] | None = option("take these classes only (default: all)", metavar="CLASS")


class DataSetsOptions(LayoutOptions):
    """The data sets."""

    dataset: tuple[DataSetName, ...] = required(f"one or more of {DATA_SETS}; folder is for images of your own", **NAME)
    data_path: tuple[Path, ...] | None = option(FOLDERS, metavar="DIR")
    meta: tuple[Path, ...] | None = option(LISTS, metavar="FILE")
    protocol: tuple[str, ...] | None = option(PROTOCOLS, metavar="NAME")
    classes: tuple[str, ...] | None = option("take these classes only (default: all)", metavar="CLASS")


class ImageOptions(Options):
    """How images are read."""

    batch_size: PositiveInt = option("images a batch", 8)
    intensity: Intensity = option(INTENSITY, "full", metavar="auto|full|LO,HI")
    max_pixels: PositiveInt = option(MAX_PIXELS, images.MAX_PIXELS, metavar="N")


class TileOptions(Options):
    """Tiles, by which defects are found that are too small at the input's size."""

    tile: TileSide | None = option(
        "predict overlapping tiles of this side in pixels, too, and make maps of the image's own size (default: no)",
        metavar="SIDE",
    )
    overlap: Overlap | None = option("least share of its side that a tile has in common with the next (default: 0.25)")
    tile_scale: Scale | None = option("resize images by this before they are cut into tiles (default: 1)")
    tile_context: bool | None = option("average the tiles' map with the whole image's (default: yes)")

    def mistake(self) -> str | None:
        idle = None if self.tile else self.first_given(TILES)
        return f"--{idle} goes with --tile" if idle else super().mistake()


class ReadingOptions(ImageOptions):
    """How images are read ahead."""

    num_workers: WorkerCount = option(WORKERS, free_cores())


class ClipOptions(Options):
    """The frozen CLIP."""

    model: str | None = option(MODEL.format(DEFAULT_MODEL))
    pretrained: str | None = option("an open_clip tag, or a state dict (.safetensors, .pt); default: the preset's")
    image_size: PositiveInt | None = option("side of the input in pixels; default: the preset's or the model's own")
    features_list: tuple[PositiveInt, ...] | None = option(
        "1-based numbers of the blocks to tap; default: the preset's, or the last of each quarter", metavar="BLOCK"
    )
    fidelity: FidelityName | None = option(FIDELITY.format(CLIP_AD_FIDELITY))


class DeviceOptions(Options):
    """Where the frozen CLIP is run, and in which arithmetic."""

    device: str = option("auto (CUDA where there is one), cpu, cuda or cuda:N", "auto")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "arithmetic of the towers; bf16 and fp16 use autocast; auto is bf16 on devices that compute in it, else fp32",
        "fp32",
    )


class BackboneOptions(ClipOptions, DeviceOptions):
    """The frozen CLIP, and how it is run."""

    compile: bool = flag("compile the image tower, for long runs on CUDA, and SDP+'s losses in training: a minute")


class PromptOptions(Options):
    """The sentences about a class."""

    prompts: str | None = option(PROMPTS.format("those of the data set's domain"))
    cache_dir: Path = option("where sentence embeddings are kept", PROJECT / ".cache")


class PhraseOptions(PromptOptions):
    """What the sentences call a class."""

    obj_name: Text | None = option("call every class this in the prompts, not its phrase")
    phrases: Path | None = option("JSON of what each class is called in the prompts; default: what the list says")


class ClipAdOptions(Options):
    """How SDP and SDP+ sum up the sentences, and smooth the maps."""

    rep_vec: RepVec | None = option("how the sentences of a state become one vector; default: mean")
    dbscan_eps: PositiveFloat | None = option("radius of --rep_vec dbscan; default: the data set's")
    dbscan_min_samples: PositiveInt | None = option("core size of --rep_vec dbscan; default: the data set's")
    smoothing: Sigma | None = option(
        "standard deviation in pixels of the maps' Gaussian filter; default: the data set's, mostly 8"
    )


class AdapterOptions(Options):
    """The form of DP-CLIP's image adapter, which is the checkpoint's where there is one that says it."""

    image_adapt_layers: tuple[NonNegativeInt, ...] | None = option(
        "0-based numbers of the blocks whose output is adapted; default: the first quarter (0 to 5 of ViT-L)",
        metavar="LAYER",
    )
    image_adapt_weight: Share | None = option(
        "share of the adapted tokens in what goes on, from 0 to 1 (default: 0.1)", metavar="WEIGHT"
    )
    relu: bool | None = option("end the projections in a LeakyReLU (default: no)")
    grn: bool | None = option("normalise responses, which purifies channels (default: yes)")
    align_corners: bool | None = option(
        "put the outermost tokens at the image's border, as the authors do, not at their centres (default: yes)"
    )


class DPClipMapOptions(AdapterOptions):
    """How DP-CLIP smooths the maps, beside the form of its adapter."""

    token_smoothing: Sigma | None = option(
        "standard deviation in patch tokens of the maps' Gaussian filter; default: 1, in medicine 1.5, for demo 0.5"
    )


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
        "folder for the results (default: results/METHOD/MODEL/NAME, with several data sets results/METHOD/MODEL)"
    )
    overwrite: bool = flag("replace results of other settings in --save_path, which are refused otherwise")
    resume: bool = flag("go on with the test in --save_path: classes that are done are not computed again")
    skip_broken: bool = flag("leave out images that cannot be read, as a note says, instead of ending the run")
    save_maps: bool = flag("write every anomaly map as maps/<img_path>.npy")
    visualization: bool = flag("write every image beside its map and ground truth to imgs/, some on a contact sheet")
    no_report: bool = flag("leave out report.html, the page of all images, maps, scores and curves")
    submission: bool = flag("write the maps of unlabelled images to submission/, in the form of benchmark.mvtec.com")
    submission_threshold: FiniteFloat | None = option(
        "mark in --submission what exceeds this; default: what 5 %% of the class's normal images do, by their maxima"
    )
    compare_published: bool = flag("write published.md: the measures beside those the method was published with")

    def mistake(self) -> str | None:
        if self.resume and self.overwrite:
            return "--resume goes on with what --overwrite replaces"
        if self.submission_threshold is not None and not self.submission:
            return "--submission_threshold goes with --submission"
        return super().mistake()


class ShotOptions(TileOptions):
    """Normal images of the training split that maps are compared with."""

    shots: tuple[PositiveInt, ...] | None = option(
        "measure with so many remembered of each class, too, for shots.md and results.json", metavar="K"
    )
    seeds: tuple[Seed, ...] | None = option("of --shots: draw them once by each of these (default: 0 1 2)")

    def mistake(self) -> str | None:
        if self.seeds and not self.shots:
            return "--seeds goes with --shots"
        if self.shots and self.tile is not None:
            return "--shots compares patches of whole images: leave out --tile"
        return super().mistake()


class TestOptions(
    DataSetsOptions, ReadingOptions, ShotOptions, BackboneOptions, PhraseOptions, OutputOptions, SeedOptions
):
    """What every test has, beside its method's own options."""


class ExaminationOptions(DataSetOptions, ReadingOptions, TileOptions, BackboneOptions, PhraseOptions, ClipAdOptions):
    """The options of doctor.py: those of the run that is to be examined."""

    dataset: DataSetName | None = option(DATA_SET.format("none, and the installation alone is checked"), **NAME)
    archive: Path | None = option(
        "tell by its SHA-256 which data set's this downloaded archive is; nothing else is done"
    )


def resolve(options: BackboneT, spec: DatasetSpec | None = None, **defaults: Any) -> BackboneT:
    """Give options that were left open the values that preset and data set have under the options' names.

    Args:
        spec: the data set that prompts and maps are for; None to leave them open.
        defaults: what comes before the values of preset and data set, unless it is None.
    """
    options = replace(options, model=options.model or defaults.get("model") or DEFAULT_MODEL)
    preset = find_preset(options.model)
    values: dict[str, Any] = {"fidelity": "corrected", "rep_vec": "mean"}
    if preset is not None:
        options = replace(options, model=preset.model)
        values |= vars(preset) | {"fidelity": preset.clip_ad_fidelity}
    elif options.pretrained is None and defaults.get("pretrained") is None:
        from models.model_config import check_servable, read_config  # which import open_clip, and that takes seconds

        check_servable(options.model, read_config(options.model), options.image_size, options.features_list)
        raise UserError(f"--model {options.model}: say with --pretrained which weights to use")
    if getattr(options, "tile", None) is not None:
        values |= TILES
    if spec is not None:
        values |= vars(spec) | {"prompts": spec.domain, "phrases": None}  # an option's are a file
    values |= {name: value for name, value in defaults.items() if value is not None}
    return replace(options, **{name: values.get(name) for name, value in vars(options).items() if value is None})


def named_backbone(options: BackboneOptions) -> dict[str, str | None]:
    """Model and weights of resolved options as any working folder knows them; None for the preset's own weights."""
    preset, pretrained = find_preset(options.model), options.pretrained
    if preset is not None and preset.pretrained == pretrained:
        pretrained = None
    elif pretrained is not None and Path(pretrained).is_file():
        pretrained = str(Path(pretrained).resolve())
    return {"model": preset_name(options.model), "pretrained": pretrained}
