"""Predictions of photographs that come one by one."""

import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from datasets.images import is_result
from datasets.photographs import Photograph
from engine.arrivals import Arrival, Source, read_ahead
from engine.earlier_prediction import Row
from engine.line_writer import LineWriter
from engine.predicting import Predictor
from engine.prediction_writer import PredictionWriter
from utils.errors import UserError, interrupts_wait

logger = logging.getLogger(__name__)


def answer(predictor: Predictor, source: Source, writer: LineWriter | PredictionWriter) -> None:
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


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """A block that Ctrl-C, or a service's SIGTERM, ends, and no more than that."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        logger.info("the watch has ended")
    finally:
        signal.signal(signal.SIGTERM, before)
