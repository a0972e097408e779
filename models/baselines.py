"""What SDP is held against: plain CLIP, its patch tokens compared with the text, and an image's probability alone.

Both are SDP's code with other tokens or scores, so that text features, upsampling, smoothing and measures are the same.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from models.dual_path import Tap
from models.sdp import IMAGE_TEMPERATURE, SDP


def patch_probabilities(taps: Sequence[Tap], text: Tensor) -> Tensor:
    """Probability [B, N] that a patch is anomalous, by the cosines of the last tap's tokens with text [B, D, 2].

    With CLIP's temperature, as the image's probability.
    """
    tokens = F.normalize(taps[-1].surgery[:, 1:].float(), dim=-1)  # [B, N, D]
    return (IMAGE_TEMPERATURE * tokens @ text).softmax(dim=-1)[..., 1]


class TextAlone(SDP):
    """SDP's `text_prob` without a map: those it gives are 0 throughout."""

    no_maps: ClassVar[str] = "the image's probability alone is measured, and there are no maps"

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        """Image scores of one class: the probabilities as they are."""
        return text_prob


def no_scores(taps: Sequence[Tap], text: Tensor) -> Tensor:
    """Zeros [B, N], a score for each patch."""
    return taps[-1].surgery.new_zeros(taps[-1].surgery[:, 1:, 0].shape).float()
