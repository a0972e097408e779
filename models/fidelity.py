"""Where the released code and its paper differ: one switch each, two named settings of all of them."""

from dataclasses import dataclass
from typing import Literal

FidelityName = Literal["released", "corrected"]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What to compute where the CLIP-AD authors' code departs from what they describe.

    Attributes:
        taps_share_buffers: the released model keeps a block's output by reference, and the next block adds its
            attention output to it in place. So a tap after block l holds z_l plus the attention output of block
            l + 1 (but for the last block), its class token included, and a tap inside a stage sees the surgery
            path summed over the whole stage. Off: a tap holds z_l, and the sum up to its own block.
        gelu_when_resized: OpenAI's weights were trained with QuickGELU. The released code runs them with plain
            GELU, in both towers, whenever `--image_size` is not the model's own. Off: QuickGELU always.
        unshuffled_training: the released code trains SDP+ on the images in the order of the meta file, the same
            in every epoch, so that a batch holds one class. Off: shuffled anew for every epoch, by the seed.
    """

    taps_share_buffers: bool
    gelu_when_resized: bool
    unshuffled_training: bool

    @classmethod
    def named(cls, name: FidelityName) -> "Fidelity":
        """All switches as the authors' code has them ("released") or as described ("corrected")."""
        released = name == "released"
        return cls(taps_share_buffers=released, gelu_when_resized=released, unshuffled_training=released)
