"""Test a method on data sets: from the options to everything that a test leaves in its folder."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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
from engine.loading import (
    as_trained,
    backbone_from_options,
    differences,
    find_device,
    with_precision,
    with_trained_prompts,
)
from engine.options import DEFAULT_MODEL, TestOptions, resolve
from engine.origin import describe, made_with, notes_on
from engine.published import published_numbers, write_published
from engine.seeds import Seeds
from engine.shots import Shots
from engine.submission import SubmissionWriter
from engine.trained import Trained, fullest, read_checkpoints
from engine.training_sets import seen_in_training
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
from utils.image_writers import ImageWriter, MapWriter, PictureWriter
from utils.results import Run
from utils.runtime import Stopwatch, locked, seed_everything, start_log

logger = logging.getLogger(__name__)

SEEDS = (0, 1, 2)  # of the draws of --shots


def test(options: TestOptions, key: str, method: Method | None = None) -> int:
    """Test every checkpoint on the data sets that the options name, by a method, the one called `key` by default.

    With one data set the results go to `--save_path` itself, with several to a folder each. If several epochs of a
    training are tested, these lie in a folder for each epoch, and if several seeds are, in them lies one for each seed.
    Returns 1 if maps or pictures were left out for their names.
    """
    method = method or METHODS[key]()
    trained, unread = read_checkpoints(options, method)
    checkpoint = fullest(trained)
    model = preset_name(options.model or (checkpoint and checkpoint.options.get("model")) or DEFAULT_MODEL)
    specs = get_specs(options.dataset, options.protocol)
    own = [folder_name(specs[0], (options.data_path or [None])[0])] if len(specs) == 1 else []
    folder = options.save_path or Path("results", key, Path(model).name.removesuffix(".json"), *own)
    with locked(folder), ExitStack() as taken:
        start_log(folder / "test.log", append=not options.overwrite)  # that of an earlier run is kept if it is refused
        seed_everything(options.seed)
        return _test(replace(options, save_path=folder), method, trained, unread, taken)


def _test(
    options: TestOptions, method: Method, trained: Sequence[Trained], unread: Mapping[int, UserError], taken: ExitStack
) -> int:
    if options.compare_published:
        for name in options.dataset:
            published_numbers(method.name, name)  # which are missed now if ever, before any work
    stopwatch = Stopwatch()
    given = options
    options = resolve(options, **as_trained(fullest(trained), options))
    fidelity = Fidelity.named(options.fidelity, method.system)
    if fidelity.grn_over_batch and options.tile is not None:
        logger.info("in released fidelity the images of a batch influence each other: tiles are taken one by one")
        options = replace(options, batch_size=1)
    device = find_device(options.device)
    options = with_precision(options, device)
    with stopwatch("data set"):
        data_sets, faults = read_data_sets(options)
    faults |= unread
    for error in faults.values():
        logger.error("%s", error)
    failed = [options.dataset[place] for place in sorted(faults)]
    data_sets = {place: images for place, images in data_sets.items() if place not in faults}
    if not data_sets:
        raise _unfinished(failed)
    known = (one._replace(places=[place for place in one.places if place in data_sets]) for one in trained)
    trained = [one for one in known if one.places]
    specs = ((place, images.spec) for place, images in data_sets.items())
    resolved = {place: resolve(options, spec, **method.defaults(spec)) for place, spec in specs}
    for one in trained:
        for place in one.places:
            resolved[place] = with_trained_prompts(resolved[place], one.checkpoint, given)
    for own in resolved.values():
        read_prompts(own.prompts)  # a mistake in them is told before the model is loaded
    with stopwatch("model"):
        backbone = backbone_from_options(options, fidelity, device)
        if method.last_tap_only:
            backbone = replace(backbone, features_list=backbone.features_list[-1:])
        loaded = [one.checkpoint and method.load(one.checkpoint, options, backbone, fidelity) for one in trained]
    said: dict[str, None] = {}  # once for all epochs of a training
    for place, images in data_sets.items():
        own = [one.checkpoint for one in trained if one.checkpoint and place in one.places]
        for checkpoint in own:
            said |= dict.fromkeys(differences(checkpoint, backbone, resolved[place], given))
        with stopwatch("data set"):
            seen = seen_in_training(own, images)
        images.notes.extend(seen)
        said |= dict.fromkeys(seen)
    for sentence in said:
        logger.warning("%s", sentence)
    if fidelity.grn_over_batch and options.tile is None:
        note = "in released fidelity the images of a batch influence each other: the figures hold for --batch_size %d"
        logger.info(note, options.batch_size)

    tests = []
    for one, parts in zip(trained, loaded, strict=True):
        several_epochs = method.takes_epochs and len(trained) > 1 and one.seed is None
        folder = options.save_path / (f"epoch_{one.epoch}" if several_epochs else "")
        for place in one.places:
            images = data_sets[place]
            name = folder_name(images.spec, images.root) if len(options.dataset) > 1 else ""
            of_seed = "" if one.seed is None else f"seed_{one.seed}"
            own = replace(resolved[place], save_path=folder / name / of_seed)
            about = {
                "method": method.name,
                "dataset": images.spec.name,
                "protocol": images.spec.protocol,
                "arguments": _arguments(own, images, one.checkpoint),
                **describe(own, backbone, fidelity, one.checkpoint),
                **({"variant": method.note} if method.note else {}),
                "phrases": images.phrases(described=method.described, called=own.obj_name),
            }
            if own.save_path != options.save_path:  # which another run may write to as its own
                taken.enter_context(locked(own.save_path))
            if is_main() and not options.overwrite:  # before any work
                check_settings(own.save_path / "results.json", about)
            tests.append((one, place, own, parts, about))
    with stopwatch("text"):
        texts = {place: method.class_texts(own, backbone, data_sets[place]) for place, own in resolved.items()}
    discard_text_tower(backbone)

    summary, seeds, unwritten = Summary(options.save_path, method.name), Seeds(), 0
    for one, place, own, parts, about in tests:
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
            name = images.spec.label
            if one.seed is not None:
                seeds.add(one.seed, run, results)
                name = f"{name}, seed {one.seed}"
            summary.add(one.epoch, name, results, run.origin(results))
    if is_main() and len(tests) > 1 and summary.means:
        logger.info("%s, means over the classes\n%s", method.name, summary.table())
        logger.info("the tables are in %s", options.save_path / "summary.md")
    for folder in seeds.found:
        logger.info("the seeds side by side are in %s", folder / "seeds.md")
    if failed:
        raise _unfinished(failed)
    return 1 if unwritten else 0


def _unfinished(failed: Sequence[str]) -> UserError:
    return UserError(f"not tested to the end, for the reasons above: {', '.join(failed)}")


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
            what = f"--submission: {images.root} has no unlabelled images"
            raise UserError(f"{what}; see --protocol private of mvtec_ad2")
        writers.append(SubmissionWriter(options.save_path, images.root, options.submission_threshold))
    if options.shots:
        settings = (backbone.image_size, options.batch_size, options.save_path)
        detector = Shots(detector, images, options.shots, options.seeds or SEEDS, *settings)
        about = about | {"shots": detector.content}
    else:
        images = replace(images, train={})  # which no figure depends on
    run, results = evaluate_and_report(
        detector,
        lambda todo: evaluation_loader(replace(images, entries=todo), backbone, options),
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
    )
    if options.compare_published and is_main():
        logger.info("the published numbers are in %s", write_published(options.save_path))
    return run, results, sum(len(writer.left_out) for writer in writers)
