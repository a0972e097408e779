"""JSON from outside: within bounds, no key lost, every value of the type asked for; or refused in one sentence."""

import json
import math
import reprlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from utils.errors import UserError

if TYPE_CHECKING:  # elsewhere it is imported where it is needed, as that takes long
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

LARGEST = 1 << 28  # bytes of a file; a list of a million images has fewer
SHOWN = 100  # characters of a text that a message takes over whole
NOT_SHOWN = ("json_invalid", "missing", "value_error")  # errors that are not of one value, or say it


def read_json(path: Path, kind: type[T], option: str = "") -> T:
    """Read a JSON file as a `kind`, see `parse_json`; messages name the `option` that it was given with."""
    place = f"{option} {path}".lstrip()
    return parse_json(read_text(path, place), kind, place)


def read_text(path: Path, place: str) -> str:
    """Read a regular file of UTF-8 text, no larger than `LARGEST`; messages call it `place`."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{place}: larger than {LARGEST >> 20} MiB, too large for a file of its kind")
        if not path.is_file():
            raise UserError(f"{place}: not a regular file")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError, too, of a path that holds a NUL
        raise UserError(f"{place}: cannot be read, {getattr(error, 'strerror', 'it is not UTF-8 text')}") from error


def parse_json(text: str | bytes, kind: type[T], place: str, context: Any = None) -> T:
    """Take JSON as a `kind` without converting types, but for lists that become tuples; a `UserError` names the place.

    Refused are keys given twice, of which one would be lost, numbers that are not finite, and 200 levels or more. The
    `context` is for the kind's own validators.
    """
    with _refusing(place):
        value = _adapter(kind).validate_json(text, strict=True, context=context)
        numbers = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), _check_finite)
        json.loads(text, object_pairs_hook=_check_keys, **numbers)
        return value


def validate(value: Any, kind: type[T], place: str) -> T:
    """Take plain data that did not come as JSON as a `kind`; numbers may be text there, as safetensors has them."""
    with _refusing(place):
        return _adapter(kind).validate_python(value)


@cache
def _adapter(kind: type[T]) -> "TypeAdapter[T]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@contextmanager
def _refusing(place: str) -> Iterator[None]:
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        raise UserError(f"{place}{_first_fault(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not valid JSON ({error})") from error


def _first_fault(error: "ValidationError") -> str:
    """Say where the first fault is and what it is: `, normal entry 2: should be a valid string, not 3`."""
    fault = error.errors(include_url=False)[0]
    where = ""
    for part in fault["loc"]:
        where += f" entry {part + 1}" if isinstance(part, int) else f"{'/' if where else ', '}{brief_name(part)}"
    said = fault["msg"].removeprefix("Input ").removeprefix("Value error, ")
    if fault["type"] == "json_invalid":
        said = f"not valid JSON ({fault['ctx']['error']})"
    found = "" if fault["type"] in NOT_SHOWN else f", not {brief(fault['input'])}"
    return f"{where}: {said}{found}"


def brief(value: Any) -> str:
    """Show a value on one line, a text in quotes, and not longer than it must be."""
    return repr(value) if isinstance(value, str) and len(value) <= SHOWN else reprlib.repr(value)


def brief_name(name: str) -> str:
    """Show a key on one line, without quotes where it needs none."""
    return name if name.isprintable() and len(name) <= SHOWN else reprlib.repr(name)


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {brief(twice)} is there twice")


def _check_finite(number: str) -> None:
    if not math.isfinite(float(number)):
        raise ValueError(f"{number[:30]} is not a finite number")
