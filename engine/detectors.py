"""The methods, each with one entry: its own options, and how its detector is made from a backbone and a checkpoint.

A method's modules are imported when it is loaded, so that its name and options are known to `--help` at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.registry import DatasetSpec
from engine.options import AdapterOptions, ClipAdOptions
from models.fidelity import Fidelity, FidelityName, System
from utils.arguments import Options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.adapter_checkpoint import AdapterCheckpoint
    from models.backbone import Backbone
    from utils.evaluation_types import Detector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a method's detector is made; all options here are resolved."""

    name: str  # in results
    # (options, backbone, class -> phrase) -> class -> columns normal and anomalous [D, 2]
    text_features: Callable[[Any, Backbone, Mapping[str, str]], dict[str, Tensor]]
    # (options, backbone, fidelity, trained parts or None, text features) -> the detector
    detector: Callable[[Any, Backbone, Fidelity, nn.Module | None, Mapping[str, Tensor]], Detector]
    # (options, trained parts) -> what its scores depend on beside backbone and prompts, as JSON has it
    record: Callable[[Any, nn.Module | None], dict[str, Any]]
    system: System = "clip_ad"  # whose switches of fidelity it has
    described: bool = False  # whether classes are called by DP-CLIP's phrases
    # data set -> values for options that were left open, before the data set's own
    defaults: Callable[[DatasetSpec], dict[str, Any]] = lambda spec: {}
    # file -> its trained parts; None where nothing is trained
    read: Callable[[Path], AdapterCheckpoint] | None = None
    # (what `read` gave, options, backbone, fidelity) -> the trained parts for that backbone
    load: Callable[[AdapterCheckpoint, Any, Backbone, Fidelity], nn.Module] | None = None


def _sdp() -> Method:
    from engine.loading import clip_ad_text_features
    from models.sdp import SDP

    return Method(
        name="SDP",
        text_features=clip_ad_text_features,
        detector=lambda options, backbone, fidelity, _, text: SDP(backbone, text, fidelity, options.smoothing),
        record=_clip_ad_record,
    )


def _sdp_plus() -> Method:
    from engine.loading import clip_ad_text_features
    from models.adapter_checkpoint import SDP_PLUS, load_adapters, read_adapters
    from models.sdp_plus import SDPPlus, adapters_for

    return Method(
        name=SDP_PLUS,
        text_features=clip_ad_text_features,
        detector=lambda options, backbone, fidelity, adapters, text: SDPPlus(
            backbone, text, fidelity, options.smoothing, adapters
        ),
        record=_clip_ad_record,
        defaults=lambda spec: {"smoothing": spec.smoothing_sdp_plus},
        read=lambda path: read_adapters(path, SDP_PLUS),
        load=lambda checkpoint, _, backbone, __: load_adapters(checkpoint, adapters_for(backbone), backbone),
    )


def _clip_ad_record(options: Any, trained: nn.Module | None) -> dict[str, Any]:
    dbscan = [options.dbscan_eps, options.dbscan_min_samples]
    return {"smoothing": options.smoothing, "rep_vec": options.rep_vec, "dbscan": dbscan}


def _dp_clip() -> Method:
    from engine.loading import adapter_settings, dp_clip_text_features
    from models.adapter_checkpoint import DP_CLIP, load_adapters, read_adapters, settings_record
    from models.dp_clip import DPClip, image_adapter_for

    return Method(
        name=DP_CLIP,
        text_features=dp_clip_text_features,
        detector=lambda options, backbone, _, adapter, text: DPClip(backbone, adapter, text, options.domain),
        record=lambda options, adapter: {"domain": options.domain} | settings_record(adapter.settings),
        system="dp_clip",
        described=True,
        defaults=lambda spec: {"prompts": "dp_clip"},
        read=lambda path: read_adapters(path, DP_CLIP),
        load=lambda checkpoint, options, backbone, fidelity: load_adapters(
            checkpoint, image_adapter_for(backbone, adapter_settings(options, backbone, fidelity, checkpoint)), backbone
        ),
    )


@dataclass(frozen=True)
class Entry:
    """What imports a method, and its own options, which predict.py has as well but refuses with other methods."""

    load: Callable[[], Method]
    options: type[Options] | None = None


METHODS: Mapping[str, Entry] = {
    "sdp": Entry(_sdp, ClipAdOptions),
    "sdp_plus": Entry(_sdp_plus, ClipAdOptions),
    "dp_clip": Entry(_dp_clip, AdapterOptions),
}
METHOD_OPTIONS = tuple(dict.fromkeys(entry.options for entry in METHODS.values() if entry.options is not None))


def idle_option(options: Options, method: str) -> str | None:
    """The name of an option that was given and that other methods alone have; None if there is none."""
    others = (field for kind in METHOD_OPTIONS if kind is not METHODS[method].options for field in fields(kind))
    return next((field.name for field in others if getattr(options, field.name) != field.default), None)


def warn_of_differences(checkpoint: AdapterCheckpoint, backbone: Backbone, fidelity: FidelityName) -> None:
    """Warn where a backbone or a fidelity is not that of a checkpoint's training."""
    from models.adapter_checkpoint import mismatches

    for mismatch in mismatches(checkpoint, backbone):
        logger.warning("%s", mismatch)
    if fidelity != checkpoint.fidelity:
        logger.warning("%s was trained in %s fidelity", checkpoint.path, checkpoint.fidelity)
