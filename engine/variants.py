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
BASELINES = {  # name, note below its tables, kind of detector, and scores
    "plain": ("plain CLIP", PLAIN, SDP, patch_probabilities),
    "text": ("CLIP's text probability", f"baseline: {TextAlone.no_maps}", TextAlone, no_scores),
}


def sdp_variant(options: SDPOptions) -> tuple[str, Method]:
    """Choose what the options ask for: what its folder is called, and SDP or what is tested in its place."""
    sdp, kind = METHODS["sdp"](), SDP
    parts = [part for part in get_args(Part) if part in (options.without or ())]
    if options.baseline is not None:
        key, (name, note, kind, score) = f"baseline_{options.baseline}", BASELINES[options.baseline]
        settings = {"encode": encode_original_path, "score": score}
    elif parts:
        key, name = f"sdp_without_{'_'.join(parts)}", f"SDP without {' and '.join(parts)}".replace("_", " ")
        note, settings = f"an ablation: {name}", {one: value for part in parts for one, value in PARTS[part].items()}
    else:
        return "sdp", sdp

    def detector(options, backbone, fidelity, _, text) -> SDP:  # see `Method`
        return kind(backbone, text, fidelity, options.smoothing, **settings)

    last_tap_only = options.baseline is not None
    return key, replace(sdp, name=name, note=note, last_tap_only=last_tap_only, detector=detector)
