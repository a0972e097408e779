"""Test a method on data sets: from the options to everything that a test leaves in its folder."""

import logging
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets.image_set import ImageSet
from datasets.transforms import image_from_tensor
from engine.data_sets import evaluation_loader, read_data_sets
from engine.detectors import METHODS, Method
from engine.evaluation import evaluate_and_report
from engine.loading import as_trained, backbone_from_options, differences, find_device
from engine.options import TestOptions, resolve
from engine.published import published_numbers, write_published
from models.adapter_checkpoint import AdapterCheckpoint, seen_in_training
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.prompts import read_prompts
from models.text import discard_text_tower
from utils.arguments import plain_record
from utils.distributed import is_main
from utils.epochs import Summary
from utils.errors import UserError
from utils.evaluation_types import ClassResult, Detector, Writer
from utils.pictures import MapWriter, PictureWriter
from utils.runtime import Stopwatch, locked, seed_everything, start_log

logger = logging.getLogger(__name__)


def test(options: TestOptions, key: str) -> None:
    """Test every checkpoint on every data set that the options name, by the method `key` of `METHODS`.

    With one data set the results go to `--save_path` itself, with several to a folder each, and in both cases to one
    for each epoch if several checkpoints are tested.
    """
    folder = options.save_path or Path("results", key, *(options.dataset if len(options.dataset) == 1 else ()))
    with locked(folder):
        start_log(folder / "test.log")
        seed_everything(options.seed)
        _test(replace(options, save_path=folder), METHODS[key]())


def _test(options: TestOptions, method: Method) -> None:
    if options.compare_published:
        for name in options.dataset:
            published_numbers(method.name, name)  # which are missed now if ever, before any work
    stopwatch = Stopwatch()
    checkpoints = _read_checkpoints(options, method)
    given = options
    fullest = max(checkpoints.values(), key=lambda one: len(one.options) if one else 0)  # of those that agree
    options = resolve(options, **as_trained(fullest, options))
    fidelity = Fidelity.named(options.fidelity, method.system)
    device = find_device(options.device)
    with stopwatch("data set"):
        data_sets = read_data_sets(options)
    resolved = [resolve(options, images.spec, **method.defaults(images.spec)) for images in data_sets]
    for own in resolved:
        read_prompts(own.prompts)  # a mistake in them is told before the model is loaded
    with stopwatch("model"):
        backbone = backbone_from_options(options, fidelity, device)
        trained = [one and method.load(one, options, backbone, fidelity) for one in checkpoints.values()]
    said: dict[str, None] = {}  # once for all epochs of a training
    for checkpoint in filter(None, checkpoints.values()):
        for images, own in zip(data_sets, resolved, strict=True):
            said |= dict.fromkeys(differences(checkpoint, backbone, own, given))
            said |= dict.fromkeys(seen_in_training(checkpoint, images.spec.name, images.phrases()))
    for sentence in said:
        logger.warning("%s", sentence)
    if fidelity.grn_over_batch:
        note = "in released fidelity the images of a batch influence each other: the figures hold for --batch_size %d"
        logger.info(note, options.batch_size)
    with stopwatch("text"):
        texts = [method.class_texts(options, backbone, images) for images in data_sets]
    discard_text_tower(backbone)

    summary = Summary(options.save_path, method.name)
    for (epoch, checkpoint), parts in zip(checkpoints.items(), trained, strict=True):
        folder = options.save_path / (f"epoch_{epoch}" if len(checkpoints) > 1 else "")
        for images, own, text in zip(data_sets, resolved, texts, strict=True):
            own = replace(own, save_path=folder / (images.spec.name if len(data_sets) > 1 else ""))
            detector = method.detector(own, backbone, fidelity, parts, text)
            about = {"method": method.name, **_origin(own, images, backbone, fidelity, checkpoint)}
            results = _evaluate(own, detector, images, backbone, about, Stopwatch(stopwatch))
            if is_main():
                summary.add(epoch, images.spec.name, results)
    if is_main() and len(checkpoints) * len(data_sets) > 1:
        logger.info("%s, means over the classes\n%s", method.name, summary.table())
        logger.info("the tables are in %s", options.save_path / "summary.md")


def _read_checkpoints(options: TestOptions, method: Method) -> dict[int, AdapterCheckpoint | None]:
    """Read the checkpoints: epoch, 0 if it is not known -> checkpoint, in order; None alone for a method without."""
    if method.read is None:
        return {0: None}
    paths = options.checkpoint if isinstance(options.checkpoint, tuple) else [options.checkpoint]
    checkpoints = [method.read(path) for path in paths]
    for one, first in ((one, checkpoints[0]) for one in checkpoints):
        recorded = first.options.keys() & one.options.keys()  # by both: the authors' files record next to nothing
        differing = (name for name in sorted(recorded) if first.options[name] != one.options[name])
        if name := next((name for name in differing if getattr(options, name, None) is None), None):
            files = f"--checkpoint {first.path} and {one.path} were trained with different --{name}"
            raise UserError(f"{files}: test them in separate runs, or give the option")
    by_epoch = {checkpoint.origin.get("epoch", 0): checkpoint for checkpoint in checkpoints}
    if len(by_epoch) < len(checkpoints):
        raise UserError("--checkpoint names two files of one epoch: test them in separate runs")
    return dict(sorted(by_epoch.items()))


def _origin(
    options: TestOptions, images: ImageSet, backbone: Backbone, fidelity: Fidelity, checkpoint: AdapterCheckpoint | None
) -> dict[str, Any]:
    """Describe how the figures were made; of options with several values, the one for this test."""
    arguments, weights = plain_record(options), backbone.weights
    place = options.dataset.index(images.spec.name)
    for key in ("dataset", "data_path", "meta"):
        arguments[key] = arguments[key] and arguments[key][place]
    if images.intensity is not None:
        arguments["intensity"] = ",".join(map(str, images.intensity))
    origin = {
        "dataset": images.spec.name,
        "arguments": arguments,
        "fidelity": {"name": options.fidelity, **asdict(fidelity)},
        "backbone": {key: getattr(backbone, key) for key in ("name", "image_size", "features_list", "activation")},
        "weights": {"path": str(weights.path), "sha256": weights.sha256, "tag": weights.tag},
    }
    if checkpoint is not None:
        arguments["checkpoint"] = str(checkpoint.path)
        origin["checkpoint"] = {"path": str(checkpoint.path), "sha256": checkpoint.sha256, **checkpoint.origin}
    return origin


def _evaluate(
    options: TestOptions,
    detector: Detector,
    images: ImageSet,
    backbone: Backbone,
    about: dict[str, Any],
    stopwatch: Stopwatch,
) -> list[ClassResult]:
    """Evaluate a detector on one data set, and write the results to the options' `save_path`."""
    writers: list[Writer] = [MapWriter(options.save_path / "maps")] if options.save_maps else []
    if options.visualization:
        writers.append(PictureWriter(options.save_path, partial(images.read_image, image_size=backbone.image_size)))
    results = evaluate_and_report(
        detector,
        evaluation_loader(images, backbone, options, options.seed),
        images,
        options,
        title=f"{about['method']} on {about['dataset']}",
        description=about,
        device=backbone.device,
        stopwatch=stopwatch,
        to_picture=None if options.no_report else lambda image: image_from_tensor(image.image),
        writers=writers,
    )
    if options.compare_published and is_main():
        logger.info("the published numbers are in %s", write_published(options.save_path))
    return results
