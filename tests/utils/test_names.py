"""How names are shown that would do something to a terminal or a log, or that no encoding can write."""

import csv
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

import predict
from data.found import read_csv
from tests import tiny_clip
from tests.forked import run_forked
from utils.arguments import Parser
from utils.errors import ERROR, Problem, UserError, run, summary
from utils.files import write_csv
from utils.names import LogFormatter, shown

HOSTILE = [
    b"caf\xe9.png",
    b"title\x1b]0;pwned\x07.png",
    b"clear\x1b[2J.png",
    b"c1\xc2\x9b2J.png",
    b"\xe2\x80\xaegnp.png",
]
HOSTILE += [b"line\n2026-01-01 00:00:00,000 ERROR forged.png", b"\rback.png"]


@pytest.mark.parametrize(
    "name, said",
    [
        ("plain ä 日本 🙂 \u3000wide", "plain ä 日本 🙂 \u3000wide"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x7f\x9b\u202e\u2028", r"\x7f\x9b\u202e\u2028"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
    ],
)
def test_what_is_no_printable_character_is_escaped(name, said):
    assert shown(name) == said
    assert str(UserError(f"cannot read {name}")) == f"cannot read {said}"
    assert summary([Problem(ERROR, name, "look")]).splitlines()[1:] == [f"error: {said}; look"]


@pytest.mark.parametrize(
    "message, arguments, said",
    [
        ("reading %s", ["a\nINFO b"], r"INFO reading a\nINFO b"),
        ("%s", [UserError("a\nb")], r"INFO a\nb"),
        ("table\n%s", ["a\n\x1bb"], "INFO table\na\n\\x1bb"),
    ],
)
def test_only_a_message_of_several_lines_has_several_in_the_log(message, arguments, said):
    record = logging.LogRecord("", logging.INFO, "", 0, message, tuple(arguments), None)
    assert LogFormatter("%(levelname)s %(message)s").format(record) == said


def test_a_name_on_the_command_line_is_shown(capsys):
    with pytest.raises(SystemExit):
        Parser("prog").parse_args(["--\x1b[2J"])
    assert capsys.readouterr().err.endswith("prog: error: unrecognized arguments: --\\x1b[2J\n")


def test_an_error_that_ends_a_program_is_shown(capsys):
    with pytest.raises(SystemExit):
        run(lambda: open("no\x1b[2J\nfile"))  # noqa: PTH123, SIM115
    assert capsys.readouterr().err == "error: cannot use no\\x1b[2J\\nfile: No such file or directory\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> list[str]:
    config, weights = tiny_clip.save(tmp_path_factory.mktemp("model"))
    return ["--model", str(config), "--pretrained", str(weights), "--num_workers", "0"]


@pytest.mark.parametrize("listed", [False, True], ids=["folder", "list"])
def test_a_prediction_of_files_with_hostile_names_shows_them(model, bolts, tmp_path, listed):
    """Some of them broken: these are named in warnings."""
    folder, broken = tmp_path / "in", 0
    folder.mkdir()
    for name in HOSTILE:
        try:
            (folder / os.fsdecode(name)).touch()
            broken += 1
        except OSError:
            continue  # a file system that demands UTF-8
    shutil.copy(next(bolts.rglob("*.png")), folder / "=1+1.png")
    names = [os.fsencode(path) for path in folder.iterdir() if b"\n" not in os.fsencode(path)]
    broken -= listed and broken > 1  # a list has no names of several lines

    def main() -> int:
        os.chdir(folder)
        (tmp_path / "list").write_bytes(b"\n".join(names) + b"\n")
        sys.stdin = (tmp_path / "list").open(encoding="utf-8")
        return predict.main(["-" if listed else ".", "--save_path", str(tmp_path / "out"), *model])

    codes, printed = run_forked(main)
    log = (tmp_path / "out" / "predict.log").read_text(encoding="utf-8")
    assert codes == [1], printed
    assert f"1 image predicted; {broken} could not be" in log
    for text in (printed, log):
        assert "Logging error" not in text
        assert "Traceback" not in text
        assert all(line.isprintable() for line in text.splitlines()), text
        assert not any(line.startswith("2026-01-01") for line in text.splitlines())
        assert text.count("WARNING") == broken
    assert log.count("\n") == log.count(" INFO ") + broken
    with (tmp_path / "out" / "scores.csv").open(newline="", encoding="utf-8") as file:
        assert len([row for row in csv.DictReader(file) if row["error"]]) == broken


def test_formulas_in_a_table_are_quoted_and_read_as_they_were(tmp_path):
    names = ["=1+1", "+a.png", "-a/b.png", "@SUM(A1)", "\tx", "plain.png", "'plain", "'=quoted", "''=twice", "a=b"]
    path = Path(tmp_path / "table.csv")
    write_csv(path, ["image", "score"], [{"image": name, "score": -0.5} for name in names])
    with path.open(newline="") as file:
        cells = [row["image"] for row in csv.DictReader(file)]
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]
    assert cells[5:8] == ["plain.png", "'plain", "''=quoted"]
    assert [image for _, (image, _) in read_csv(path, ["image", "score"])] == names
    assert {score for _, (_, score) in read_csv(path, ["image", "score"])} == {"-0.5"}
