"""Where training gets its patch tokens from: the cache, or the backbone in each epoch anew."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.loader import in_batches, make_loader
from engine.training_data import TrainingSet
from engine.training_options import SDPPlusTrainingOptions
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.token_cache import GIB, TokenCache, encode_patch_tokens
from utils.distributed import barrier, is_main, local_rank, local_world_size, rank, shared_out, world_size
from utils.files import sha256_of

logger = logging.getLogger(__name__)

READERS = 4  # threads that read files


@dataclass(frozen=True)
class TokenBatch:
    """What one training step needs.

    Attributes:
        tokens: patch tokens of each tap, float32 [taps, B, N, C].
        masks: ground truth, bool [B, S, S].
        indices: which images they are.
    """

    tokens: Tensor
    masks: Tensor
    indices: list[int]


class TokenSource(Protocol):
    """Gives the batches of an epoch."""

    def batches(self, order: Sequence[int], batch_size: int) -> Iterator[TokenBatch]:
        """The images with the indices `order`, on the backbone's device."""


def token_source(
    options: SDPPlusTrainingOptions, backbone: Backbone, fidelity: Fidelity, images: TrainingSet
) -> TokenSource:
    """Where the options say that tokens come from; those that the cache lacks are encoded now.

    Raises:
        UserError: an image or a mask cannot be read, or the cache cannot be written.
    """
    encoded = EncodedTokens(backbone, fidelity, images, options.num_workers)
    if options.no_cache:
        return encoded
    cache = TokenCache(options.cache_dir / "tokens", backbone, fidelity, options.cache_precision)
    digests, masks = _fingerprints_and_masks(images, backbone.image_size)
    # All processes share the work, and then those of a machine what its own disk still lacks.
    for part in dict.fromkeys([(rank(), world_size()), (local_rank(), local_world_size())]):
        _fill(cache, digests, encoded, options.batch_size, *part)
        barrier()
    in_memory = len(set(digests)) * cache.image_bytes * local_world_size() <= options.cache_memory * GIB
    return CachedTokens(cache, digests, masks, backbone, in_memory=in_memory)


def _fill(
    cache: TokenCache, digests: Sequence[str], source: TokenSource, batch_size: int, part: int, parts: int
) -> None:
    """Encode what the cache lacks; of several parts, one, which depends on nothing but the images."""
    missing = set(cache.missing(digests))
    if not missing:
        logger.info("the patch tokens of all %d images are in %s", len(digests), cache.folder)
        return
    logger.info("%s", cache.reserve(len(missing)))
    first = {digest: i for i, digest in reversed(list(enumerate(digests))) if digest in missing}
    own = sorted(index for digest, index in first.items() if int(digest, 16) % parts == part)
    with tqdm(total=len(own), unit="image", desc="encoding", dynamic_ncols=True, disable=not is_main()) as progress:
        for batch in source.batches(own, batch_size):
            for position, index in enumerate(batch.indices):
                cache.write(digests[index], batch.tokens[:, position])
            progress.update(len(batch.indices))


class EncodedTokens:
    """Tokens that the backbone computes when they are asked for."""

    def __init__(self, backbone: Backbone, fidelity: Fidelity, images: TrainingSet, num_workers: int) -> None:
        self.backbone = backbone
        self.fidelity = fidelity
        self.dataset = images.dataset(backbone.image_size)
        self.num_workers = num_workers

    def batches(self, order: Sequence[int], batch_size: int) -> Iterator[TokenBatch]:
        """See `TokenSource`."""
        device = self.backbone.device
        batches = in_batches(order, batch_size)
        loader = make_loader(self.dataset, batches, self.num_workers, pin_memory=device.type == "cuda")
        for indices, batch in zip(batches, loader, strict=True):
            tokens = encode_patch_tokens(self.backbone, batch.images.to(device, non_blocking=True), self.fidelity)
            yield TokenBatch(tokens.transpose(0, 1).clone(), batch.masks.to(device), list(indices))


class CachedTokens:
    """Tokens from the cache, the next batch read while the last is worked on.

    Args:
        cache: with the tokens of every image.
        digests: SHA-256 of each image, n of them.
        masks: their ground truth, packed, uint8 [n, S * S / 8].
        in_memory: read every file once, and hold the tokens.
    """

    def __init__(
        self, cache: TokenCache, digests: Sequence[str], masks: np.ndarray, backbone: Backbone, *, in_memory: bool
    ) -> None:
        self.digests = digests
        self.masks = masks
        self.backbone = backbone
        self.read = cache.read
        if in_memory:
            held = {digest: np.array(cache.read(digest)) for digest in set(digests)}
            self.read = held.__getitem__

    def batches(self, order: Sequence[int], batch_size: int) -> Iterator[TokenBatch]:
        """See `TokenSource`."""
        parts = in_batches(list(order), batch_size)
        if not parts:
            return
        with ThreadPoolExecutor(1) as reader:
            following = reader.submit(self._gather, parts[0])
            for part, upcoming in zip(parts, [*parts[1:], None], strict=True):
                tokens, masks = following.result()
                if upcoming is not None:
                    following = reader.submit(self._gather, upcoming)
                device = self.backbone.device
                yield TokenBatch(tokens.to(device, non_blocking=True).float(), masks.to(device), part)

    def _gather(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokens [taps, B, N, C] as they are stored and masks [B, S, S] of some images."""
        size = self.backbone.image_size
        tokens = torch.from_numpy(np.stack([self.read(self.digests[i]) for i in indices], axis=1))
        bits = np.unpackbits(self.masks[list(indices)], axis=1, count=size * size)
        masks = torch.from_numpy(bits).view(-1, size, size).bool()
        return (tokens.pin_memory() if self.backbone.device.type == "cuda" else tokens), masks


def _fingerprints_and_masks(images: TrainingSet, image_size: int) -> tuple[list[str], np.ndarray]:
    """SHA-256 of every image's file, and its ground truth at the input's size, packed to bits [n, S * S / 8]."""

    def read(index: int) -> tuple[str, np.ndarray]:
        part, entry = images.place(index)
        mask = part.read_mask(entry, (image_size, image_size))
        return sha256_of(part.root / entry.img_path), np.packbits(mask.numpy())

    def read_all(indices: Sequence[int]) -> list[tuple[str, np.ndarray]]:
        with ThreadPoolExecutor(READERS) as readers:
            return list(
                tqdm(
                    readers.map(read, indices),
                    total=len(indices),
                    unit="image",
                    desc="masks",
                    dynamic_ncols=True,
                    disable=not is_main(),
                )
            )

    results = shared_out(read_all, len(images.entries))
    return [digest for digest, _ in results], np.stack([mask for _, mask in results])
