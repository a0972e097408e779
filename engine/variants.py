"""SDP with parts left out, and the baselines that it is held against: methods of test_sdp.py alone."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from engine.detectors import METHODS, Method
from engine.testing_options import Part, SDPOptions
from models.baselines import TextAlone, no_scores, patch_probabilities
from models.dual_path import encode_dual_path, encode_original_path
from models.sdp import SDP, token_scores

PARTS: Mapping[Part, Mapping[str, Any]] = {  # what SDP does without each
    "surgery": {"encode": encode_original_path},
    "staging": {"encode": partial(encode_dual_path, stages=1)},
    "redundancy_removal": {"score": partial(token_scores, redundancy_removal=False)},
}
PLAIN = "baseline: CLIP's patch tokens of the last block, by cosine and softmax; no surgery path, no stages"
TEXT = f"baseline: {TextAlone.no_maps}"


def sdp_variant(options: SDPOptions) -> tuple[str, Method]:
    """Choose what the options ask for: what its folder is called, and SDP or what is tested in its place."""
    sdp = METHODS["sdp"]()
    if options.baseline == "plain":
        settings = {"encode": encode_original_path, "score": patch_probabilities}
        return "baseline_plain", _variant(sdp, "plain CLIP", PLAIN, **settings, last_tap_only=True)
    if options.baseline == "text":
        settings = {"encode": encode_original_path, "score": no_scores}
        return "baseline_text", _variant(
            sdp, "CLIP's text probability", TEXT, TextAlone, **settings, last_tap_only=True
        )
    parts = [part for part in get_args(Part) if part in (options.without or ())]
    if not parts:
        return "sdp", sdp
    settings = {name: value for part in parts for name, value in PARTS[part].items()}
    without = f"SDP without {' and '.join(parts)}".replace("_", " ")
    return f"sdp_without_{'_'.join(parts)}", _variant(sdp, without, f"an ablation: {without}", **settings)


def _variant(
    sdp: Method, name: str, note: str, kind: type[SDP] = SDP, *, last_tap_only: bool = False, **settings: Any
) -> Method:
    """Test a kind of SDP with other settings under a name, with a note below its tables."""
    return replace(
        sdp,
        name=name,
        note=note,
        last_tap_only=last_tap_only,
        detector=lambda options, backbone, fidelity, _, text: kind(
            backbone, text, fidelity, options.smoothing, **settings
        ),
    )
