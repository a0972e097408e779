"""The memory of normal photographs: made from them, kept in a file beside their calibration, and read again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from datasets.images import ImageSource
from datasets.loader import in_batches, make_loader
from datasets.photographs import Photograph
from datasets.transforms import normalised
from engine.calibration import LEAST, difference
from engine.predicting import Predictor
from models.checkpoints import read_checkpoint, save_checkpoint
from models.memory import NormalMemory, Remembered, digest_of_image, remember
from utils.distributed import shared_out
from utils.errors import UserError
from utils.names import counted

FILE = "memory.pth"  # beside calibration.json


def make_memory(
    predictor: Predictor, pictures: Sequence[ImageSource], place: str, num_workers: int = 0, *, shared: bool = False
) -> NormalMemory:
    """Remember the normal photographs that can be read, which messages call `place`; copies count once.

    The work is `shared` by several processes, or each one's own.
    """
    dataset, options = predictor.dataset(pictures), predictor.options

    def make(indices: range) -> list[tuple[str, Remembered] | None]:
        found = dict.fromkeys(indices)
        batches = in_batches(indices, options.batch_size)
        for batch in make_loader(dataset, batches, num_workers, collate_fn=list):
            images = {index: normalised(one.image) for index, one in batch if isinstance(one, Photograph)}
            if images:  # others are told of when they are calibrated on
                names = [options.object] * len(images)
                tokens = remember(predictor.of_text, torch.stack([*images.values()]), names, of=len(dataset))
                for (index, image), kept in zip(images.items(), tokens, strict=True):
                    found[index] = digest_of_image(image), [tap.cpu() for tap in kept]  # as processes have a GPU each
        return list(found.values())

    made = shared_out(make, len(dataset)) if shared else make(range(len(dataset)))
    by_image = dict(filter(None, made))
    if len(by_image) < LEAST:
        raise UserError(f"{place}: {counted(len(by_image), 'image')}, which is too few: give at least {LEAST}")
    taps = [torch.stack(tap) for tap in zip(*by_image.values(), strict=True)]
    return NormalMemory(taps, list(by_image)).to(predictor.device)


def save_memory(path: Path, memory: NormalMemory, origin: Mapping[str, Any]) -> None:
    """Write a memory, for `read_memory`, with what its tokens depend on."""
    tokens = [tap.cpu() for tap in memory.tokens]
    save_checkpoint(path, {"tokens": tokens, "digests": list(memory.digests), "origin": _of_tokens(origin)})


def read_memory(path: Path, origin: Mapping[str, Any], device: torch.device) -> NormalMemory:
    """Read what `save_memory` wrote beside a calibration, for predictions of the same origin."""
    if not path.is_file():
        raise UserError(f"--normal_memory: there is no {path}, which lies beside a calibration that was made with it")
    content = read_checkpoint(path)
    if content.keys() != {"tokens", "digests", "origin"}:
        raise UserError(f"{path} holds no memory of normal images: make it again with --normal_dir")
    if found := difference(content["origin"], _of_tokens(origin)):
        raise UserError(f"{path} was made with {found}: make it again with --normal_dir")
    return NormalMemory(content["tokens"], content["digests"]).to(device)


def _of_tokens(origin: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in origin.items() if key != "normal_memory"}
