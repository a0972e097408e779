"""The options of the tests: what each method is tested with."""

from pathlib import Path

from datasets.registry import Domain
from engine.options import DEFAULT_MODEL, FIDELITY, MODEL, PROMPTS, AdapterOptions, ClipAdOptions, TestOptions
from models.fidelity import FidelityName
from models.representative import RepVec
from utils.arguments import Seed, option, required


class SDPOptions(TestOptions, ClipAdOptions):
    """What SDP is tested with."""


class SDPPlusOptions(TestOptions, ClipAdOptions):
    """What SDP+ is tested with."""

    checkpoint: tuple[Path, ...] = required(
        "trained adapters, of train_sdp_plus.py, of the authors, or safetensors: one for all data sets or one for each",
        metavar="FILE",
    )
    model: str | None = option(MODEL.format(f"the checkpoint's, else {DEFAULT_MODEL}"))
    prompts: str | None = option(PROMPTS.format("the checkpoint's, else those of the data set's domain"))
    rep_vec: RepVec | None = option("how a state's sentences become one vector; default: the checkpoint's, else mean")
    fidelity: FidelityName | None = option(FIDELITY.format("the checkpoint's"))


class DPClipOptions(TestOptions, AdapterOptions):
    """What DP-CLIP is tested with."""

    checkpoint: tuple[Path, ...] = required(
        "image adapters, of train_dp_clip.py or of the authors; several epochs of one give a curve", metavar="FILE"
    )
    domain: Domain | None = option("how maps are smoothed and images scored; default: by the data set")
    model: str | None = option(MODEL.format(f"the checkpoint's, else {DEFAULT_MODEL}"))
    fidelity: FidelityName | None = option(FIDELITY.format("the checkpoint's"))
    prompts: str | None = option(PROMPTS.format("the checkpoint's, else dp_clip"))
    seed: Seed = 111
