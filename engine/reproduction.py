"""Reproduce published results: say what is to be run and what it takes, run part by part, and collect the results."""

import contextlib
import io
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import get_args

from datasets.registry import PROJECT
from engine.collecting import collect
from engine.data_sets import read_data_sets
from engine.doctor import GIB, SUMS, SUMS_FOLDERS, disk
from engine.loading import find_device, with_precision
from engine.reproduction_options import ReproductionOptions, Table
from engine.reproduction_plan import NAMES, Part, parts_of
from engine.reproduction_speed import Kind, Speed, kind_of, measure
from models.presets import PRESETS
from models.weights import how_to_get, local_weights
from utils.errors import UserError, some_of
from utils.files import sha256_of, write_text
from utils.names import shown
from utils.results import markdown_table
from utils.runtime import locked

LAUNCH = ("bash", "-c", 'source "$0"; launch "$@"', str(PROJECT / "utils" / "scripts.sh"))  # in `NPROC` processes


def reproduce(options: ReproductionOptions) -> int:
    """Plan and, unless the plan alone is wanted, run and collect; returns 1 if a part failed."""
    options = with_precision(options, find_device(options.device))
    data_sets, faults = read_data_sets(options)
    left_out = [f"{options.dataset[place]}: {error}" for place, error in faults.items()]
    if not data_sets:
        raise UserError(f"none of the data sets can be read: {some_of(left_out)}")
    data_sets = [*data_sets.values()]
    parts, more = parts_of(options, data_sets)
    left_out += more
    todo = [part for part in parts if part.todo()]
    masked = (images for images in data_sets if any(entry.mask_path for entry in images.entries))
    speeds = measure(todo, next(masked, data_sets[0]), options) if todo else {}
    _say(plan_text(parts, speeds, left_out, options))
    if options.plan:
        return 0
    failed: dict[str, str] = {}
    with locked(options.save_path):
        try:
            for number, part in enumerate(todo, start=1):
                _say(f"\n== {number} of {len(todo)}: {part.name}")
                if (reason := _run(part)) is not None:
                    failed[part.name] = reason
                    _say(f"== {part.name}: {reason}")
        finally:  # of a run that is stopped, too
            _collect(options, parts, failed, left_out)
    return int(bool(failed))


def _say(text: str) -> None:
    print(shown(text, keep="\n"), flush=True)


def plan_text(
    parts: Sequence[Part], speeds: Mapping[Kind, Speed], left_out: Sequence[str], options: ReproductionOptions
) -> str:
    """Say what is to be run, what it takes, and whether weights and disk are there."""
    rows, total = [], [0.0, 0.0]
    for number, part in enumerate(parts, start=1):
        todo = part.todo()
        seconds, size = speeds[kind_of(part)].of(part) if todo else (0.0, 0.0)
        total = [total[0] + seconds, total[1] + size]
        names, count = ", ".join(images.spec.label for images in todo), sum(map(part.images_of, todo))
        rows.append([str(number), part.name, names or "done", str(count), f"{seconds / 3600:.2f}", f"{size / GIB:.2f}"])
    table = markdown_table(["#", "part", "to do", "images", "hours", "GiB"], rows, text_column=1)
    speed = [
        f"{model}, {'training' if trains else 'test'} of {NAMES[method]}: {one.image:.3f} s an image"
        + (f" once and {one.step:.3f} s in each epoch" if trains else "")
        for (model, method, trains), one in speeds.items()
    ]
    hours, size = total[0] / 3600, total[1] / GIB
    lines = [f"in all {hours:.1f} hours in one process, and at most {size:.1f} GiB; {disk(options.save_path)}"]
    if options.precision != "fp32":  # which --precision auto may have chosen
        lines.append(f"the towers are run in {options.precision}")
    lines += [f"measured on this machine: {one}" for one in speed]
    lines += [_weights(model) for model in options.model]
    lines += [f"left out: {one}" for one in left_out]
    return "\n".join(["# Plan", "", table, "", *(f"- {line}" for line in lines)])


def _weights(model: str) -> str:
    """Say where a preset's weights are, and whether their SHA-256 is known."""
    preset = PRESETS[model]
    path = local_weights(preset.model, preset.pretrained)
    if path is None:
        how = how_to_get(preset.model, preset.pretrained)
        return f"weights of {model}: NOT HERE, and will be downloaded when first needed; without a network {how}"
    digest = sha256_of(path)
    known = any(digest in (folder / SUMS).read_text(encoding="utf-8") for folder in SUMS_FOLDERS)
    return f"weights of {model}: {path}, SHA-256 {digest}, {'as' if known else 'which is not'} listed in {SUMS}"


def _run(part: Part) -> str | None:
    """Run what is to be done of a part; say why it was not done to the end, None if it was."""
    if not part.trains and part.checkpoint is not None and not part.checkpoint.is_file():
        return f"not run, as there is no {part.checkpoint}"
    program, *arguments = part.arguments()
    command = [os.path.relpath(PROJECT / program), *arguments]
    _say(f"$ python {shlex.join(command)}")
    code = _launch(command, part.processes)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        return f"failed with exit code {code}, for the reason above"
    return f"{some_of([one.spec.label for one in left])} left undone" if (left := part.todo()) else None


def _launch(command: Sequence[str], processes: int) -> int:
    """Run a program to its end, on Ctrl-C, too, which comes to it as well; returns its exit code."""
    with subprocess.Popen([*LAUNCH, *command], env=os.environ | {"NPROC": str(processes)}) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def _collect(
    options: ReproductionOptions, parts: Sequence[Part], failed: Mapping[str, str], left_out: Sequence[str]
) -> None:
    """Write RESULTS.md from all results that are there, and say what is not."""
    missing = [f"{part.name}: {failed.get(part.name, 'not done yet')}" for part in parts if part.todo()]
    folders = [folder for table in get_args(Table) if (folder := options.save_path / table).is_dir()]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(UserError):  # there may be no results
        collect(folders, None)
    lines = [f"- missing: {one}" for one in missing] + [f"- left out: {one}" for one in left_out]
    path = options.save_path / "RESULTS.md"
    write_text(path, "\n".join([text.getvalue() or "# Runs\n", *lines]).rstrip() + "\n")
    _say("\n".join(["", *(f"missing: {one}" for one in missing), f"the results are in {path}"]))
