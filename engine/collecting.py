"""All runs below some folders in one table: their rows, what keeps them from being compared, and published numbers."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from engine.published import FACTS, not_comparable, published_numbers
from engine.rows import FILE, CollectedRun, Row, read_rows
from engine.saved_runs import Results, read_run
from engine.seeds import seed_tables
from utils.errors import UserError, some_of
from utils.files import walk, write_text
from utils.json_files import parse_json, read_json, read_text
from utils.names import log_to_terminal, shown
from utils.results import bullets, markdown_table, percent
from utils.runtime import locked

logger = logging.getLogger(__name__)

# Keys whose values differ between the rows of a run.
OF_A_CLASS = ("class_name", "images", "notes", "measures", "intervals")
BRIEF = "left out, as they do not say how they were made (validations of trainings, tests by early versions): {}"


def collect(paths: Sequence[Path], save_path: Path | None) -> int:
    """Print a table of all runs below folders, or in files of rows, and write it to a folder if one is given.

    Returns 1 if something was left out as it is damaged, else 0.
    """
    log_to_terminal()
    runs, damaged, left_out = collected_runs(paths)
    for sentence in (*damaged, *left_out):  # which stand below the table as well
        logger.warning("%s", sentence)
    if not runs:
        raise UserError(f"--collect {' '.join(map(str, paths))}: no results of a test are there")
    runs = sorted(runs, key=_order)
    blocks = ["# Runs", *_table(runs), bullets([*damaged, *left_out]), *seed_tables(runs)]
    text = "\n\n".join(filter(None, blocks)) + "\n"
    print(shown(text, keep="\n"), end="")
    if save_path is not None:
        with locked(save_path):
            write_text(save_path / "collect.md", text)
    return int(bool(damaged))


def collected_runs(paths: Sequence[Path]) -> tuple[list[CollectedRun], list[str], list[str]]:
    """Read the runs, and say in a sentence each what is damaged, and what else was left out."""
    damaged: list[str] = []
    brief: list[str] = []
    seen: dict[str, Path] = {}  # row -> the first file that has it
    twice: dict[tuple[Path, Path], list[str]] = {}
    runs: dict[tuple[Path, str], dict[str | None, Row]] = {}
    for file in dict.fromkeys(file for path in paths for file in _files(path)):
        for where, row in _rows(file, damaged, brief):
            text = json.dumps(row, sort_keys=True)
            if text in seen:
                twice.setdefault((file, seen[text]), []).append(where)
                continue
            seen[text] = file
            run = {key: value for key, value in row.items() if key not in OF_A_CLASS}
            own = runs.setdefault((file, json.dumps(run, sort_keys=True)), {})
            if row["class_name"] in own:
                damaged.append(f"{where}: left out, as this run has other figures of the same class above")
            own.setdefault(row["class_name"], row)
    for file, own in ((file, own) for (file, _), own in runs.items() if None not in own):
        damaged.append(f"{file}: the mean over the classes is missing of {next(iter(own.values()))['command']}")
    left_out = [BRIEF.format(some_of(brief))] if brief else []
    for (_, first), wheres in twice.items():
        more = f" and {len(wheres) - 1} more" if len(wheres) > 1 else ""
        left_out.append(f"{wheres[0]}{more}: left out, as {first} has the same")
    return [CollectedRun(file, own) for (file, _), own in runs.items() if None in own], damaged, left_out


def _files(path: Path) -> Iterator[Path]:
    """Find the files of rows below a folder, and for each run that has none, its results.json."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise UserError(f"--collect {path}: there is no such file or folder")
    for folder, names in sorted(walk(path)):
        if found := next((name for name in (FILE, "results.json") if name in names), None):
            yield folder / found


def _rows(file: Path, damaged: list[str], brief: list[str]) -> Iterator[tuple[str, Row]]:
    """Read the rows of a file, and where each is; what is damaged goes to one list, a file that is brief to another."""
    try:
        if file.suffix == ".json":
            content = read_json(file, Results)
            if "arguments" in content:
                yield from ((str(file), row) for row in read_rows(content, file))
            else:
                brief.append(str(file))
            return
        text = read_text(file, str(file))
    except UserError as error:
        damaged.append(f"left out: {error}")
        return
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{file}, line {number}"
        try:
            if line.strip():
                yield where, parse_json(line, Row, where)
        except UserError as error:
            damaged.append(f"left out: {error}")


