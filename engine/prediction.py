"""A prediction of photographs as predict.py is asked for it, with a calibration on normal ones."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datasets.image_files import is_result
from datasets.intensity import find_range
from datasets.photographs import Photograph, common_folder, find_photographs
from engine.arrivals import Arrival, Folders, Lines, read_ahead
from engine.calibration import Calibration, read_calibration
from engine.line_writer import LINES, LineWriter
from engine.normal_memory import FILE, make_memory, read_memory, save_memory
from engine.onnx_predictor import OnnxPredictor
from engine.predicted import Row
from engine.predicting import Predictor, calibrate
from engine.prediction_options import DEFAULT_FOLDER, PredictionOptions
from engine.prediction_writer import PredictionWriter
from models.memory import NormalMemory
from utils.distributed import from_main, is_main, world_size
from utils.errors import UserError, interrupts_wait
from utils.names import counted
from utils.runtime import environment, git_commit, locked, seed_everything, start_log

logger = logging.getLogger(__name__)

CALIBRATED = "%s %d normal images%s: at most %.1f %% of normal images are called anomalous"


def predict(options: PredictionOptions) -> int:
    """Predict the photographs that the options name, and write what is found; 1 if one could not be read."""
    if options.watch:
        if world_size() > 1:
            raise UserError("--watch runs in one process: start it by python, not torchrun")
        for text in options.inputs:
            if not Path(text).is_dir():
                raise UserError(f"--watch looks at folders, and {text} is none")
    is_streamed = options.is_streamed and world_size() == 1  # several processes share out a list that is known
    paths = [] if is_streamed else from_main(lambda: find_photographs(options.inputs, _listed()))
    folders = options.inputs if options.watch else (path.parent for path in paths)
    base = Path.cwd() if is_streamed and not options.watch else common_folder(folders)
    folder = options.save_path or (None if is_streamed else DEFAULT_FOLDER)
    with contextlib.nullcontext() if folder is None else locked(folder):
        if folder and is_main() and not options.resume and (folder / LINES).exists():
            remedy = "go on with it by --resume, choose another --save_path, or delete it"
            raise UserError(f"{folder} holds a prediction already: {remedy}")
        start_log(folder and folder / "predict.log", append=options.resume)
        seed_everything(options.seed)
        normal = [] if options.normal_dir is None else find_photographs([str(options.normal_dir)], ())
        images, at_once = [*paths, *normal], not is_streamed
        shown, said = from_main(lambda: find_range(options.intensity, images, options.max_pixels, at_once=at_once))
        for sentence in said if is_main() else ():
            logger.warning("%s", sentence)
        predictor = (Predictor if options.onnx is None else OnnxPredictor)(options, shown)
        predictor.notes += said
        if options.normal_memory:
            predictor.compare_with(_memory(predictor, normal))
        calibration = _calibration(predictor, normal)
        if not is_main():  # it predicts its share, and hands the results to the main process
            list(predictor.predict(paths, from_main(list), "predicting"))
            return 0
        if folder is None:
            writer = LineWriter(calibration, options.threshold)
        else:
            settings = predictor.origin | {
                "folder": str(base),  # that the names of results are relative to
                "threshold": options.threshold,
                "runtime": options.runtime,
                "environment": environment(predictor.device) | predictor.versions,
                "git_commit": git_commit(Path(__file__).parent),
            }
            given = None if is_streamed else paths
            own = replace(predictor.options, save_path=folder)
            writer = PredictionWriter(own, settings, given, calibration, predictor.notes)
        if (calibration := writer.calibration) is not None:
            kept, percent = folder and f", kept in {folder / 'calibration.json'}", 100 * calibration.promised_rate
            if folder is not None:
                calibration.save(folder / "calibration.json")
            made = "calibrated on" if options.normal_dir is not None else "with the calibration on"
            logger.info(CALIBRATED, made, len(calibration.map_max), kept or "", percent)
            if calibration.shortcoming:
                logger.warning("%s", calibration.shortcoming)
        if options.normal_memory and folder is not None:
            save_memory(folder / FILE, predictor.memory, predictor.origin)
        with writer:
            if options.watch:
                _watch(predictor, writer)
            elif is_streamed:
                _answer(predictor, Lines(sys.stdin), writer)
            else:
                order = from_main(lambda: writer.order)
                logger.info("%s, %d still to be predicted", counted(len(paths), "image"), len(order))
                for index, found in predictor.predict(paths, order, "predicting"):
                    writer.write(Arrival(paths[index], writer.files[str(paths[index])]), found)
            return writer.finish()


def _answer(predictor: Predictor, source: Lines | Folders, writer: LineWriter | PredictionWriter) -> None:
    """Predict what arrives, in batches of what is there."""
    size, threads = predictor.options.batch_size, max(1, predictor.options.num_workers)

    def read(arrival: Arrival) -> Photograph | UserError | Row:
        if is_result(arrival.path):
            return {"image_path": str(arrival.path), "passed_over": "a run wrote this picture"}
        return writer.known(arrival) or predictor.dataset([arrival.path])[0][1]

    for batch in read_ahead(source, read, size, threads, writer.flush):
        for arrival, found in predictor.predict_items(batch):
            with interrupts_wait():
                writer.write(arrival, found)


def _watch(predictor: Predictor, writer: LineWriter | PredictionWriter) -> None:
    """Predict what comes into the folders, until Ctrl-C or a service's SIGTERM, after which the run goes on."""
    folders = predictor.options.inputs
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        logger.info("watching %s, until Ctrl-C", ", ".join(folders))
        _answer(predictor, Folders(map(Path, folders), writer.done), writer)
    except KeyboardInterrupt:
        logger.info("the watch has ended")
    finally:
        signal.signal(signal.SIGTERM, before)


def _listed() -> Iterator[str]:
    """Read the lines of standard input as names of files, which may be in any encoding."""
    yield from map(os.fsdecode, sys.stdin.buffer)


def _memory(predictor: Predictor, paths: Sequence[Path]) -> NormalMemory:
    """Make a memory of the normal images at `paths`, or read that of the calibration which the options name."""
    options = predictor.options
    if options.calibration is not None:
        return read_memory(options.calibration.with_name(FILE), predictor.origin, predictor.device)
    return make_memory(predictor, paths, f"--normal_dir {options.normal_dir}", options.num_workers, shared=True)


def _calibration(predictor: Predictor, paths: Sequence[Path]) -> Calibration | None:
    """Make a calibration from the normal images at `paths`, or read the one that the options name, else the detector's.

    Of several processes the main one alone is given one that is made.
    """
    options = predictor.options
    if options.calibration is not None:
        return read_calibration(options.calibration, predictor.origin)
    if options.normal_dir is None:
        return predictor.calibration
    found = predictor.predict(paths, range(len(paths)), "calibrating")
    if not is_main():  # which is handed all of them
        list(found)
        return None
    return calibrate(found, paths, options.false_alarm_rate, predictor.origin, f"--normal_dir {options.normal_dir}")
