"""Where the released code and its paper differ: one switch each, and each system's two named settings of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

FidelityName = Literal["released", "corrected"]
System = Literal["clip_ad", "dp_clip"]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What to compute where the authors' code departs from what they describe; a switch that is off follows the paper.

    Attributes:
        taps_share_buffers: CLIP-AD. The released model keeps a block's output by reference, and the next block adds
            its attention output to it in place. So a tap after block l holds z_l plus the attention output of block
            l + 1 (but for the last block), its class token included, and a tap inside a stage sees the surgery
            path summed over the whole stage. Off: a tap holds z_l, and the sum up to its own block.
        gelu_when_resized: CLIP-AD. OpenAI's weights were trained with QuickGELU. The released code runs them with
            plain GELU, in both towers, whenever `--image_size` is not the model's own. Off: QuickGELU always.
        unshuffled_training: CLIP-AD. The released code trains SDP+ on the images in the order of the meta file, the
            same in every epoch, so that a batch holds one class. Off: shuffled anew for every epoch, by the seed.
        gelu_always: DP-CLIP. The released code runs OpenAI's weights with plain GELU at every size. Off: QuickGELU.
        grn_over_batch: DP-CLIP. The released layer adapters hold tokens as [1+N, B, C], and their response
            normalisation, written for [B, N, C], takes its norm over the images of a batch, so that a prediction
            depends on what else is in the batch. Off: over the tokens of each image.
        resume_starts_anew: DP-CLIP. The released training resumes the adapters and the optimiser only; prototypes
            and the learning rate's schedule start anew. Off: they go on where they were.
        repeated_prototype_update: DP-CLIP. After a batch without both kinds of token, the released training moves
            the prototypes towards the last means it saw once more. Off: such a batch leaves them.
    """

    taps_share_buffers: bool = False
    gelu_when_resized: bool = False
    unshuffled_training: bool = False
    gelu_always: bool = False
    grn_over_batch: bool = False
    resume_starts_anew: bool = False
    repeated_prototype_update: bool = False

    @classmethod
    def named(cls, name: FidelityName, system: System = "clip_ad") -> "Fidelity":
        """All switches of a system as its authors' code has them ("released") or as described ("corrected")."""
        return cls(**dict.fromkeys(_SWITCHES[system], name == "released"))


_SWITCHES: Mapping[System, tuple[str, ...]] = MappingProxyType(
    {
        "clip_ad": ("taps_share_buffers", "gelu_when_resized", "unshuffled_training"),
        "dp_clip": ("gelu_always", "grn_over_batch", "resume_starts_anew", "repeated_prototype_update"),
    }
)