def _table(runs: Sequence[CollectedRun]) -> Iterator[str]:
    """Make the table of all runs, those of a method on a data set above what was published; and the notes on them."""
    measures = list(dict.fromkeys(key for run in runs for key in run.mean["measures"]))
    rows: list[dict[str, str]] = []
    notes: dict[str, list[int]] = {}
    for (name, method, dataset), group in groupby(enumerate(runs, 1), lambda one: one[1].group):
        listed, published = _published(method, dataset)
        for number, run in group:
            rows.append(_cells(run, measures) | {"#": str(number), "remarks": ", ".join(_remarks(run, runs)) or "-"})
            for note in (*run.notes, *(_not_comparable(run) if published else ())):
                notes.setdefault(note, []).append(number)
        if published:
            values = {key: f"{value:.1f}" for key, value in published.items() if key in measures}
            title = {"data set": name, "method": f"{listed}, published"}
            rows.append(dict.fromkeys(rows[0], "-") | title | values)
    columns = [key for key in rows[0] if key in measures or any(row[key] != "-" for row in rows)]
    yield markdown_table(columns, [[row[key] for key in columns] for row in rows], text_column=1)
    said = [f"{', '.join(map(str, numbers))}: {note}" for note, numbers in notes.items()]
    yield bullets([f"in percent; published: {FACTS['source']}; results/README.md explains the columns", *said])


def _order(run: CollectedRun) -> tuple[object, ...]:
    mean = run.mean
    numbers = (mean[key] or 0 for key in ("epoch", "shots", "shots_seed", "seed"))
    return (*run.group, run.model, mean["trained_on"] or [], mean["settings_sha256"], *numbers, str(run.file))


def _cells(run: CollectedRun, measures: Iterable[str]) -> dict[str, str]:
    mean = run.mean
    draw = "" if mean["shots_seed"] is None else f", seed {mean['shots_seed']}"
    cells = {
        "#": None,
        "data set": run.data_set,
        "method": mean["method"],
        "model": run.model,
        "trained on": " ".join(mean["trained_on"] or ["-"]),
        **{key: mean[key] for key in ("seed", "epoch")},
        "shots": f"{mean['shots'] or '-'}{draw}",
        **{key: percent(mean["measures"].get(key), mean["intervals"].get(key)) for key in measures},
        **{key: mean.get(key) for key in ("images", "fidelity", "rep_vec")},
        "settings": mean["settings_sha256"][:6],
        "weights": (mean["weights_sha256"] or "-")[:6],
        "commit": (mean["git_commit"] or "-")[:7],
        "date": mean["date"],
        "remarks": None,
        "folder": run.file.parent,
    }
    return {key: "-" if value is None else str(value) for key, value in cells.items()}


def _remarks(run: CollectedRun, runs: Sequence[CollectedRun]) -> Iterator[str]:
    """Say what keeps a run from being compared with the others; the usual weights and commit are those of most."""
    mean = run.mean
    if not mean["finished"]:
        yield "UNFINISHED"
    if mean["whole_data_set"] is not True:
        yield "part of the data set" if mean["whole_data_set"] is False else "perhaps part of the data set"
    if mean["weights_sha256"] != _usual(one.mean["weights_sha256"] for one in runs if one.model == run.model):
        yield "OTHER WEIGHTS"
    if mean["git_commit"] != _usual(one.mean["git_commit"] for one in runs):
        yield "other commit"
    if mean["git_dirty"]:
        yield "changed code"


def _usual(values: Iterable[str | None]) -> str | None:
    return Counter(values).most_common(1)[0][0]


def _published(method: str, dataset: str) -> tuple[str, dict[str, float]]:
    """Find the name and the numbers under which a method was published on a data set; none if it was not."""
    if method not in FACTS["implemented"] or dataset not in FACTS["data_sets"]:
        return "", {}
    listed = FACTS["implemented"][method]["listed_as"]
    return listed, published_numbers(method, dataset)[listed]


def _not_comparable(run: CollectedRun) -> list[str]:
    """Say why a run's figures may not be compared with the published ones, as far as its folder tells."""
    with suppress(UserError):
        saved = read_run(run.file.parent)
        if run.mean in read_rows(saved.content, saved.folder / "results.json"):
            reasons = not_comparable(saved, FACTS["implemented"][run.mean["method"]]["preset"])
            return [f"not comparable with what was published: {reason}" for reason in reasons]
    return ["not known whether it is comparable with what was published: no finished results.json with its scores.csv"]
