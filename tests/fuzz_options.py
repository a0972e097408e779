"""Runs every entry point with junk, extremes and absent files for each of its options, and checks how it ends.

    python -m tests.fuzz_options                     # 2000 runs, of all programs
    python -m tests.fuzz_options --runs 100000       # every value of every option, and pairs
    python -m tests.fuzz_options --only test_sdp predict --seed 3

A program is to do its work with exit code 0, or to refuse in a sentence: no traceback, no crash, no standstill, no end
with 0 where a value is nonsense, and no file that is half-written or holds numbers that are not finite. Options are
taken from the programs' own parsers, so that a new one is tried by itself. The same seed gives the same runs.
"""

import argparse
import contextlib
import importlib
import itertools
import json
import os
import random
import resource
import shutil
import stat
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from models.checkpoints import read_checkpoint
from tests import small_data, tiny_clip
from tests.faults import PRELOADED, READERS, broken_files
from tests.forked import free_port, run_forked
from utils.arguments import non_negative_int, positive_int
from utils.errors import run

CPU_SECONDS = 60  # of a run; one that does its work takes some two
MEMORY = 6 << 30  # bytes of a run, beside those of this process
FILES = 512  # that a run has open, which also ends one that starts processes without end
# How much is to be done: what is asked for is done, all images of the machine included.
LONG = ("epochs", "bootstrap", "steps", "pairs", "validation_pairs", "inputs", "normal_dir")

NO_NUMBERS = ("", " ", "x", "nan", "None", "1,5", "1.5.2", "0x10", "--", "1e", "\x1b[31m", "\udcff", "9" * 5000)
NO_WHOLE_NUMBERS = (*NO_NUMBERS, "1.5", "inf", "-inf", "1e3")
NUMBERS = ("0", "1", "-1", "2", "3", "7", "-0", "+1", " 2", "1_0", "2147483647", "2147483648", "9223372036854775807")
NUMBERS += ("18446744073709551616", "1" + "0" * 30, "-9223372036854775809")
FRACTIONS = ("0.5", "0.0", "-0.5", "5e-324", "1e-300", "1e300", "1.7976931348623157e308", "1e400", "inf", "-inf")
FRACTIONS += ("99.99999999999999999", "0.99999999999999999")
NO_NAMES = ("", " ", "\t", "no such thing", "-", "--", "=", "{}", "%s", "\x1b]0;title\x07", "a\nb", "\udcff\udcfe", "*")
NO_NAMES += ("a" * 5000, "x/" * 2000, "../" * 50, "~", "$HOME", "file:///etc/passwd", "http://", "a\\b", "\u202e", "é")
WORDS = ("{}", "%s", "a\nb", "\x1b[31m", "\udcff", "é", "\u202e", "a" * 5000, "{0}", "\\", "'", '"', "🔩")
WORDS += ("<|endoftext|>",)

FREE = ("obj_name", "object")  # any text but none
WRITTEN = ("save_path", "cache_dir", "out", "output")  # paths that need not be there
ALSO_WRITTEN = {"demo.draw": ("root",)}
MUST_BE_REFUSED = True

Values = Mapping[str, Sequence[str]]  # option -> its values; that without a name is `inputs`


@dataclass(frozen=True)
class Case:
    """A program with options, of which some may have a value that must be refused."""

    program: str
    options: Values
    tried: tuple[str, ...]  # which were chosen
    nonsense: bool

    @property
    def arguments(self) -> list[str]:
        """The command line, with `=` before a single value so that it may begin with a dash."""
        words = list(self.options.get("command", ()))
        for name, values in self.options.items():
            if name not in ("command", "inputs"):
                words += [f"--{name}={values[0]}"] if len(values) == 1 else [f"--{name}", *values]
        inputs = self.options.get("inputs", ())
        return [*words, *(["--", *inputs] if inputs else [])]

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {[value[:60] for value in self.options[name]]}" for name in self.tried)
        return f"{self.program} with {shown or 'nothing'}"


