"""Command-line arguments: types that argparse refuses with one sentence, and values as messages show them."""

import argparse


def positive_int(text: str) -> int:
    """An integer of at least 1."""
    value = _number(text, int)
    if not 1 <= value < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to 2^31 - 1")
    return value


def non_negative_int(text: str) -> int:
    """An integer of at least 0."""
    value = _number(text, int)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return value


def finite_float(text: str) -> float:
    """A finite number."""
    value = _number(text, float)
    if not -float("inf") < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def positive_float(text: str) -> float:
    """A finite number above 0."""
    value = _number(text, float)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def non_negative_float(text: str) -> float:
    """A finite number of at least 0."""
    value = _number(text, float)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def percentage(text: str) -> float:
    """A number above 0 and below 100."""
    value = _number(text, float)
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 100")
    return value


def rate(text: str) -> float:
    """A number above 0 and below 1."""
    value = _number(text, float)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(text, float)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def seed(text: str) -> int:
    """A seed that every library takes."""
    value = non_negative_int(text)
    if value >= 1 << 32:
        raise argparse.ArgumentTypeError(f"{text} is not below 2^32")
    return value


def non_empty(text: str) -> str:
    """Text that is more than space."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text.strip()


def as_given(value: object) -> str:
    """An option's value as a user knows it, for a message."""
    if value is None:
        return "not given"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(text, kind):
    try:
        return kind(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"'{text}' is not {wanted}") from error
