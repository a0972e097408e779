"""JSON from outside: what is read, and that all else is refused by file, entry and key, soon and in one sentence."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from utils import json_files
from utils.errors import UserError
from utils.json_files import parse_json, read_json, validate

TWICE = ": not valid JSON (the key '0' is there twice)"


@dataclass
class Part:
    """A schema of the kind that the project has."""

    name: str
    sizes: tuple[int, ...]
    inner: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == "nobody":
            raise ValueError("nobody is no name")


def refusal(text: str, kind: Any = Part) -> str:
    with pytest.raises(UserError) as caught:
        parse_json(text, kind, "parts.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


def test_what_fits_is_read_and_numbers_and_lists_become_what_the_type_says(tmp_path):
    path = tmp_path / "parts.json"
    path.write_text('{"name": "ü", "sizes": [1, 2], "inner": {"a": [1]}, "more": null}', encoding="utf-8-sig")
    assert read_json(path, Part) == Part("ü", (1, 2), {"a": [1.0]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": not valid JSON"),
        ('{"name": "a",}', ": not valid JSON"),
        ("3", ": should be an object, not 3"),
        ('{"sizes": []}', ", name: Field required"),
        ('{"name": 3, "sizes": []}', ", name: should be a valid string, not 3"),
        ('{"name": "a", "sizes": [1, "2"]}', ", sizes entry 2: should be a valid integer, not '2'"),
        ('{"name": "a", "sizes": [true]}', ", sizes entry 1: should be a valid integer, not True"),
        ('{"name": "a", "sizes": [], "inner": {"b": [null]}}', ", inner/b entry 1: should be a valid number, not None"),
        ('{"name": "a", "sizes": [], "inner": {"\\u001b[2J": 1}}', r", inner/'\x1b[2J': should be a valid array"),
        ('{"name": "nobody", "sizes": []}', ": nobody is no name"),
        ('{"name": "a", "sizes": [], "sizes": [1]}', ": not valid JSON (the key 'sizes' is there twice)"),
        ('{"name": "a", "sizes": [], "more": {"b": 1, "b": 1}}', ": not valid JSON (the key 'b' is there twice)"),
        ('{"name": "a", "sizes": [], "more": [NaN]}', ": not valid JSON (NaN is not a finite number)"),
        ('{"name": "a", "sizes": [], "more": -1e999}', ": not valid JSON (-1e999 is not a finite number)"),
        ('{"name": "a", "sizes": [' + "1" * 5000 + "]}", ": not valid JSON"),
        ('{"name": "a", "sizes": [NaN]}', ", sizes entry 1: should be a "),
        ('{"name": "\\ud800", "sizes": []}', ": not valid JSON"),
        ('{"name": "a", "sizes": [], "more": ' + "[" * 300 + "]" * 300 + "}", ": not valid JSON (recursion limit"),
        ("[" * 1_000_000, ": not valid JSON"),
        ('{"a": ' * 100_000, ": not valid JSON"),
        ('{"name": "a", "sizes": [], ' + ", ".join(f'"{i % 49_999}": 1' for i in range(50_000)) + "}", TWICE),
    ],
    ids=lambda text: text[:40],
)
def test_what_does_not_fit_is_refused_by_entry_and_key(text, said):
    assert refusal(text).startswith(f"parts.json{said}")


def test_plain_data_may_be_text_where_a_number_is_asked_for():
    assert validate({"name": "a", "sizes": ["1", 2]}, Part, "part").sizes == (1, 2)
    circle: list[Any] = []
    circle.append(circle)
    for sizes in (["x"], circle, 3, [0.5]):
        with pytest.raises(UserError, match=r"^part, sizes"):
            validate({"name": "a", "sizes": sizes}, Part, "part")


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "large", "latin"])
def test_a_file_that_is_not_read_is_named_with_its_option(tmp_path, monkeypatch, kind):
    path: Path = tmp_path / kind
    said = {
        "absent": "cannot be read, No such file or directory",
        "folder": "not a regular file",
        "pipe": "not a regular file",
        "large": "larger than",
        "latin": "cannot be read, it is not UTF-8 text",
    }
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        monkeypatch.setattr(json_files, "LARGEST", 10)
        path.write_text(json.dumps("a" * 20))
    elif kind == "latin":
        path.write_bytes('"ü"'.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        read_json(path, str, "--parts")
    assert str(caught.value).startswith(f"--parts {path}: {said[kind]}")
