"""Exported models as files: ONNX with what a detector is made of in its metadata, and a digest of its content."""

import hashlib
import json
import mmap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.calibration import Calibration
from engine.prediction_options import Input
from utils.errors import UserError
from utils.files import atomic_open, open_regular

RECORD, DIGEST = "detector", "content_sha256"  # keys of the metadata
MARK = f"{DIGEST}\x12\x40".encode()  # the latter as protobuf writes it, before a value of so many characters:
LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """What is to be known of an exported model to predict with it."""

    origin: dict[str, Any]  # what its scores depend on, see `Predictor`
    notes: list[str]  # on what it was made with
    calibration: Calibration | None
    input: Input
    one_by_one: bool  # whether it takes a single image

    def metadata(self, **others: Any) -> dict[str, str]:
        """The metadata to write: itself, for `predict.py`, its origin and `others` by keys of their own, for people."""
        said = {key: value for key, value in {**self.origin, **others}.items() if value is not None}
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}
        return texts | {RECORD: json.dumps(asdict(self), allow_nan=False), DIGEST: LENGTH * "0"}


def write_model(path: Path, content: bytes) -> None:
    """Write a serialised model with the digest of its content, atomically."""
    start, digest = _digest(memoryview(content), content.rfind(MARK))
    with atomic_open(path, "wb") as file:
        file.write(content)
        file.seek(start)
        file.write(digest)


def check_model(path: Path) -> str:
    """Refuse a file that is not as `write_model` wrote it; returns the digest of its content."""
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.rfind(MARK)
            with memoryview(content) as view:
                start, digest = _digest(view, place)
            written = content[start : start + LENGTH]
    except (OSError, ValueError) as error:  # ValueError of a name that holds a NUL, and of a file that is empty
        raise UserError(f"--onnx {path}: cannot be read, {getattr(error, 'strerror', None) or error}") from error
    if place < 0:
        raise UserError(f"--onnx {path}: this is no model that export.py wrote, or a part of one; export it again")
    if written != digest:
        raise UserError(f"--onnx {path} is damaged: its content is another than was written; export it again")
    return digest.decode()


def _digest(content: memoryview, place: int) -> tuple[int, bytes]:
    """Where a serialised model whose mark is at `place` has its digest, and what that is: the SHA-256 of all else."""
    start = place + len(MARK)
    digest = hashlib.sha256(content[:start])
    digest.update(content[start + LENGTH :])
    return start, digest.hexdigest().encode()