class Ground:
    """A folder with all that programs need, in `folder`, and what they are to be given instead."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "work"
        self.junk, self.refused = folder / "junk", folder / "refused"
        late = ("engine.saved_maps", "engine.doctor", "engine.exporting", "engine.inspection", "demo.draw", "gradio")
        for name in (*PRELOADED, *late):
            importlib.import_module(name)
        config, weights = tiny_clip.save(folder / "model")
        prompts = folder / "prompts.json"
        prompts.write_text(json.dumps({"normal": ["a {}"], "anomalous": ["a bad {}"], "templates": ["{}."]}))
        bolts = small_data.make(folder / "bolts", ("bolt",))
        cogs = small_data.make(folder / "cogs", ("cog",), seed=1)
        model = {"model": config, "pretrained": weights, "prompts": prompts, "cache_dir": folder / "cache"}
        run = {**model, "num_workers": 0, "batch_size": 2}
        tested = {**run, "dataset": "mvtec", "data_path": bolts, "save_path": "out"}
        trained = {**run, "train_dataset": "mvtec", "train_dataset_dir": bolts, "save_path": "out", "epochs": 1}
        predicted = {**run, "inputs": bolts / "bolt" / "test" / "square", "save_path": "out"}
        normal = {"normal_dir": cogs / "cog" / "test" / "good"}
        found = folder / "found"
        adapters, adapter = found / "train_sdp_plus" / "epoch_1.pth", found / "train_dp_clip" / "image_adapter.pth"
        runs = [found / "test_sdp", found / "test_sdp_plus"]
        measured = {"num_workers": 0, "dataset": "mvtec", "data_path": bolts, "save_path": "out"}
        drawn = {"train": 1, "normal": 1, "anomalous": 1, "size": 16, "workers": 1}
        taught = {"steps": 1, "pairs": 2, "validation_pairs": 2, "batch": 2, "sentences": 1, "threads": 1}
        bases: list[tuple[str, dict[str, Any]]] = [
            ("train_sdp_plus", trained),
            ("train_dp_clip", trained),
            ("test_sdp", {**tested, "save_maps": ()}),
            ("test_sdp_plus", {**tested, "checkpoint": adapters, "save_maps": ()}),
            ("test_dp_clip", {**tested, "checkpoint": adapter}),
            ("predict", predicted | normal),
            ("train_sdp_plus", {**trained, "test_dataset": "mvtec", "test_dataset_dir": cogs}),
            ("predict", {**predicted, "calibration": found / "predict" / "calibration.json"}),
            ("predict", {**predicted, "method": "sdp_plus", "checkpoint": adapters}),
            ("predict", {**predicted, "method": "dp_clip", "checkpoint": adapter}),
            ("evaluate", {**measured, "maps": found / "test_sdp" / "maps"}),
            ("evaluate", {"num_workers": 0, "compare": runs, "save_path": "out", "bootstrap": 3}),
            ("evaluate", {"published": found / "test_sdp"}),
            ("export", {**model, "output": "nut.onnx", "features_list": 1}),
            ("doctor", {**run, "dataset": "mvtec", "data_path": bolts}),
            ("reproduce", {"dataset": "mvtec", "data_path": bolts, "model": "demo", "rep_vec": "mean", "plan": ()}),
            ("app", {**model, "port": free_port()}),
            ("data.build", {"command": "mvtec", "root": bolts, "out": "meta.json"}),
            ("data.few_shot", {"dataset": "mvtec", "root": bolts, "shot": 1, "out": "few.jsonl"}),
            ("demo.draw", {**drawn, "root": "drawn"}),
            ("demo.train", {**taught, "output": "taught"}),
            ("demo.figure", {"run": found / "test_sdp", "output": "figure.jpg"}),
        ]
        self.bases = [(program, {name: _texts(value) for name, value in base.items()}) for program, base in bases]
        for program, base in self.bases[:6]:
            codes, said = self._run(Case(program, base, (), nonsense=False))
            if codes != [0]:
                raise AssertionError(f"{program} does not run: {said[-500:]}")
            shutil.copytree(self.work / "out", found / program)
        self._make_files()

    def _make_files(self) -> None:
        """Files and folders that no option can mean, each by what it is."""
        self.junk.mkdir()
        (self.junk / "folder").mkdir()
        (self.junk / "loop").symlink_to(self.junk / "loop")
        os.mkfifo(self.junk / "pipe")
        contents = {
            "empty": b"",
            "text": b"once upon a time\n" * 10,
            "noise": random.Random(0).randbytes(3000),
            "object.json": b'{"a": 1}',
            "deep.json": b"[" * 100_000,
            "deeper.json": b'{"normal":' * 5000,
            "twice.json": b'{"normal": ["a {}"], "normal": ["b {}"], "anomalous": ["c {}"], "templates": ["{}"]}',
            "numbers.json": b'{"text_prob": [NaN, 1e999], "map_max": [1, 2], "rate": 0.5, "origin": {}}',
            "list.jsonl": b'{"image_path": "absent.png", "label": 7}\n[[[[',
            "table.csv": b'image_path,score\na.png,"1\n',
            "zip.pth": b"PK\x03\x04" + bytes(200),
            "huge.safetensors": b"\xff" * 8 + b"{}",
            "image.png": b"\x89PNG\r\n\x1a\n" + bytes(50),
            "\udcff\x1b[31m.json": b"{",
        }
        for name, content in contents.items():
            (self.junk / name).write_bytes(content)
        self.refused.mkdir()  # what nothing may be written over
        (self.refused / "file").write_text("kept")
        os.mkfifo(self.refused / "pipe")
        with contextlib.suppress(OSError):  # which takes rights
            os.mknod(self.refused / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))

    def values_of(self, program: str, option: argparse.Action) -> Iterator[tuple[tuple[str, ...], bool]]:
        """Yield what to give an option, and whether that must be refused."""
        if option.nargs == 0:
            yield (), False
            yield ("x",), MUST_BE_REFUSED
            return
        kind, wanted = _kind(option), option.nargs if isinstance(option.nargs, int) else 1
        written = option.dest in WRITTEN or option.dest in ALSO_WRITTEN.get(program, ())
        good: Sequence[str] = ()
        if option.choices is not None:
            good, bad = [*map(str, option.choices)], NO_NAMES
        elif kind in (int, float):
            good = NUMBERS if kind is int else NUMBERS + FRACTIONS
            bad = NO_WHOLE_NUMBERS if kind is int else NO_NUMBERS
        elif option.dest in FREE:
            good, bad = WORDS, ("", " ", "\t")
        elif written:
            places = sorted(map(str, self.refused.iterdir()))
            good, bad = ("é", "\udcff", "a b", "new/deep/er"), ("", " ", *places, f"{places[0]}/x", "a" * 300)
            if option.dest == "out":  # a file, which is replaced
                bad = tuple(text for text in bad if not text.endswith("/file"))
            if option.dest == "cache_dir":  # which is warned of, and done without
                good, bad = (*good, *bad[2:]), bad[:2]
        else:
            bad = (*NO_NAMES, *sorted(map(str, self.junk.iterdir())))
        yield from (((text,) * wanted, False) for text in good)
        yield from (((text,) * wanted, MUST_BE_REFUSED) for text in bad)
        if option.nargs == "+" and good:
            yield tuple(good[:3]), False

    def cases(self, seed: int) -> Iterator[Case]:
        """Yield runs without end: each value of each option once, in an order by the seed, then pairs of options."""
        rng, singles, by_base = random.Random(seed), [], []
        for program, base in self.bases:
            options = {_name(option): option for option in options_of(program, base)}
            values = {name: list(self.values_of(program, option)) for name, option in options.items()}
            by_base.append((program, base, values))
            singles.append(Case(program, base, (), nonsense=False))
            for name, tried in values.items():
                singles += [Case(program, {**base, name: own}, (name,), nonsense) for own, nonsense in tried]
        rng.shuffle(singles)
        yield from singles
        while True:
            program, base, values = rng.choice(by_base)
            names = rng.sample(list(values), 2)
            chosen = {
                name: rng.choice([own for own, nonsense in values[name] if not nonsense] or [()]) for name in names
            }
            yield Case(program, {**base, **chosen}, tuple(names), nonsense=False)

    def problems(self, case: Case) -> list[str]:
        """Run a case, and list what is wrong with how it ended."""
        before = {path: stat.S_IFMT(path.lstat().st_mode) for path in self.refused.iterdir()}
        try:
            (code,), said = self._run(case)
        except AssertionError:
            return ["it stands still"]
        found = []
        if code not in (0, 1, 2) and not (code < 0 and any(name in LONG for name in case.tried)):
            found.append(f"it ends with {code}")
        if "Traceback (most recent call last)" in said or "--- Logging error ---" in said:
            found.append("a traceback")
        if code == 0 and case.nonsense:
            found.append("nonsense is accepted")
        if code == 2 and "error: " not in said:
            found.append("it does not say why")
        if "\x1b" in said.replace("\x1b[A", ""):  # by which bars of progress move
            found.append("an escape sequence reaches the terminal")
        if before != {path: stat.S_IFMT(path.lstat().st_mode) for path in self.refused.iterdir()}:
            found.append("what is no file was replaced")
        written = [path for path in self.work.rglob("*") if path.is_file()]
        found += broken_files([path for path in written if path.suffix in READERS and path.name != "few.jsonl"])
        found += [f"{path} has numbers that are not finite" for path in written if code == 0 and _is_not_finite(path)]
        return [f"{problem}: {' '.join(said.split())[-300:]}" for problem in found]

    def _run(self, case: Case) -> tuple[list[int], str]:
        """Run a case in an empty folder; returns its exit code and what it printed."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        return run_forked(partial(_run_program, case, self.work))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)


