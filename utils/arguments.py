"""Command-line options: dataclasses whose fields are options, and types that argparse refuses with one sentence."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import inf, isfinite
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from utils.errors import UserError
from utils.names import shown


class Options:
    """Base of frozen dataclasses of options; a program's inherits from several, each a group of its `--help`."""

    exclusive: ClassVar[bool] = False  # whether one of a class's own fields must be given, and no other of them
    short_for: ClassVar[Mapping[str, tuple[str, Any, str]]] = {}  # flag -> which field it sets, to what, and its help

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    def given(self, names: Iterable[str]) -> dict[str, Any]:
        """Select those that the command line has, or, of options made without one, that do not have their defaults."""
        named = vars(self).get("named")
        if named is None:
            named = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        return {name: getattr(self, name) for name in names if name in named}

    def first_given(self, names: Iterable[str]) -> str | None:
        """Name the first of these options that is `given`; None if there is none."""
        return next(iter(self.given(names)), None)

    def mistake(self) -> str | None:
        """Say what is wrong with options that are right one by one; None if nothing is."""
        return None


OptionsT = TypeVar("OptionsT", bound=Options)


class Parser(argparse.ArgumentParser):
    """Reads a command line, on which names of files may stand in the place of options.

    Options are given by their whole names, so that none means another when a new one begins like it.
    """

    def __init__(self, *words: Any, **settings: Any) -> None:
        super().__init__(*words, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        super().error(shown(message))

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and "--" in arg_strings:  # which some versions of Python drop, as if there was nothing
            self.error(f"argument {action.option_strings[0]}: '--' is no value")
        return super()._get_values(action, arg_strings)


def option(help: str, default: Any = None, **settings: Any) -> Any:
    """Make a field an option; what its type does not say, `settings` of argparse's `add_argument` do.

    A subclass may give it another default, `seed: Seed = 111`. The help ends in the default, or says it itself.
    """
    return field(default=default, metadata={"help": help, **settings})


def required(help: str, **settings: Any) -> Any:
    """Make a field an option that must be given."""
    return field(metadata={"help": help, **settings})


def flag(help: str) -> Any:
    """Make a field an option that is true if it is given."""
    return option(help, False, action="store_true")


class _RaisingParser(Parser):
    """Raises a mistake, where there is no program to end."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse(
    kind: type[OptionsT], description: str | None, arguments: Sequence[str] | None, parser_type: type[Parser] = Parser
) -> OptionsT:
    """Read the command line, by default the process's own; a mistake ends the program, as argparse does it."""
    parser = parser_type(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    hints, final = get_type_hints(kind, include_extras=True), {one.name: one for one in fields(kind)}
    first_defined = {name: part for part in kind.__mro__ for name in vars(part).get("__annotations__", ())}
    needed: list[str] = []  # what stands in the usage, which would be a page with all options
    for part in kind.__mro__[:-2]:  # but for `Options` and `object`; the first to define an option groups it
        group = parser.add_argument_group(part.__doc__.partition("\n")[0].rstrip("."))
        own = [one for one in fields(part) if first_defined[one.name] is part]
        if "exclusive" in vars(part):
            group = group.add_mutually_exclusive_group(required=True)
            needed.append(f"({' | '.join(f'--{one.name}' for one in own)})")
        for one in own:
            default = final[one.name].default
            settings = {**_settings_of(hints[one.name]), **(final[one.name].metadata or one.metadata)}
            if not isinstance(default, bool | None) and default is not MISSING and "default" not in settings["help"]:
                settings["help"] += f" (default: {default})".replace("%", "%%")
            if not (positional := settings.pop("positional", False)):
                settings |= {"required": True} if default is MISSING else {"default": argparse.SUPPRESS}
            if positional or default is MISSING:
                value = settings.get("metavar", one.name.upper()) + " ..." * (settings.get("nargs") == "+")
                needed.append(value if positional else f"--{one.name} {value}")
            group.add_argument(one.name if positional else f"--{one.name}", **settings)
        for name, (target, value, help) in vars(part).get("short_for", {}).items():
            settings = {"dest": target, "const": value, "default": argparse.SUPPRESS, "help": help}
            group.add_argument(name, action="store_const", **settings)
    parser.usage = " ".join(["%(prog)s", *needed, "[options]"])
    values = vars(parser.parse_args(arguments))
    options = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    object.__setattr__(options, "named", frozenset(values))  # see `Options.given`
    if mistake := options.mistake():
        parser.error(mistake)
    return options


def options_from(kind: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    """Make options of Python values by name, checked as on the command line; None gives the default.

    A mistake is a `UserError`.
    """
    hints, names, words = get_type_hints(kind), [one.name for one in fields(kind)], []
    for name, value in values.items():
        if name not in names:
            raise UserError(f"there is no option '{name}': choose from {', '.join(names)}")
        if isinstance(value, bool) and bool in (hints[name], *get_args(hints[name])):
            words += [f"--{name}"] if value else [f"--no-{name}"] if hints[name] is not bool else []
        elif isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        elif value is not None:
            words.append(f"--{name}={value}")
    return parse(kind, None, words, _RaisingParser)


def _settings_of(hint: Any) -> dict[str, Any]:
    """Give argparse's settings of a field by its type, None aside: `tuple[int, ...]` takes several, and so on."""
    if NoneType in get_args(hint):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is tuple:
        return {"nargs": "+", **_settings_of(get_args(hint)[0])}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is Annotated:
        return {"type": get_args(hint)[1]}
    return {"type": {str: given_text, Path: given_path}.get(hint, hint)}


def plain_record(options: Options) -> dict[str, Any]:
    """Convert options to data that JSON and a checkpoint may hold: paths to text, tuples to lists."""
    return json.loads(json.dumps(asdict(options), default=str))


def _checked(kind: Callable[[str], Any], holds: Callable[[Any], bool], said: str) -> Callable[[str], Any]:
    """Make a type of values for which a condition holds; others are refused with what is `said` of them."""

    def checked(text: str) -> Any:
        with suppress(ValueError):
            value = kind(text)
            if holds(value):
                return value
        raise argparse.ArgumentTypeError(f"'{text}' is not {said}")

    return checked


def _is_intensity(text: str) -> bool:
    low, high = (0.0, 1.0) if text in ("auto", "full") else map(float, text.split(","))
    return -inf < low < high < inf


positive_int = _checked(int, lambda value: 1 <= value < 1 << 31, "a whole number from 1 to 2^31 - 1")
non_negative_int = _checked(int, lambda value: 0 <= value < 1 << 31, "a whole number from 0 to 2^31 - 1")
seed = _checked(int, lambda value: 0 <= value < 1 << 32, "a whole number from 0 to 2^32 - 1")
mask_threshold = _checked(int, lambda value: 0 <= value < 255, "a whole number from 0 to 254")
# Nothing is what a shell makes of a variable that is not set: it would be the default, or the working folder.
given_text = _checked(str, str.strip, "a text of more than space")
given_path = _checked(lambda text: text.strip() and Path(text), bool, "a path")


PositiveInt = Annotated[int, positive_int]
NonNegativeInt = Annotated[int, non_negative_int]
ProcessCount = Annotated[int, _checked(int, lambda value: 1 <= value <= 256, "a whole number from 1 to 256")]
WorkerCount = Annotated[int, _checked(int, lambda value: 0 <= value <= 256, "a whole number from 0 to 256")]
Side = Annotated[int, _checked(int, lambda value: 1 <= value <= 1 << 15, "a whole number from 1 to 32768")]
TileSide = Annotated[int, _checked(int, lambda value: 16 <= value <= 1 << 15, "a whole number from 16 to 32768")]
Port = Annotated[int, _checked(int, lambda value: 1 <= value < 1 << 16, "a whole number from 1 to 65535")]
Overlap = Annotated[float, _checked(float, lambda value: 0 <= value <= 0.9, "a number from 0 to 0.9")]
Scale = Annotated[float, _checked(float, lambda value: 0.01 <= value <= 16, "a number from 0.01 to 16")]
Sigma = Annotated[float, _checked(float, lambda value: 0 <= value <= 1000, "a number from 0 to 1000")]
Seed = Annotated[int, seed]
MaskThreshold = Annotated[int, mask_threshold]
PositiveFloat = Annotated[float, _checked(float, lambda value: 0 < value < inf, "a number above 0")]
NonNegativeFloat = Annotated[float, _checked(float, lambda value: 0 <= value < inf, "a number of at least 0")]
FiniteFloat = Annotated[float, _checked(float, isfinite, "a finite number")]
Percentage = Annotated[float, _checked(float, lambda value: 0 < value < 100, "a number between 0 and 100")]
Rate = Annotated[float, _checked(float, lambda value: 1e-9 <= value < 1, "a number from 1e-9 to less than 1")]
Share = Annotated[float, _checked(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")]
Text = Annotated[str, _checked(str.strip, str.encode, "a text in UTF-8, of more than space")]
Intensity = Annotated[
    str, _checked(str, _is_intensity, "auto, full, or two numbers LO,HI of which the second is larger")
]


def as_given(value: object) -> str:
    """Write an option's value as a user knows it, for a message."""
    if value is None:
        return "not given"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
