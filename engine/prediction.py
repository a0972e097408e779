"""Photographs through a detector, one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.loader import in_batches, make_loader
from datasets.photographs import Photograph, PhotographDataset
from engine.options import ReadingOptions
from models.backbone import Backbone
from utils.distributed import in_turn, is_main, rank, world_size
from utils.errors import UserError
from utils.evaluation_types import Detector


@dataclass(frozen=True)
class Seen:
    """A photograph and what a detector says of it.

    Attributes:
        index: which of the photographs it is.
        photograph: as the model took it.
        anomaly_map: float32 [S, S].
        text_prob: in [0, 1].
    """

    index: int
    photograph: Photograph
    anomaly_map: np.ndarray
    text_prob: float

    @property
    def map_max(self) -> float:
        """The map's maximum."""
        return float(self.anomaly_map.max())


@dataclass(frozen=True)
class Unread:
    """A photograph that could not be predicted, and why."""

    index: int
    reason: str


def predict_photographs(
    detector: Detector,
    backbone: Backbone,
    name: str,
    paths: Sequence[Path],
    order: Sequence[int],
    reading: ReadingOptions,
    description: str,
) -> Iterator[Seen | Unread]:
    """Run a detector over photographs; of several processes each does its share, and the main one is given all.

    Args:
        detector: made from `backbone`.
        name: of the class that the detector knows them as.
        order: indices of those to predict, in the order wanted.
        reading: how many at once, and by how many processes.
        description: of the progress bar.
    """
    dataset = PhotographDataset(paths, backbone.image_size)
    batches = in_batches(order, reading.batch_size)[rank() :: world_size()]
    loader = make_loader(dataset, batches, min(reading.num_workers, len(order)), collate_fn=list)
    predictions = (list(_predict_batch(name, detector, backbone, items)) for items in loader)
    with (
        logging_redirect_tqdm(),
        tqdm(total=len(order), unit="image", desc=description, dynamic_ncols=True, disable=not is_main()) as progress,
    ):
        for batch in in_turn(predictions, UserError):
            yield from batch
            progress.update(len(batch))


def _predict_batch(
    name: str, detector: Detector, backbone: Backbone, items: Sequence[tuple[int, Photograph | UserError]]
) -> Iterator[Seen | Unread]:
    """What the detector says of those that could be read, in the order of all."""
    images = [item.image for _, item in items if isinstance(item, Photograph)]
    maps: Iterator[np.ndarray] = iter(())
    probabilities: Iterator[float] = iter(())
    if images:
        prediction = detector.predict(torch.stack(images).to(backbone.device), [name] * len(images))
        maps = iter(prediction.maps.float().cpu().numpy())
        probabilities = iter(prediction.text_prob.double().cpu().tolist())
    for index, item in items:
        if isinstance(item, UserError):
            yield Unread(index, str(item))
            continue
        anomaly_map, probability = next(maps), next(probabilities)
        if np.isfinite(anomaly_map).all() and np.isfinite(probability):
            yield Seen(index, item, anomaly_map, probability)
        else:
            yield Unread(index, "the anomaly map has values that are not finite; see --precision and the weights")
