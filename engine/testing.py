"""Test a method on data sets: from the options to everything that a test leaves in its folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets.image_set import ImageSet
from datasets.registry import get_specs
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
from engine.shots import Shots
from engine.submission import SubmissionWriter
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

SEEDS = (0, 1, 2)  # of the draws of --shots

# An epoch, 0 where that does not matter; its checkpoint, None of a method without; and the places of the data sets that
# are tested with it.
ForDataSets = tuple[int, AdapterCheckpoint | None, Sequence[int]]


def test(options: TestOptions, key: str, method: Method | None = None) -> int:
    """Test every checkpoint on the data sets that the options name, by a method, the one called `key` by default.

    With one data set the results go to `--save_path` itself, with several to a folder each, and in both cases to one
    for each epoch if several of a training are tested. Returns 1 if maps or pictures were left out for their names.
    """
    method = method or METHODS[key]()
    checkpoints, unread = _read_checkpoints(options, method)
    fullest = _fullest(checkpoints)
    model = preset_name(options.model or (fullest and fullest.options.get("model")) or DEFAULT_MODEL)
    specs = get_specs(options.dataset, options.protocol)
    own = [folder_name(specs[0], (options.data_path or [None])[0])] if len(specs) == 1 else []
    folder = options.save_path or Path("results", key, Path(model).name.removesuffix(".json"), *own)
    with locked(folder):
        start_log(folder / "test.log", append=not options.overwrite)  # that of an earlier run is kept if it is refused
        seed_everything(options.seed)
        return _test(replace(options, save_path=folder), method, checkpoints, unread)


def _test(
    options: TestOptions, method: Method, checkpoints: Sequence[ForDataSets], unread: Mapping[int, UserError]
) -> int:
    if options.compare_published:
        for name in options.dataset:
            published_numbers(method.name, name)  # which are missed now if ever, before any work
    stopwatch = Stopwatch()
    given = options
    options = resolve(options, **as_trained(_fullest(checkpoints), options))
    fidelity = Fidelity.named(options.fidelity, method.system)
    if fidelity.grn_over_batch and options.tile is not None:
        logger.info("in released fidelity the images of a batch influence each other: tiles are taken one by one")
        options = replace(options, batch_size=1)
    device = find_device(options.device)
    with stopwatch("data set"):
        data_sets, faults = read_data_sets(options)
    faults |= unread
    for error in faults.values():
        logger.error("%s", error)
    failed = [options.dataset[place] for place in sorted(faults)]
    data_sets = {place: images for place, images in data_sets.items() if place not in faults}
    if not data_sets:
        raise _unfinished(failed)
    known = ((epoch, one, [place for place in places if place in data_sets]) for epoch, one, places in checkpoints)
    checkpoints = [(epoch, one, places) for epoch, one, places in known if places]
    specs = {place: images.spec for place, images in data_sets.items()}
    resolved = {place: resolve(options, spec, **method.defaults(spec)) for place, spec in specs.items()}
    for _, checkpoint, places in checkpoints:
        for place in places:
            resolved[place] = with_trained_prompts(resolved[place], checkpoint, given)
    for own in resolved.values():
        read_prompts(own.prompts)  # a mistake in them is told before the model is loaded
    with stopwatch("model"):
        backbone = backbone_from_options(options, fidelity, device)
        if method.last_tap_only:
            backbone = replace(backbone, features_list=backbone.features_list[-1:])
        trained = [one and method.load(one, options, backbone, fidelity) for _, one, _ in checkpoints]
    said: dict[str, None] = {}  # once for all epochs of a training
    for _, checkpoint, places in checkpoints:
        for own in (resolved[place] for place in places if checkpoint is not None):
            said |= dict.fromkeys(differences(checkpoint, backbone, own, given))
    for place, images in data_sets.items():
        with stopwatch("data set"):
            seen = seen_in_training([one for _, one, places in checkpoints if one and place in places], images)
        images.notes.extend(seen)
        said |= dict.fromkeys(seen)
    for sentence in said:
        logger.warning("%s", sentence)
    if fidelity.grn_over_batch and options.tile is None:
        note = "in released fidelity the images of a batch influence each other: the figures hold for --batch_size %d"
        logger.info(note, options.batch_size)

    tests = []
    for (epoch, checkpoint, places), parts in zip(checkpoints, trained, strict=True):
        folder = options.save_path / (f"epoch_{epoch}" if method.takes_epochs and len(checkpoints) > 1 else "")
        for place in places:
            images = data_sets[place]
            name = folder_name(images.spec, images.root) if len(options.dataset) > 1 else ""
            own = replace(resolved[place], save_path=folder / name)
            about = {
                "method": method.name,
                "dataset": images.spec.name,
                "protocol": images.spec.protocol,
                "arguments": _arguments(own, images, checkpoint),
                **describe(own, backbone, fidelity, checkpoint),
                **({"variant": method.note} if method.note else {}),
                "phrases": images.phrases(described=method.described, called=own.obj_name),
            }
            if is_main() and not options.overwrite:  # before any work
                check_settings(own.save_path / "results.json", about)
            tests.append((epoch, place, own, parts, about))
    with stopwatch("text"):
        texts = {place: method.class_texts(own, backbone, data_sets[place]) for place, own in resolved.items()}
    discard_text_tower(backbone)

    summary, unwritten = Summary(options.save_path, method.name), 0
    for epoch, place, own, parts, about in tests:
        detector, images = method.detector(own, backbone, fidelity, parts, texts[place]), data_sets[place]
        try:
            run, results, left_out = _evaluate(own, detector, images, backbone, about, Stopwatch(stopwatch))
        except UserError as error:
            if world_size() > 1 or not (failed or len(tests) > 1):  # of several processes, others cannot go on after it
                raise
            logger.error("%s", error)
            failed.append(str(own.save_path))
            continue
        unwritten += left_out
        if is_main():
            summary.add(epoch, images.spec.label, results, run.origin(results))
    if is_main() and len(tests) > 1 and summary.means:
        logger.info("%s, means over the classes\n%s", method.name, summary.table())
        logger.info("the tables are in %s", options.save_path / "summary.md")
    if failed:
        raise _unfinished(failed)
    return 1 if unwritten else 0


def _unfinished(failed: Sequence[str]) -> UserError:
    return UserError(f"not tested to the end, for the reasons above: {', '.join(failed)}")


def _read_checkpoints(options: TestOptions, method: Method) -> tuple[list[ForDataSets], dict[int, UserError]]:
    """Read the checkpoints: in the order of their epochs, or of the data sets that they are for.

    Of those for a data set each, some may fail, which say why, by their places.
    """
    places = range(len(options.dataset))
    if method.read is None:
        return [(0, None, places)], {}
    read: dict[Path, AdapterCheckpoint] = {}
    failed: dict[int, UserError] = {}
    for place, path in enumerate(options.checkpoint):
        try:
            read[path] = read.get(path) or method.read(path)
        except UserError as error:
            failed[place] = error
    if failed and (method.takes_epochs or not read or world_size() > 1):
        raise next(iter(failed.values()))
    checkpoints = [read[path] for path in options.checkpoint if path in read]
    for one, first in ((one, checkpoints[0]) for one in checkpoints):
        recorded = first.options.keys() & one.options.keys()  # by both: the authors' files record next to nothing
        differing = (name for name in sorted(recorded) if first.options[name] != one.options[name])
        if name := next((name for name in differing if getattr(options, name, None) is None), None):
            files = f"--checkpoint {first.path} and {one.path} were trained with different --{name}"
            raise UserError(f"{files}: test them in separate runs, or give the option")
    if not method.takes_epochs and len(options.checkpoint) > 1:
        if len(options.checkpoint) != len(places):
            found = f"--dataset names {len(places)} data sets, --checkpoint {len(options.checkpoint)} files"
            raise UserError(f"{found}: give one for all, or one for each, in the same order")
        return [(0, read[options.checkpoint[place]], [place]) for place in places if place not in failed], failed
    by_epoch = {checkpoint.origin.get("epoch", 0): checkpoint for checkpoint in checkpoints}
    if len(by_epoch) < len(checkpoints):
        raise UserError("--checkpoint names two files of one epoch: test them in separate runs")
    return [(epoch, by_epoch[epoch], places) for epoch in sorted(by_epoch)], {}


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
    arguments |= {"data_path": str(images.root.resolve()), "protocol": images.spec.protocol, **images.listed_by}
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
        size = backbone.image_size if options.tile is None else None
        writers.append(PictureWriter(options.save_path, partial(images.read_image, image_size=size)))
    if options.submission:
        if all(entry.anomaly is not None for entry in images.entries):
            raise UserError(
                f"--submission: {images.root} has no unlabelled images; see --protocol private of mvtec_ad2"
            )
        writers.append(SubmissionWriter(options.save_path, images.root, options.submission_threshold))
    if options.shots:
        settings = (backbone.image_size, options.batch_size, options.save_path)
        detector = Shots(detector, images, options.shots, options.seeds or SEEDS, *settings)
        about = about | {"shots": detector.content}
    else:
        images = replace(images, train={})  # which no figure depends on
    skipping = {"skip_broken": options.skip_broken}
    run, results = evaluate_and_report(
        detector,
        lambda todo: evaluation_loader(replace(images, entries=todo), backbone, options, **skipping),
        images,
        options,
        title=f"{about['method']} on {images.spec.label}",
        description=about,
        device=backbone.device,
        stopwatch=stopwatch,
        to_picture=None if options.no_report else lambda image: image_from_tensor(image.image),
        writers=[*writers, detector] if options.shots else writers,
        notes=notes_on(images.spec.name, about),
        made_with=made_with(about),
        resume=options.resume,
    )
    if options.compare_published and is_main():
        logger.info("the published numbers are in %s", write_published(options.save_path))
    return run, results, sum(len(writer.left_out) for writer in writers)
