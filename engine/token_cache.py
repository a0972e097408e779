"""Patch tokens of a frozen tower on the disk: each image is encoded once, whatever is trained on it afterwards."""

import math
import shutil
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
import open_clip
import PIL
import torch
from torch import Tensor

from models.backbone import Backbone
from models.dual_path import encode_dual_path
from models.fidelity import Fidelity
from utils.checked_arrays import digest_of, has_array, read_array, write_array
from utils.errors import UserError
from utils.files import remove_abandoned

GIB = 1 << 30
DTYPES = {"fp16": np.float16, "fp32": np.float32}
SPARE = 0.02  # share of a disk that is left free


@torch.inference_mode()
def encode_patch_tokens(backbone: Backbone, images: Tensor, fidelity: Fidelity) -> Tensor:
    """Patch tokens of the original path at every tap, of normalised images [B, 3, S, S]: float32 [B, taps, N, C]."""
    taps = backbone.run_image_tower(
        encode_dual_path, images, backbone.features_list, shared_buffers=fidelity.taps_share_buffers, with_surgery=False
    )
    return torch.stack([tap.ori[:, 1:] for tap in taps], dim=1).float()


class TokenCache:
    """A file of tokens for each image, called by the image's SHA-256.

    Files appear whole under their names, and the same name always means the same content: a run that was killed
    goes on where it was, and two runs may fill one cache at once. Its folder in `folder`, that of all caches, is named
    after everything that its tokens depend on.
    """

    def __init__(self, folder: Path, backbone: Backbone, fidelity: Fidelity, precision: str) -> None:
        self.dtype = np.dtype(DTYPES[precision])
        width = backbone.clip.visual.proj.shape[0]
        self.shape = (len(backbone.features_list), backbone.grid**2, width)  # taps, N, C
        self.image_bytes = math.prod(self.shape) * self.dtype.itemsize  # that one image's tokens take
        origin = {
            "weights": backbone.weights.sha256,
            "config": backbone.config_sha256,
            "activation": backbone.activation,
            "image_size": backbone.image_size,
            "features_list": backbone.features_list,
            "taps_share_buffers": fidelity.taps_share_buffers,
            "towers": [backbone.precision, backbone.device.type, *["compiled"] * backbone.compile],
            "versions": {"open_clip": open_clip.__version__, "pillow": PIL.__version__, "opencv": cv2.__version__},
            "stored": [precision, "with a digest"],
        }
        self.folder = folder / digest_of(origin)[:32]

    def missing(self, digests: Collection[str]) -> list[str]:
        """Which images, by their SHA-256, have no tokens yet; each is named once."""
        return [one for one in dict.fromkeys(digests) if not has_array(self._path(one), self.shape, self.dtype)]

    def reserve(self, images: int) -> str:
        """Say what the tokens of this many more images take, and refuse a disk that has not as much.

        What runs that were killed did not finish is removed before.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--cache_dir: cannot make {self.folder} ({error.strerror})") from error
        remove_abandoned(self.folder.iterdir())
        disk = shutil.disk_usage(self.folder)
        needed = images * self.image_bytes
        text = (
            f"the patch tokens of {images} images take {needed / GIB:.2f} GiB in {self.folder}, "
            f"where {disk.free / GIB:.2f} GiB are free"
        )
        if needed > disk.free - SPARE * disk.total:
            raise UserError(
                f"{text}: too few; name another disk with --cache_dir, or encode anew in each epoch with --no_cache"
            )
        return text

    def write(self, digest: str, tokens: Tensor) -> None:
        """Keep an image's tokens [taps, N, C]; a `UserError` if they do not fit the precision, or the disk."""
        values = tokens.cpu().numpy()
        largest = np.abs(values).max()
        if not np.isfinite(largest):
            raise UserError("the backbone gave patch tokens that are not finite; check its weights and --precision")
        if largest > np.finfo(self.dtype).max:
            raise UserError(f"patch tokens up to {largest:g} do not fit half precision; use --cache_precision fp32")
        write_array(self._path(digest), values.astype(self.dtype))

    def read(self, digest: str) -> np.ndarray:
        """An image's tokens [taps, N, C]; a `UserError` if they are gone or damaged, and what is damaged is removed."""
        path = self._path(digest)
        tokens = read_array(path, self.shape, self.dtype)
        if tokens is None:
            path.unlink(missing_ok=True)
            raise UserError(f"{path} is gone or damaged; start again, and it is made anew")
        return tokens

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.safetensors"
