"""Where training gets its patch tokens from: the cache, which holds each image encoded once, or the backbone itself."""

import logging
import math
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import open_clip
import PIL
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from datasets.image_set import ImageSet
from datasets.loader import AnomalyDataset, in_batches, make_loader
from datasets.meta import Entry
from datasets.transforms import normalised
from engine.training_options import SDPPlusTrainingOptions
from engine.training_sets import for_each_image
from models.backbone import Backbone
from models.dual_path import encode_dual_path
from models.fidelity import Fidelity
from utils.checked_arrays import digest_of, has_array, read_array, write_array
from utils.distributed import barrier, local_rank, local_world_size, rank, world_size
from utils.errors import UserError
from utils.files import remove_abandoned
from utils.runtime import progress

logger = logging.getLogger(__name__)

GIB = 1 << 30
DTYPES = {"fp16": np.float16, "fp32": np.float32}
SPARE = 0.02  # share of a disk that is left free

Reader = Callable[[int], np.ndarray]  # index of an image -> its tokens [taps, N, C] as they are stored


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
        """List the images, by their SHA-256, that have no tokens yet; each once."""
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
                f"{text}: too few; name another disk with --cache_dir, or encode in each epoch with --no_cache"
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
        """Read an image's tokens [taps, N, C]; a `UserError` if they are gone, or damaged and so removed."""
        path = self._path(digest)
        tokens = read_array(path, self.shape, self.dtype)
        if tokens is None:
            path.unlink(missing_ok=True)
            raise UserError(f"{path} is gone or damaged; start again to rebuild it")
        return tokens

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.safetensors"


class TokenBatch(NamedTuple):
    """What one training step needs."""

    tokens: Tensor  # patch tokens of each tap, float32 [taps, B, N, C]
    masks: Tensor  # ground truth, bool [B, S, S]
    indices: list[int]  # which images they are


TokenSource = Callable[[Sequence[int]], Iterator[TokenBatch]]  # indices of images -> them in batches, on the device


def token_source(
    options: SDPPlusTrainingOptions,
    backbone: Backbone,
    fidelity: Fidelity,
    images: Sequence[ImageSet],
    digests: Sequence[str],
) -> TokenSource:
    """Choose where tokens come from by the options; those that the cache lacks are encoded now.

    `digests` are the SHA-256 of all images' files.
    """
    dataset = ConcatDataset(AnomalyDataset(part, backbone.image_size) for part in images)
    encode = partial(_encode, options, backbone, fidelity, dataset)
    if options.no_cache:
        return encode
    cache = TokenCache(options.cache_dir / "tokens", backbone, fidelity, options.cache_precision)
    side, sets = backbone.image_size, [part for part in images for _ in part.entries]
    digests = [
        one if part.intensity is None else digest_of([one, part.intensity])
        for one, part in zip(digests, sets, strict=True)
    ]

    def packed_mask(part: ImageSet, entry: Entry) -> np.ndarray:
        return np.packbits(part.read_mask(entry, (side, side)).numpy())

    masks = np.stack(for_each_image(packed_mask, images, "masks"))  # uint8 [n, S * S / 8]
    # All processes share the work, and then those of a machine what its own disk still lacks.
    for part in dict.fromkeys([(rank(), world_size()), (local_rank(), local_world_size())]):
        _fill(cache, digests, encode, *part)
        barrier()
    read = cache.read
    if len(set(digests)) * cache.image_bytes * local_world_size() <= options.cache_memory * GIB:
        read = {digest: np.array(cache.read(digest)) for digest in set(digests)}.__getitem__
    return partial(_read_ahead, options, backbone, lambda index: read(digests[index]), masks)


def _encode(
    options: SDPPlusTrainingOptions, backbone: Backbone, fidelity: Fidelity, dataset: Dataset, order: Sequence[int]
) -> Iterator[TokenBatch]:
    """Compute tokens by the backbone."""
    device, batches = backbone.device, in_batches(order, options.batch_size)
    loader = make_loader(dataset, batches, options.num_workers, pin_memory=device.type == "cuda")
    for indices, batch in zip(batches, loader, strict=True):
        tokens = encode_patch_tokens(backbone, normalised(batch.images.to(device, non_blocking=True)), fidelity)
        yield TokenBatch(tokens.transpose(0, 1).clone(), batch.masks.to(device), list(indices))


def _fill(cache: TokenCache, digests: Sequence[str], encode: TokenSource, part: int, parts: int) -> None:
    """Encode what the cache lacks; of several parts, one, which depends on nothing but the images."""
    missing = set(cache.missing(digests))
    if not missing:
        logger.info("the patch tokens of all %d images are in %s", len(digests), cache.folder)
        return
    logger.info("%s", cache.reserve(len(missing)))
    first = {digest: i for i, digest in reversed(list(enumerate(digests))) if digest in missing}
    own = sorted(index for digest, index in first.items() if int(digest, 16) % parts == part)
    with progress(total=len(own), unit="image", desc="encoding") as bar:
        for batch in encode(own):
            for position, index in enumerate(batch.indices):
                cache.write(digests[index], batch.tokens[:, position])
            bar.update(len(batch.indices))


def _read_ahead(
    options: SDPPlusTrainingOptions, backbone: Backbone, read: Reader, packed_masks: np.ndarray, order: Sequence[int]
) -> Iterator[TokenBatch]:
    """Read the next batch of tokens while the last is worked on; masks are uint8 [n, S * S / 8] of all images."""
    device, size = backbone.device, backbone.image_size

    def gather(indices: Sequence[int]) -> TokenBatch:
        """As they are stored, in the memory of the CPU."""
        tokens = torch.from_numpy(np.stack([read(index) for index in indices], axis=1))
        bits = np.unpackbits(packed_masks[list(indices)], axis=1, count=size * size)
        masks = torch.from_numpy(bits).view(-1, size, size).bool()
        return TokenBatch(tokens.pin_memory() if device.type == "cuda" else tokens, masks, list(indices))

    with ThreadPoolExecutor(1) as reader:
        following = None
        for part in [*in_batches(order, options.batch_size), None]:
            current, following = following, part and reader.submit(gather, part)
            if current is not None:
                tokens, masks, indices = current.result()
                yield TokenBatch(tokens.to(device, non_blocking=True).float(), masks.to(device), indices)