def _run_program(case: Case, folder: Path) -> int | None:
    """Do what the process of a case does."""
    limits = {resource.RLIMIT_CPU: CPU_SECONDS, resource.RLIMIT_FSIZE: 1 << 30, resource.RLIMIT_NOFILE: FILES}
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + MEMORY
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.modules["__main__"] = types.ModuleType("__main__")  # which a process that the program spawns need not import
    sys.argv = [f"{case.program.rpartition('.')[2]}.py", *case.arguments]
    if case.program == "app":  # which would serve its page without end
        importlib.import_module("gradio").Blocks.block_thread = lambda page: None
    return importlib.import_module(case.program).main()


def _name(option: argparse.Action) -> str:
    return option.option_strings[0].removeprefix("--") if option.option_strings else option.dest


def _kind(option: argparse.Action) -> type:
    """Of which type an option's values are, by what becomes of the text 1."""
    for text in ("1", "0.5"):
        with contextlib.suppress(Exception):
            return type((option.type or str)(text))
    return str


def options_of(program: str, base: Values) -> list[argparse.Action]:
    """List a program's options, by running it with a base of them until they are parsed."""
    parsers: list[argparse.ArgumentParser] = []
    parse = argparse.ArgumentParser.parse_known_args

    class Parsed(BaseException):
        """Ends the program, whatever it catches."""

    def recorded(self: argparse.ArgumentParser, *arguments: Any, **settings: Any) -> Any:
        parsers.append(self)
        result = parse(self, *arguments, **settings)
        if self is parsers[0]:
            raise Parsed
        return result

    argv = [program, *Case(program, base, (), nonsense=False).arguments]
    stopped = mock.patch.object(argparse.ArgumentParser, "parse_known_args", recorded)
    with stopped, mock.patch.object(sys, "argv", argv), contextlib.suppress(Parsed):
        importlib.import_module(program).main()
    ignored = (argparse._HelpAction, argparse._SubParsersAction)
    return [option for option in parsers[-1]._actions if not isinstance(option, ignored)]


