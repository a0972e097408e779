"""Options from Python values: what the command line takes and refuses, under the same names."""

from pathlib import Path
from typing import Literal

import pytest

from utils.arguments import Options, PositiveInt, Text, flag, option, options_from, parse, required
from utils.errors import UserError


class Choices(Options):
    """What a program in a test has."""

    count: PositiveInt | None = option("a number")
    blocks: tuple[PositiveInt, ...] | None = option("numbers")
    name: Text = option("a text", "none")
    kind: Literal["a", "b"] = option("a choice", "a")
    file: Path | None = option("a file")
    fast: bool = flag("whether")
    relu: bool | None = option("whether, if it is said")

    def mistake(self) -> str | None:
        return "--fast is not for b" if self.fast and self.kind == "b" else None


@pytest.mark.parametrize(
    "values, words",
    [
        ({}, []),
        ({"count": None, "blocks": None, "relu": None}, []),
        ({"count": 3, "blocks": [1, 2]}, ["--count", "3", "--blocks", "1", "2"]),
        ({"blocks": (7,), "name": "-x = y"}, ["--blocks", "7", "--name=-x = y"]),
        ({"file": Path("a b"), "kind": "b"}, ["--file", "a b", "--kind", "b"]),
        ({"fast": True, "relu": False}, ["--fast", "--no-relu"]),
        ({"fast": False, "relu": True}, ["--relu"]),
    ],
)
def test_values_give_the_options_that_the_command_line_does(values, words):
    assert options_from(Choices, values) == parse(Choices, None, words)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"count": 0}, "argument --count: '0' is not a whole number from 1"),
        ({"count": True}, "argument --count: 'True' is not"),
        ({"count": 2.5}, "argument --count: '2.5' is not"),
        ({"count": (1, 2)}, "unrecognized arguments: 2"),
        ({"blocks": (1, -2)}, "argument --blocks: '-2' is not"),
        ({"blocks": ()}, "argument --blocks: expected at least one argument"),
        ({"name": " "}, "argument --name: ' ' is not a text"),
        ({"kind": "c"}, "argument --kind: invalid choice: 'c'"),
        ({"fast": "yes"}, "argument --fast: ignored explicit argument 'yes'"),
        ({"cout": 3}, "there is no option 'cout': choose from count, blocks, name, kind, file, fast, relu"),
        ({"coun": 3}, "there is no option 'coun'"),
        ({"exclusive": True}, "there is no option 'exclusive'"),
        ({"fast": True, "kind": "b"}, "--fast is not for b"),
    ],
)
def test_a_mistake_is_raised_in_the_command_lines_sentence(values, message, capsys):
    with pytest.raises(UserError) as caught:
        options_from(Choices, values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_an_option_is_not_guessed_from_its_first_letters(capsys):
    with pytest.raises(SystemExit):
        parse(Choices, None, ["--coun", "3"])
    assert "unrecognized arguments: --coun 3" in capsys.readouterr().err


def test_the_usage_says_what_must_be_given_and_where_several_may_be(capsys):
    class Needing(Choices):
        """What must be given."""

        files: tuple[str, ...] = required("files", positional=True, metavar="FILE")
        sets: tuple[Text, ...] = required("sets", metavar="NAME")
        output: Path = required("a file")

    with pytest.raises(SystemExit):
        parse(Needing, None, ["--help"])
    usage = capsys.readouterr().out.splitlines()[0]
    assert usage.endswith(" FILE ... --sets NAME ... --output OUTPUT [options]")


def test_given_is_what_the_command_line_has_even_where_it_says_the_default():
    names = ("kind", "name", "count", "fast")
    assert parse(Choices, None, ["--kind", "a", "--count", "3"]).given(names) == {"kind": "a", "count": 3}
    assert options_from(Choices, {"name": "none", "count": None}).given(names) == {"name": "none"}
    assert parse(Choices, None, []).first_given(names) is None
    assert Choices(kind="a", name="b").given(names) == {"name": "b"}
