"""What predicts photographs of a user's own, and what calibrates on normal ones."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.images import ImageSource, Range
from datasets.loader import in_batches, make_loader
from datasets.photographs import Photograph, PhotographDataset
from datasets.registry import get_spec
from datasets.transforms import normalised
from engine.calibration import IMAGES, LEAST, Calibration, difference
from engine.detectors import METHODS
from engine.loading import (
    Loader,
    as_trained,
    backbone_from_options,
    differences,
    find_device,
    with_precision,
    with_prompts,
    with_trained_prompts,
)
from engine.options import resolve
from engine.origin import describe, made_with, notes_on, tile_settings
from engine.predicted import Prediction
from engine.prediction_options import DetectorOptions
from engine.saved_detectors import SavedDetector
from engine.tiling import Picture, predict_tiled, tiling_of
from models.fidelity import Fidelity
from models.memory import MemoryDetector, NormalMemory
from models.prompts import read_prompts
from utils.distributed import in_turn, rank, world_size
from utils.errors import UserError
from utils.evaluation_types import Prediction as DetectorPrediction
from utils.files import sha256_of
from utils.names import counted
from utils.runtime import float32_convolutions, progress

logger = logging.getLogger(__name__)

NOT_FINITE = "the anomaly map has values that are not finite; see --precision and the weights"
Item = tuple[int, Photograph | UserError]  # which photograph, and it, or why it could not be read
REMEMBERED = "maps have {weight:g} times the distance to {images} normal images, {tokens} patches of each, in them"
Found = tuple[int, Prediction | UserError]  # which photograph, and what is said of it, or why it could not be predicted


class Predictor:
    """The method that options name, and what its scores depend on.

    In released fidelity DP-CLIP's images influence each other within a batch, so they are taken one by one. What a
    `saved` detector brings is not read or computed again, and its scores must depend on the same.
    """

    calibration: Calibration | None = None  # that an exported model brings
    versions: Mapping[str, str] = {}  # of what runs it beside PyTorch

    def __init__(
        self,
        options: DetectorOptions,
        intensity: Range | None = None,
        saved: SavedDetector | None = None,
        load: Loader = backbone_from_options,
    ) -> None:
        method = METHODS[options.method]()
        if method.read is None and options.checkpoint is not None:
            raise UserError(f"--method {options.method} takes no --checkpoint; choose another for trained adapters")
        checkpoint = method.read(options.checkpoint) if options.checkpoint is not None else saved and saved.checkpoint
        if method.read is not None and checkpoint is None:
            raise UserError(f"--method {options.method} needs trained adapters: give them with --checkpoint")
        spec = replace(get_spec("folder"), domain=options.domain)
        given = options
        trained = as_trained(checkpoint, options)
        defaults = method.defaults(spec) | {"object": trained.get("obj_name", "object")} | trained
        options = with_trained_prompts(resolve(options, spec, **defaults), checkpoint, given)
        fidelity = Fidelity.named(options.fidelity, method.system)
        if fidelity.grn_over_batch and options.batch_size > 1:
            logger.info("in released fidelity the images of a batch influence each other: they are taken one by one")
            options = replace(options, batch_size=1)
        if saved is not None and saved.record.prompts is not None:
            options = with_prompts(options, saved.record.prompts, saved.path)
        prompts = read_prompts(options.prompts)
        device = find_device(options.device)
        options = with_precision(options, device)
        backbone = load(options, fidelity, device)
        trained = checkpoint and method.load(checkpoint, options, backbone, fidelity)
        if saved is not None:
            text = {options.object: saved.text.to(backbone.device)}
        else:
            text = method.text_features(options, backbone, {options.object: options.object})
            if options.object not in text:
                needed = "has no text features, which a prediction needs"
                raise UserError(f"--method {options.method} {needed}: choose another, or test it on a data set")
        for sentence in differences(checkpoint, backbone, options, given):
            logger.warning("%s", sentence)
        self.options, self.backbone, self.intensity = options, backbone, intensity
        self.device, self.image_size, self.one_by_one = backbone.device, backbone.image_size, fidelity.grn_over_batch
        self.tiling = tiling_of(options)
        self.checkpoint, self.prompts, self.text = checkpoint, prompts, text[options.object]
        described = describe(options, backbone, fidelity, checkpoint)
        self.notes = [made_with(described), *notes_on(spec.name, described)]
        for note in self.notes:
            logger.info("note: %s", note)
        self.memory: NormalMemory | None = None
        self.detector = self.of_text = method.detector(options, backbone, fidelity, trained, text)
        self.origin: dict[str, Any] = {
            "method": options.method,
            "checkpoint_sha256": checkpoint and checkpoint.sha256,
            "weights_sha256": backbone.weights.sha256,
            "config_sha256": backbone.config_sha256,
            "activation": backbone.activation,
            "image_size": backbone.image_size,
            "features_list": list(backbone.features_list),
            "fidelity": options.fidelity,
            "precision": options.precision,
            "prompts_sha256": prompts.sha256,
            "phrases": [options.object],
            "intensity": intensity and list(intensity),
            "normal_memory": None,
            **tile_settings(options),
            **method.record(options, trained),
        }
        if saved is not None and saved.memory is not None:
            self.compare_with(saved.memory.to(backbone.device))
        if saved is not None and (found := difference(saved.record.origin, self.origin)):
            remedy = "it predicts as it did with the same weights and settings alone"
            raise UserError(f"{saved.path} was made with {found}: {remedy}")

    def dataset(self, sources: Sequence[ImageSource]) -> PhotographDataset:
        """Make a data set of the photographs as `predict_items` is to read them."""
        reading = (self.intensity, self.options.max_pixels, self.tiling is not None)
        return PhotographDataset(sources, self.image_size, *reading)

    def compare_with(self, memory: NormalMemory | None) -> None:
        """Let maps say how far patches are from those that are remembered of normal images; None for maps without."""
        self.memory, record = memory, memory and memory.record | {"weight": self.of_text.memory_weight}
        self.origin = self.origin | {"normal_memory": record}
        self.detector = MemoryDetector(self.of_text, memory) if memory else self.of_text
        if record:
            self.notes = [*self.notes, REMEMBERED.format(**record)]
            logger.info("note: %s", self.notes[-1])

    def predict(self, paths: Sequence[Path], order: Sequence[int], description: str) -> Iterator[Found]:
        """Predict the photographs with the indices `order`; of several processes, the main one is given all."""
        tiled, options = self.tiling is not None, self.options
        batches = in_batches(order, 1 if tiled else options.batch_size)[rank() :: world_size()]
        reading = {"prefetch_factor": 1 if tiled else None, "collate_fn": list}
        loader = make_loader(self.dataset(paths), batches, options.num_workers, **reading)
        if tiled:
            found = ([one] for one in self.predict_items(chain.from_iterable(loader)))
        else:
            found = (list(self.predict_items(batch)) for batch in loader)
        with logging_redirect_tqdm(), progress(total=len(order), unit="image", desc=description) as bar:
            for batch in in_turn(found, UserError):
                yield from batch
                bar.update(len(batch))

    def predict_items(self, items: Iterable[Item]) -> Iterator[Found]:
        """Predict items of `dataset`, in batches."""

        def predict(images: torch.Tensor, class_names: Sequence[str]) -> DetectorPrediction:
            with float32_convolutions():
                return self.detector.predict(normalised(images.to(self.device)), class_names)

        name, batch_size = self.options.object, self.options.batch_size
        pictures = (
            (one, Picture(one[1].image, one[1].pixels, name) if isinstance(one[1], Photograph) else None)
            for one in items
        )
        for (index, item), predicted in predict_tiled(predict, pictures, self.tiling, batch_size):
            found = item
            if predicted is not None:
                scores = predicted.maps[0].numpy(), predicted.text_prob.item()
                finite = all(np.isfinite(values).all() for values in scores)
                # A photograph may wait for its overlay, and a worker's tensors are views of one memory with its pixels.
                if item.pixels is not None:
                    item = replace(item, image=item.image.clone(), picture=item.picture.clone(), pixels=None)
                found = Prediction(item, *scores) if finite else UserError(NOT_FINITE)
            yield index, found


def calibrate(
    found: Iterable[Found], pictures: Sequence[ImageSource], rate: float, origin: Mapping[str, Any], place: str
) -> Calibration:
    """Make a calibration from what was found on normal pictures, which messages call `place`; copies count once."""
    by_image: dict[bytes, dict[str, float]] = {}  # a copy says nothing new, and would promise more than holds
    files, copies = set(), 0
    for index, prediction in found:
        if isinstance(prediction, UserError):
            logger.warning("left out of the calibration: %s", prediction)
        else:
            digest = hashlib.sha256(normalised(prediction.photograph.image).numpy()).digest()
            is_file = isinstance(pictures[index], str | Path)
            files.add(sha256_of(pictures[index]) if is_file else digest.hex())
            copies += digest in by_image
            by_image[digest] = prediction.scores
    scores = list(by_image.values())
    if copies:
        logger.warning("%s holds copies, which count once: %s", place, counted(copies, "image"))
    if len(scores) < LEAST:
        raise UserError(f"{place}: {counted(len(scores), 'image')}, which is too few: give at least {LEAST}")
    by_score = {name: [own[name] for own in scores] for name in ("text_prob", "map_max")}
    return Calibration(**by_score, rate=rate, origin={**origin, IMAGES: sorted(files)})
