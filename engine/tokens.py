"""Where training gets its patch tokens from: the cache, or the backbone in each epoch anew."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from datasets.image_set import ImageSet
from datasets.loader import AnomalyDataset, in_batches, make_loader
from datasets.meta import Entry
from engine.fingerprints import for_each_image
from engine.options import SDPPlusTrainingOptions
from engine.token_cache import GIB, TokenCache, encode_patch_tokens
from models.backbone import Backbone
from models.fidelity import Fidelity
from utils.checked_arrays import digest_of
from utils.distributed import barrier, local_rank, local_world_size, rank, world_size
from utils.runtime import progress

logger = logging.getLogger(__name__)

Reader = Callable[[int], np.ndarray]  # index of an image -> its tokens [taps, N, C] as they are stored


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
        tokens = encode_patch_tokens(backbone, batch.images.to(device, non_blocking=True), fidelity)
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
