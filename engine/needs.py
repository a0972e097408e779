"""What a run takes in memory and on the disk, estimated from the model's dimensions before anything is loaded.

B images a batch, of side S; N patches and a class token; t taps; width C and MLP width H of the image tower;
P parameters; n images. Numbers are float32, of 4 bytes; half precision by autocast takes no more.

The estimates leave out Python and its libraries (about 0.8 GiB) and the sentences, which are encoded before the images
and 256 at a time. Attention is taken to be fused, as PyTorch's is on CPUs and GPUs, so that no [T, T] matrix is built.
Tests hold them against what PyTorch is measured to hold for small models, within a factor of 1.5. On a CPU a process
grows by more, mostly once: by 174 MiB for 126 of a batch of 8 of ViT-B-16-plus-240 at 240 px, by 307 MiB for 128 of one
image of ViT-L-14-336 at 518 px.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from models.memory import tokens_kept
from models.model_config import build_clip, check_servable, read_config
from models.weights import quick_gelu_weights

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Dimensions:
    """What of a model decides on its needs, called as above; all needs are in bytes."""

    parameters: int  # P
    width: int  # C
    hidden: int  # H
    patches: int  # N
    image_size: int  # S
    taps: int  # t
    quick_gelu: bool  # whether the activation is QuickGELU

    @property
    def weights(self) -> int:
        """Memory of the model, while it is loaded and after: 4 P.

        A safetensors file is mapped, and those in half precision have up to 2 P beside it until all are converted; the
        system takes back such memory where it is short.
        """
        return FLOAT * self.parameters

    def activations(self, batch_size: int) -> int:
        """Memory of a batch on the device: 4 B ((1 + N) ((2 (t - 1) + 4) C + q H) + 5 S^2).

        The most is alive in the last MLP: both paths' tokens of the taps before it; the residual, the stage's sum, the
        MLP's input and the value-value attention; and the hidden layer q times, 3 for QuickGELU and 2 for GELU.
        Beside them the images, with three channels, and the map before and after smoothing.
        """
        token = (2 * (self.taps - 1) + 4) * self.width + (3 if self.quick_gelu else 2) * self.hidden
        return FLOAT * batch_size * ((1 + self.patches) * token + 5 * self.image_size**2)

    def read_ahead(self, batch_size: int, workers: int) -> int:
        """Memory of the batches that workers hold ready, and of the one in use: 4 (2 workers + 1) B S^2."""
        return (2 * workers + 1) * batch_size * self.image_size**2 * (3 + 1)

    def maps(self, images: int) -> int:
        """Memory of the maps and masks of a class, which are held until it is measured: n S^2 (4 + 1).

        The measures add 8 bytes for each anomalous pixel. Meanwhile those of the next class are made, beside them; with
        several cores small classes are measured at the same time, as many as `HELD_BYTES` allow.
        """
        return images * self.image_size**2 * (FLOAT + 1)

    def tokens(self, images: int) -> int:
        """Disk that the cache of patch tokens takes in half precision, its default: 2 n t N C."""
        return 2 * images * self.taps * self.patches * self.width

    def memory(self, images: int) -> int:
        """Memory on the device that predictions take to remember normal images: 4 n t k C, k of the N patches of each.

        While images are compared, similarities take up to 4 `AT_ONCE` beside it.
        """
        return FLOAT * images * self.taps * tokens_kept(self.patches, images) * self.width


def dimensions_of(
    model: str, pretrained: str, image_size: int | None, features_list: Sequence[int] | None
) -> Dimensions:
    """Build the shapes of a model, and no more, for its dimensions; for the arguments see `load_backbone`.

    QuickGELU, the larger, is assumed where the weights were trained with it, though `Fidelity` may say GELU.
    """
    config = read_config(model)
    image_size, features_list = check_servable(model, config, image_size, features_list)
    tag = None if Path(pretrained).is_file() else pretrained
    quick_gelu = config.get("quick_gelu", False) or quick_gelu_weights(model, tag)[0]
    with torch.device("meta"):
        clip = build_clip(model, config, image_size, quick_gelu=quick_gelu)
    return Dimensions(
        parameters=sum(parameter.numel() for parameter in clip.parameters()),
        width=clip.visual.proj.shape[0],
        hidden=clip.visual.transformer.resblocks[0].mlp.c_fc.out_features,
        patches=clip.visual.grid_size[0] ** 2,
        image_size=image_size,
        taps=len(features_list),
        quick_gelu=quick_gelu,
    )
