"""The methods, each with one entry: how its detector is made from a backbone and a checkpoint; and its own options.

A method's modules are imported when its entry is called, so that its name and options are known to `--help` at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.registry import DatasetSpec
from engine.options import ClipAdOptions, DPClipMapOptions, PhraseOptions, resolve
from models.fidelity import Fidelity, System

if TYPE_CHECKING:
    from torch import Tensor, nn

    from datasets.image_set import ImageSet
    from models.adapter_checkpoint import AdapterCheckpoint
    from models.backbone import Backbone
    from utils.evaluation_types import Detector


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
    note: str | None = None  # what stands below its tables, of what is not a method of its own
    last_tap_only: bool = False  # whether the backbone is tapped after its last block alone
    takes_epochs: bool = False  # whether several checkpoints are epochs of one training, not one for each data set
    # file -> its trained parts; None where nothing is trained
    read: Callable[[Path], AdapterCheckpoint] | None = None
    # (what `read` gave, options, backbone, fidelity) -> the trained parts for that backbone
    load: Callable[[AdapterCheckpoint, Any, Backbone, Fidelity], nn.Module] | None = None

    def class_texts(self, options: PhraseOptions, backbone: Backbone, images: ImageSet) -> dict[str, Tensor]:
        """Compute text features [D, 2] of a data set's classes, by its own defaults where the options are silent."""
        own = resolve(options, images.spec, **self.defaults(images.spec))
        return self.text_features(own, backbone, images.phrases(described=self.described, called=options.obj_name))


def _sdp() -> Method:
    from engine.loading import text_features
    from models.representative import RepVecChoice
    from models.sdp import SDP

    return Method(
        name="SDP",
        text_features=lambda options, backbone, phrases: text_features(
            options, backbone, phrases, RepVecChoice(options.rep_vec, options.dbscan_eps, options.dbscan_min_samples)
        ),
        detector=lambda options, backbone, fidelity, adapters, text: SDP(
            backbone, text, fidelity, options.smoothing, adapters
        ),
        record=lambda options, _: {
            "smoothing": options.smoothing,
            "rep_vec": options.rep_vec,
            "dbscan": [options.dbscan_eps, options.dbscan_min_samples],
        },
    )


def _sdp_plus() -> Method:
    from models.adapter_checkpoint import SDP_PLUS, load_adapters, read_adapters
    from models.sdp import adapters_for

    return replace(
        _sdp(),
        name=SDP_PLUS,
        defaults=lambda spec: {"smoothing": spec.smoothing_sdp_plus},
        read=lambda path: read_adapters(path, SDP_PLUS),
        load=lambda checkpoint, _, backbone, __: load_adapters(checkpoint, adapters_for(backbone), backbone),
    )


def _dp_clip() -> Method:
    from engine.loading import adapter_settings, text_features
    from models.adapter_checkpoint import DP_CLIP, load_adapters, read_adapters
    from models.dp_clip import DPClip, image_adapter_for
    from models.representative import RepVecChoice

    return Method(
        name=DP_CLIP,
        text_features=lambda options, backbone, phrases: text_features(  # in float32, whatever the image tower is in
            options, replace(backbone, precision="fp32"), phrases, RepVecChoice("mean")
        ),
        detector=lambda options, backbone, _, adapter, text: DPClip(
            backbone, adapter, text, options.domain, options.token_smoothing
        ),
        record=lambda options, adapter: {
            "domain": options.domain,
            **({} if options.token_smoothing is None else {"token_smoothing": options.token_smoothing}),
            **adapter.settings.record,
        },
        system="dp_clip",
        described=True,
        takes_epochs=True,
        defaults=lambda spec: {"prompts": "dp_clip"},
        read=lambda path: read_adapters(path, DP_CLIP),
        load=lambda checkpoint, options, backbone, fidelity: load_adapters(
            checkpoint, image_adapter_for(backbone, adapter_settings(options, backbone, fidelity, checkpoint)), backbone
        ),
    )


METHODS: Mapping[str, Callable[[], Method]] = {"sdp": _sdp, "sdp_plus": _sdp_plus, "dp_clip": _dp_clip}
# The methods' own options, which predict.py has as well but refuses with other methods.
METHOD_OPTIONS = {"sdp": ClipAdOptions, "sdp_plus": ClipAdOptions, "dp_clip": DPClipMapOptions}
