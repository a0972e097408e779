"""Test a method on data sets: from the options to everything that a test leaves in its folder."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets.image_set import ImageSet
from datasets.transforms import image_from_tensor
from engine.data_sets import evaluation_loader, read_data_sets
from engine.detectors import METHODS, Method
from engine.earlier_results import check_settings, folder_name
from engine.evaluation import evaluate_and_report
from engine.fingerprints import seen_in_training
from engine.loading import as_trained, backbone_from_options, differences, find_device, with_trained_prompts
from engine.options import DEFAULT_MODEL, TestOptions, resolve
from engine.origin import describe, made_with, notes_on
from engine.published import published_numbers, write_published
from models.adapter_checkpoint import AdapterCheckpoint
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.presets import preset_name
from models.prompts import read_prompts
from models.text import discard_text_tower
from utils.arguments import plain_record
from utils.distributed import is_main, world_size
from utils.epochs import Summary
from utils.errors import UserError
from utils.evaluation_types import ClassResult, Detector
from utils.pictures import ImageWriter, MapWriter, PictureWriter
from utils.results import Run
from utils.runtime import Stopwatch, locked, seed_everything, start_log

logger = logging.getLogger(__name__)

# An epoch, 0 where that does not matter; its checkpoint, None of a method without; and the places of the data sets that
# are tested with it.
ForDataSets = tuple[int, AdapterCheckpoint | None, Sequence[int]]


def test(options: TestOptions, key: str) -> int:
    """Test every checkpoint on the data sets that the options name, by the method `key` of `METHODS`.

    With one data set the results go to `--save_path` itself, with several to a folder each, and in both cases to one
    for each epoch if several of a training are tested. Returns 1 if maps or pictures were left out for their names.
    """
    method = METHODS[key]()
    checkpoints = _read_checkpoints(options, method)
    fullest = _fullest(checkpoints)
    model = preset_name(options.model or (fullest and fullest.options.get("model")) or DEFAULT_MODEL)
    own = [folder_name(options.dataset[0], (options.data_path or [None])[0])] if len(options.dataset) == 1 else []
    folder = options.save_path or Path("results", key, Path(model).name.removesuffix(".json"), *own)
    with locked(folder):
        start_log(folder / "test.log", append=not options.overwrite)  # that of an earlier run is kept if it is refused
        seed_everything(options.seed)
        return _test(replace(options, save_path=folder), method, checkpoints)


def _test(options: TestOptions, method: Method, checkpoints: Sequence[ForDataSets]) -> int:
    if options.compare_published:
        for name in options.dataset:
            published_numbers(method.name, name)  # which are missed now if ever, before any work
    stopwatch = Stopwatch()
    given = options
    options = resolve(options, **as_trained(_fullest(checkpoints), options))
    fidelity = Fidelity.named(options.fidelity, method.system)
    device = find_device(options.device)
    with stopwatch("data set"):
        data_sets = read_data_sets(options)
    resolved = [resolve(options, images.spec, **method.defaults(images.spec)) for images in data_sets]
    for _, checkpoint, places in checkpoints:
        for place in places:
            resolved[place] = with_trained_prompts(resolved[place], checkpoint, given)
    for own in resolved:
        read_prompts(own.prompts)  # a mistake in them is told before the model is loaded
    with stopwatch("model"):
        backbone = backbone_from_options(options, fidelity, device)
        trained = [one and method.load(one, options, backbone, fidelity) for _, one, _ in checkpoints]
    said: dict[str, None] = {}  # once for all epochs of a training
    for _, checkpoint, places in checkpoints:
        for own in (resolved[place] for place in places if checkpoint is not None):
            said |= dict.fromkeys(differences(checkpoint, backbone, own, given))
    for place, images in enumerate(data_sets):
        with stopwatch("data set"):
            seen = seen_in_training([one for _, one, places in checkpoints if one and place in places], images)
        images.notes.extend(seen)
        said |= dict.fromkeys(seen)
    for sentence in said:
        logger.warning("%s", sentence)
    if fidelity.grn_over_batch:
        note = "in released fidelity the images of a batch influence each other: the figures hold for --batch_size %d"
        logger.info(note, options.batch_size)

    tests = []
    for (epoch, checkpoint, places), parts in zip(checkpoints, trained, strict=True):
        folder = options.save_path / (f"epoch_{epoch}" if len(places) * len(checkpoints) > len(data_sets) else "")
        for place in places:
            images = data_sets[place]
            name = folder_name(images.spec.name, images.root) if len(data_sets) > 1 else ""
            own = replace(resolved[place], save_path=folder / name)
            about = {
                "method": method.name,
                "dataset": images.spec.name,
                "arguments": _arguments(own, images, checkpoint),
                **describe(own, backbone, fidelity, checkpoint),
            }
            if is_main() and not options.overwrite:  # before any work
                check_settings(own.save_path / "results.json", about)
            tests.append((epoch, place, own, parts, about))
    with stopwatch("text"):
        texts = [method.class_texts(own, backbone, images) for images, own in zip(data_sets, resolved, strict=True)]
    discard_text_tower(backbone)

    summary, failed, unwritten = Summary(options.save_path, method.name), [], 0
    for epoch, place, own, parts, about in tests:
        detector, images = method.detector(own, backbone, fidelity, parts, texts[place]), data_sets[place]
        try:
            run, results, left_out = _evaluate(own, detector, images, backbone, about, Stopwatch(stopwatch))
        except UserError as error:
            if len(tests) == 1 or world_size() > 1:  # of several processes, others cannot go on after it
                raise
            logger.error("%s", error)
            failed.append(str(own.save_path))
            continue
        unwritten += left_out
        if is_main():
            summary.add(epoch, images.spec.name, results, run.origin(results))
    if is_main() and len(tests) > 1 and summary.means:
        logger.info("%s, means over the classes\n%s", method.name, summary.table())
        logger.info("the tables are in %s", options.save_path / "summary.md")
    if failed:
        raise UserError(f"not tested to the end, for the reasons above: {', '.join(failed)}")
    return 1 if unwritten else 0


def _read_checkpoints(options: TestOptions, method: Method) -> list[ForDataSets]:
    """Read the checkpoints: in the order of their epochs, or of the data sets that they are for."""
    places = range(len(options.dataset))
    if method.read is None:
        return [(0, None, places)]
    read = {path: method.read(path) for path in dict.fromkeys(options.checkpoint)}
    checkpoints = [read[path] for path in options.checkpoint]
    for one, first in ((one, checkpoints[0]) for one in checkpoints):
        recorded = first.options.keys() & one.options.keys()  # by both: the authors' files record next to nothing
        differing = (name for name in sorted(recorded) if first.options[name] != one.options[name])
        if name := next((name for name in differing if getattr(options, name, None) is None), None):
            files = f"--checkpoint {first.path} and {one.path} were trained with different --{name}"
            raise UserError(f"{files}: test them in separate runs, or give the option")
    if not method.takes_epochs and len(checkpoints) > 1:
        if len(checkpoints) != len(places):
            found = f"--dataset names {len(places)} data sets, --checkpoint {len(checkpoints)} files"
            raise UserError(f"{found}: give one for all, or one for each, in the same order")
        return [(0, one, [place]) for place, one in zip(places, checkpoints, strict=True)]
    by_epoch = {checkpoint.origin.get("epoch", 0): checkpoint for checkpoint in checkpoints}
    if len(by_epoch) < len(checkpoints):
        raise UserError("--checkpoint names two files of one epoch: test them in separate runs")
    return [(epoch, by_epoch[epoch], places) for epoch in sorted(by_epoch)]


def _fullest(checkpoints: Sequence[ForDataSets]) -> AdapterCheckpoint | None:
    """Choose the checkpoint that says most of its training, as those that agree may say more or less."""
    return max((one for _, one, _ in checkpoints), key=lambda one: len(one.options) if one else 0)


def _arguments(options: TestOptions, images: ImageSet, checkpoint: AdapterCheckpoint | None) -> dict[str, Any]:
    """Record the options; of those with several values, the one for this test."""
    arguments = plain_record(options)
    place = options.dataset.index(images.spec.name)
    for key in ("dataset", "meta"):
        arguments[key] = arguments[key] and arguments[key][place]
    if images.intensity is not None:
        arguments["intensity"] = ",".join(map(str, images.intensity))
    arguments["data_path"] = str(images.root.resolve())
    if checkpoint is not None:
        arguments["checkpoint"] = str(checkpoint.path)
    return arguments


def _evaluate(
    options: TestOptions,
    detector: Detector,
    images: ImageSet,
    backbone: Backbone,
    about: dict[str, Any],
    stopwatch: Stopwatch,
) -> tuple[Run, list[ClassResult], int]:
    """Evaluate a detector on one data set, and write the results; last, how many files have too long a name for it."""
    writers: list[ImageWriter] = [MapWriter(options.save_path)] if options.save_maps else []
    if options.visualization:
        writers.append(PictureWriter(options.save_path, partial(images.read_image, image_size=backbone.image_size)))
    skipping = {"skip_broken": options.skip_broken}
    run, results = evaluate_and_report(
        detector,
        lambda todo: evaluation_loader(replace(images, entries=todo), backbone, options, options.seed, **skipping),
        images,
        options,
        title=f"{about['method']} on {about['dataset']}",
        description=about,
        device=backbone.device,
        stopwatch=stopwatch,
        to_picture=None if options.no_report else lambda image: image_from_tensor(image.image),
        writers=writers,
        notes=notes_on(images.spec.name, about),
        made_with=made_with(about),
        resume=options.resume,
    )
    if options.compare_published and is_main():
        logger.info("the published numbers are in %s", write_published(options.save_path))
    return run, results, sum(len(writer.left_out) for writer in writers)
