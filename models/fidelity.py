"""Where the released code and its paper differ: one switch each, and each system's two named settings of them."""

from dataclasses import dataclass
from typing import Literal

FidelityName = Literal["released", "corrected"]
System = Literal["clip_ad", "dp_clip"]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Where to compute what the authors' code does, not what they describe; a switch that is off follows the paper."""

    # CLIP-AD. The next block adds its attention output in place to a block's output, which is kept by reference: a tap
    # after block l, but the last, holds z_l plus the attention output of block l + 1, its class token included, and a
    # tap inside a stage sees the surgery path summed over the whole stage, not up to its own block.
    taps_share_buffers: bool = False
    # CLIP-AD. OpenAI's weights, trained with QuickGELU, run with plain GELU whenever the size is not the model's own.
    gelu_when_resized: bool = False
    # CLIP-AD. SDP+ is trained in the order of the meta file, so that a batch holds one class; not shuffled every epoch.
    unshuffled_training: bool = False
    # DP-CLIP. OpenAI's weights run with plain GELU at every size.
    gelu_always: bool = False
    # DP-CLIP. Layer adapters hold tokens as [1+N, B, C], so that their response normalisation, written for [B, N, C],
    # takes its norm over the images of a batch, and a prediction depends on what else is in it.
    grn_over_batch: bool = False
    # DP-CLIP. Adapters and optimiser alone are resumed; prototypes and the learning rate's schedule start over.
    resume_starts_anew: bool = False
    # DP-CLIP. A batch without both kinds of token moves the prototypes towards the last means once more.
    repeated_prototype_update: bool = False

    @classmethod
    def named(cls, name: FidelityName, system: System = "clip_ad") -> "Fidelity":
        """Set all switches of a system as its authors' code has them ("released") or as described ("corrected")."""
        switches = {
            "clip_ad": ("taps_share_buffers", "gelu_when_resized", "unshuffled_training"),
            "dp_clip": ("gelu_always", "grn_over_batch", "resume_starts_anew", "repeated_prototype_update"),
        }
        return cls(**dict.fromkeys(switches[system], name == "released"))
