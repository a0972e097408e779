"""Files of a data set's folder: images and folders in natural order, and CSV tables."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets.images import IMAGE_SUFFIXES
from utils.errors import UserError


def list_images(folder: Path) -> list[Path]:
    """List the images directly in `folder`, in natural order; none if there is no such folder."""
    return [path for path in _visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def list_folders(folder: Path) -> list[Path]:
    """List the folders directly in `folder`, in natural order; none if there is no such folder."""
    return [path for path in _visible(folder) if path.is_dir()]


def subfolder(folder: Path, name: str) -> Path:
    """Find the folder `name` in `folder`, whichever case it is written in; `folder / name` if there is none."""
    same = (path for path in list_folders(folder) if path.name.lower() == name.lower())
    return min(same, key=lambda path: path.name != name, default=folder / name)


def _visible(folder: Path) -> list[Path]:
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror}") from error
    return sorted(paths, key=lambda path: (_natural_key(path.name), path.name))


def _natural_key(name: str) -> list[int | str]:
    """A key that sorts `2.png` before `10.png`."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"(\d+)", name))]


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Read the wanted columns of a CSV file with a header; space around names and values is dropped.

    Yields:
        the line's number in the file, and its values in the order of `columns`.

    Raises:
        UserError: the file cannot be read, or lacks a column, or a line lacks a value.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if missing := [name for name in columns if name not in header]:
                raise UserError(f"{path} has no column '{missing[0]}'; it needs {', '.join(columns)}")
            places = [header.index(name) for name in columns]
            for row in filter(None, reader):
                if len(row) <= max(places):
                    raise UserError(f"{path}, line {reader.line_num}: too few values")
                yield reader.line_num, [row[place].strip() for place in places]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
