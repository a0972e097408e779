"""Where training gets its patch tokens from: the cache, or the backbone in each epoch anew."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from datasets.image_set import ImageSet
from datasets.loader import AnomalyDataset, in_batches, make_loader
from engine.options import SDPPlusTrainingOptions
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.token_cache import GIB, TokenCache, encode_patch_tokens
from utils.distributed import barrier, local_rank, local_world_size, rank, shared_out, world_size
from utils.files import sha256_of
from utils.runtime import progress

logger = logging.getLogger(__name__)

READERS = 4  # threads that read files


@dataclass(frozen=True)
class TokenBatch:
    """What one training step needs."""

    tokens: Tensor  # patch tokens of each tap, float32 [taps, B, N, C]
    masks: Tensor  # ground truth, bool [B, S, S]
    indices: list[int]  # which images they are


@dataclass(frozen=True)
class EncodedTokens:
    """Tokens that the backbone computes when they are asked for."""

    backbone: Backbone
    fidelity: Fidelity
    images: Sequence[ImageSet]
    num_workers: int

    def batches(self, order: Sequence[int], batch_size: int) -> Iterator[TokenBatch]:
        """The images with the indices `order`, on the backbone's device."""
        device, size = self.backbone.device, self.backbone.image_size
        dataset = ConcatDataset(AnomalyDataset(part, size) for part in self.images)
        batches = in_batches(order, batch_size)
        loader = make_loader(dataset, batches, self.num_workers, pin_memory=device.type == "cuda")
        for indices, batch in zip(batches, loader, strict=True):
            tokens = encode_patch_tokens(self.backbone, batch.images.to(device, non_blocking=True), self.fidelity)
            yield TokenBatch(tokens.transpose(0, 1).clone(), batch.masks.to(device), list(indices))

    def fill(self, cache: TokenCache, digests: Sequence[str], batch_size: int, part: int, parts: int) -> None:
        """Encode what the cache lacks; of several parts, one, which depends on nothing but the images."""
        missing = set(cache.missing(digests))
        if not missing:
            logger.info("the patch tokens of all %d images are in %s", len(digests), cache.folder)
            return
        logger.info("%s", cache.reserve(len(missing)))
        first = {digest: i for i, digest in reversed(list(enumerate(digests))) if digest in missing}
        own = sorted(index for digest, index in first.items() if int(digest, 16) % parts == part)
        with progress(total=len(own), unit="image", desc="encoding") as bar:
            for batch in self.batches(own, batch_size):
                for position, index in enumerate(batch.indices):
                    cache.write(digests[index], batch.tokens[:, position])
                bar.update(len(batch.indices))


@dataclass(frozen=True)
class CachedTokens:
    """Tokens from the cache, the next batch read while the last is worked on."""

    backbone: Backbone
    read: Callable[[str], np.ndarray]  # gives the tokens [taps, N, C] of an image with this SHA-256
    digests: Sequence[str]  # SHA-256 of each image, n of them
    masks: np.ndarray  # their ground truth, packed, uint8 [n, S * S / 8]

    def batches(self, order: Sequence[int], batch_size: int) -> Iterator[TokenBatch]:
        """The images with the indices `order`, on the backbone's device."""
        device = self.backbone.device
        parts = in_batches(list(order), batch_size)
        with ThreadPoolExecutor(1) as reader:
            following = [reader.submit(self._gather, part) for part in parts[:1]]
            for number, part in enumerate(parts, start=1):
                tokens, masks = following.pop().result()
                following += [reader.submit(self._gather, upcoming) for upcoming in parts[number : number + 1]]
                yield TokenBatch(tokens.to(device, non_blocking=True).float(), masks.to(device), part)

    def _gather(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokens [taps, B, N, C] as they are stored and masks [B, S, S] of some images."""
        size = self.backbone.image_size
        tokens = torch.from_numpy(np.stack([self.read(self.digests[i]) for i in indices], axis=1))
        bits = np.unpackbits(self.masks[list(indices)], axis=1, count=size * size)
        masks = torch.from_numpy(bits).view(-1, size, size).bool()
        return (tokens.pin_memory() if self.backbone.device.type == "cuda" else tokens), masks


TokenSource = EncodedTokens | CachedTokens


def token_source(
    options: SDPPlusTrainingOptions, backbone: Backbone, fidelity: Fidelity, images: Sequence[ImageSet]
) -> TokenSource:
    """Where the options say that tokens come from; those that the cache lacks are encoded now."""
    encoded = EncodedTokens(backbone, fidelity, images, options.num_workers)
    if options.no_cache:
        return encoded
    cache = TokenCache(options.cache_dir / "tokens", backbone, fidelity, options.cache_precision)
    digests, masks = _fingerprints_and_masks(images, backbone.image_size)
    # All processes share the work, and then those of a machine what its own disk still lacks.
    for part in dict.fromkeys([(rank(), world_size()), (local_rank(), local_world_size())]):
        encoded.fill(cache, digests, options.batch_size, *part)
        barrier()
    read = cache.read
    if len(set(digests)) * cache.image_bytes * local_world_size() <= options.cache_memory * GIB:
        read = {digest: np.array(cache.read(digest)) for digest in set(digests)}.__getitem__
    return CachedTokens(backbone, read, digests, masks)


def _fingerprints_and_masks(images: Sequence[ImageSet], size: int) -> tuple[list[str], np.ndarray]:
    """SHA-256 of every image's file, and its ground truth at the input's size, packed to bits [n, S * S / 8]."""
    entries = [(part, entry) for part in images for entry in part.entries]

    def read(index: int) -> tuple[str, np.ndarray]:
        part, entry = entries[index]
        mask = part.read_mask(entry, (size, size))
        return sha256_of(part.root / entry.img_path), np.packbits(mask.numpy())

    def read_all(indices: Sequence[int]) -> list[tuple[str, np.ndarray]]:
        with ThreadPoolExecutor(READERS) as readers:
            return list(progress(readers.map(read, indices), total=len(indices), unit="image", desc="masks"))

    digests, masks = zip(*shared_out(read_all, len(entries)), strict=True)
    return list(digests), np.stack(masks)