def _is_not_finite(path: Path) -> bool:
    """Whether a checkpoint holds numbers that are not finite; JSON that does is broken."""
    if path.suffix not in (".pth", ".safetensors"):
        return False
    with tempfile.TemporaryDirectory() as folder:  # as safetensors are read by names in UTF-8 alone
        waiting: list[Any] = [read_checkpoint(Path(shutil.copy(path, Path(folder, f"file{path.suffix}"))))]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, torch.Tensor) and one.is_floating_point() and not one.isfinite().all():
            return True
    return False


def main() -> int:
    """Run the cases, and print what was wrong; 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=positive_int, default=2000, help="how many (default: %(default)s)")
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="which, and in which order (default: %(default)s)"
    )
    parser.add_argument("--only", nargs="+", metavar="PROGRAM", help="programs, such as test_sdp (default: all)")
    parser.add_argument("--options", nargs="+", metavar="NAME", help="runs in which these are tried (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(1)  # threads do not live through a fork
    runs, wrong = Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder))
        for case in itertools.islice(ground.cases(args.seed), args.runs):
            if args.only and case.program not in args.only:
                continue
            if args.options and not set(args.options) & set(case.tried):
                continue
            runs[case.program] += 1
            for problem in ground.problems(case):
                wrong += 1
                print(f"{case!s}\n    {problem}".encode("unicode_escape").decode().replace("\\n", "\n"), flush=True)
    print(", ".join(f"{program} {count}" for program, count in sorted(runs.items())))
    print(f"{sum(runs.values())} runs, problems: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    run(main)
