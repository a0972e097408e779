"""The options of the tests: what each method is tested with."""

from pathlib import Path
from typing import Literal

from datasets.registry import Domain
from engine.options import DEFAULT_MODEL, FIDELITY, MODEL, PROMPTS, ClipAdOptions, DPClipMapOptions, TestOptions
from models.fidelity import FidelityName
from models.presets import find_preset
from models.representative import RepVec
from utils.arguments import Options, Seed, option, required

Baseline = Literal["plain", "text"]
Part = Literal["surgery", "staging", "redundancy_removal"]
_OF_PATCHES = ("features_list", "shots", "compare_published")
_OF_MAPS = ("smoothing", "tile", "save_maps", "visualization", "submission", "legacy_pro")
IDLE = {"plain": _OF_PATCHES, "text": _OF_PATCHES + _OF_MAPS}  # options that a baseline has no use for


class VariantOptions(Options):
    """What is tested in the place of SDP as it is (docs/baselines.md)."""

    baseline: Baseline | None = option(
        "plain: CLIP's own patch tokens of the last block, by cosine and softmax; text: image probabilities, no maps"
    )
    without: tuple[Part, ...] | None = option(
        "leave out surgery (the value-value path: taps are the ViT's own tokens), staging (one sum over all blocks) or "
        "redundancy_removal (the mean of both texts' scores stays in)",
        metavar="PART",
    )


class SDPOptions(TestOptions, VariantOptions, ClipAdOptions):
    """What SDP is tested with."""

    def mistake(self) -> str | None:
        preset, without = find_preset(self.model or DEFAULT_MODEL), self.without or ()
        fidelity = self.fidelity or (preset and preset.clip_ad_fidelity)
        if self.baseline and without:
            return f"--without leaves out a part of SDP, which --baseline {self.baseline} is not: give one of them"
        if {"surgery", "staging"} <= {*without}:
            return "--without surgery leaves no sum that has stages: leave out staging"
        if "staging" in without and fidelity == "released":
            return "--without staging: in released fidelity all taps would be one sum; give --fidelity corrected"
        idle = ("shots", "compare_published") if without else IDLE.get(self.baseline, ())
        if given := self.first_given(idle):
            variant = f"--baseline {self.baseline}" if self.baseline else "--without"
            return f"--{given} does not go with {variant}, see docs/baselines.md"
        return super().mistake()


class SDPPlusOptions(TestOptions, ClipAdOptions):
    """What SDP+ is tested with."""

    checkpoint: tuple[Path, ...] = required(
        "trained adapters, of train_sdp_plus.py, of the authors, or safetensors; or a training's folder, for its last "
        "epoch, by all of its seeds: one for all data sets or one for each",
        metavar="FILE",
    )
    model: str | None = option(MODEL.format(f"the checkpoint's, else {DEFAULT_MODEL}"))
    prompts: str | None = option(PROMPTS.format("the checkpoint's, else those of the data set's domain"))
    rep_vec: RepVec | None = option("how a state's sentences become one vector; default: the checkpoint's, else mean")
    fidelity: FidelityName | None = option(FIDELITY.format("the checkpoint's"))


class DPClipOptions(TestOptions, DPClipMapOptions):
    """What DP-CLIP is tested with."""

    checkpoint: tuple[Path, ...] = required(
        "image adapters, of train_dp_clip.py or of the authors; several epochs of one give a curve; or a training's "
        "folder, for its last epoch, by all of its seeds",
        metavar="FILE",
    )
    domain: Domain | None = option("how maps are smoothed and images scored; default: by the data set")
    model: str | None = option(MODEL.format(f"the checkpoint's, else {DEFAULT_MODEL}"))
    fidelity: FidelityName | None = option(FIDELITY.format("the checkpoint's"))
    prompts: str | None = option(PROMPTS.format("the checkpoint's, else dp_clip"))
    seed: Seed = 111
