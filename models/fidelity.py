"""Where the released code and its paper differ: one switch each, and each system's two named settings of them."""

from dataclasses import dataclass
from typing import Literal

FidelityName = Literal["released", "corrected"]
System = Literal["clip_ad", "dp_clip"]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Where to compute what the authors' code does, not what they describe; a switch that is off follows the paper."""

    # CLIP-AD. The released model keeps a block's output by reference, and the next block adds its attention output to
    # it in place. So a tap after block l holds z_l plus the attention output of block l + 1 (but for the last block),
    # its class token included, and a tap inside a stage sees the surgery path summed over the whole stage. Off: a tap
    # holds z_l, and the sum up to its own block.
    taps_share_buffers: bool = False
    # CLIP-AD. OpenAI's weights were trained with QuickGELU. The released code runs them with plain GELU, in both
    # towers, whenever `--image_size` is not the model's own. Off: QuickGELU always.
    gelu_when_resized: bool = False
    # CLIP-AD. The released code trains SDP+ on the images in the order of the meta file, the same in every epoch, so
    # that a batch holds one class. Off: shuffled anew for every epoch, by the seed.
    unshuffled_training: bool = False
    # DP-CLIP. The released code runs OpenAI's weights with plain GELU at every size. Off: QuickGELU.
    gelu_always: bool = False
    # DP-CLIP. The released layer adapters hold tokens as [1+N, B, C], and their response normalisation, written for [B,
    # N, C], takes its norm over the images of a batch, so that a prediction depends on what else is in the batch. Off:
    # over the tokens of each image.
    grn_over_batch: bool = False
    # DP-CLIP. The released training resumes the adapters and the optimiser only; prototypes and the learning rate's
    # schedule start anew. Off: they go on where they were.
    resume_starts_anew: bool = False
    # DP-CLIP. After a batch without both kinds of token, the released training moves the prototypes towards the last
    # means it saw once more. Off: such a batch leaves them.
    repeated_prototype_update: bool = False

    @classmethod
    def named(cls, name: FidelityName, system: System = "clip_ad") -> "Fidelity":
        """All switches of a system as its authors' code has them ("released") or as described ("corrected")."""
        switches = {
            "clip_ad": ("taps_share_buffers", "gelu_when_resized", "unshuffled_training"),
            "dp_clip": ("gelu_always", "grn_over_batch", "resume_starts_anew", "repeated_prototype_update"),
        }
        return cls(**dict.fromkeys(switches[system], name == "released"))
