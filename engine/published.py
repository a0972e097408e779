"""A finished run beside the numbers its method was published with, and what keeps the two from being compared."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets.registry import PROJECT, Published
from engine.origin import is_demonstration
from engine.saved_runs import SavedRun, read_run
from models.presets import PRESETS
from utils.arguments import as_given
from utils.errors import UserError
from utils.files import write_text
from utils.results import bullets, markdown_table, percent

FACTS = json.loads((PROJECT / "datasets" / "published.json").read_text(encoding="utf-8"))


def published_numbers(method: str, dataset: str) -> dict[str, dict[str, float]]:
    """Choose all methods' numbers on a data set, measure -> percent; `method`, of this project, must be known, too."""
    for name, known, of in ((method, FACTS["implemented"], "of"), (dataset, FACTS["data_sets"], "on")):
        if name not in known:
            raise UserError(f"no published numbers {of} {name} are known, but {of} {', '.join(known)}")
    numbers: dict[str, dict[str, float]] = {}
    for level, measures in FACTS["measures"].items():
        for name, values in FACTS["data_sets"][dataset].get(level, {}).items():
            numbers.setdefault(name, {}).update(zip(measures, values, strict=True))
    for one in FACTS["other_sources"]:
        if dataset in one["data_sets"]:
            numbers[f"{one['method']} ({one['source']})"] = one["data_sets"][dataset]
    return numbers


def write_published(folder: Path) -> Path:
    """Write published.md into the folder of a finished run; returns its path."""
    run = read_run(folder)
    method, dataset = str(run.content.get("method")), str(run.content.get("dataset"))
    numbers = published_numbers(method, dataset)
    listed, where = FACTS["implemented"][method]["listed_as"], FACTS["data_sets"][dataset]["listed_as"]
    reasons = not_comparable(run, FACTS["implemented"][method]["preset"])
    source = f"published: {FACTS['source']}, {listed} on {where}"
    own, limits = run.content["mean"], run.content.get("intervals", {}).get("mean", {})
    beside = []
    for key, value in numbers[listed].items():
        mean = own.get(key)
        difference = percent(None if mean is None else mean - value / 100, sign="+")
        beside.append([key, f"{value:.1f}", percent(mean, limits.get(key)), difference])
    known = {key for values in numbers.values() for key in values}
    measures = [key for key in own if key in known]
    methods = [[name, *(_cell(values.get(key)) for key in measures)] for name, values in numbers.items()]
    methods.append([f"this run: {method}", *(percent(own.get(key)) for key in measures)])
    blocks = [
        f"# {run.title} beside published numbers",
        *(["**NOT COMPARABLE with the published numbers:**", bullets(reasons)] if reasons else []),
        markdown_table(["measure", f"{listed}, published", "this run", "difference"], beside),
        bullets([f"in percent; {source}; difference: this run less the published", *_remarks(run, listed)]),
        f"## All methods on {where}, as published",
        markdown_table(["published", *measures], methods),
        "## Averages over DP-CLIP's data sets, as published",
        *_averages(),
        "## What made this run",
        bullets(_origin(run.content)),
    ]
    path = folder / "published.md"
    write_text(path, "\n\n".join(blocks) + "\n")
    return path


def _averages() -> Iterator[str]:
    """Tabulate the average rows of DP-CLIP's tables, which are over fewer data sets for images than for pixels."""
    levels = {level: FACTS["averages"][level] for level in FACTS["measures"]}
    headers = [f"{key} of {levels[level]['data_sets']}" for level, keys in FACTS["measures"].items() for key in keys]
    names = [name for name in levels["pixel"] if name != "data_sets"]
    rows = [[name, *(_cell(value) for one in levels.values() for value in one[name])] for name in names]
    yield markdown_table(["published", *headers], rows)
    yield bullets([FACTS["averages"]["remark"]])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def not_comparable(run: SavedRun, preset_name: str) -> list[str]:
    """Say in a sentence each what a run does not share with the published ones, which were made with a preset."""
    preset = PRESETS[preset_name]
    backbone, weights = run.content.get("backbone", {}), run.content.get("weights", {})
    reasons = []
    digest = weights.get("sha256")
    if is_demonstration(digest):
        reasons.append("these are the weights of the DEMONSTRATION MODEL, which knows ten drawn surfaces alone")
    elif weights.get("tag") != preset.pretrained:
        reasons.append(f"the weights (SHA-256 {digest}) are not known to be those of {preset.pretrained}")
    for what, key, theirs in (
        ("the backbone", "name", preset.model),
        ("the image size", "image_size", preset.image_size),
        ("the list of tapped blocks", "features_list", list(preset.features_list)),
    ):
        if backbone.get(key) != theirs:
            reasons.append(f"{what} is {as_given(backbone.get(key))}, that of the authors' scripts {as_given(theirs)}")
    if tiles := run.content.get("tiles"):
        reasons.append(f"the images were cut into tiles of {tiles['tile']} px, those of the authors' scripts were not")
    labels = [label for _, label in run.kinds.values()]
    here = Published.count(len(run.content["classes"]), labels)
    there = run.spec.published
    if here != there:
        own, all_ = ("{} classes, {} normal and {} anomalous images".format(*size.counts) for size in (here, there))
        reasons.append(f"the data set is not the published one or a part of it: {own}, published are {all_}")
    return reasons


def _remarks(run: SavedRun, listed: str) -> list[str]:
    method, remarks = run.content["method"], []
    if listed == "CLIP-AD":
        remarks.append(
            f"the table lists CLIP-AD; that this is {method}, and with which backbone it was run there, is not recorded"
        )
    fidelity = run.content.get("fidelity", {}).get("name")
    if fidelity != "released":
        remarks.append(f"fidelity is {fidelity}; the published numbers were made with the released code")
    if run.content.get("arguments", {}).get("prompts") == "medical":
        remarks.append("the medical prompts are this project's own")
    remarks += filter(None, [FACTS["remarks"].get(run.content["dataset"])])
    gains = FACTS["gains_over_winclip"]
    if run.content["dataset"] == gains["data_set"] and method in gains:
        said = ", ".join(f"{key} {value:+.1f}" for key, value in gains[method].items())
        remarks.append(f"published of {method} ({gains['source']}), in points over WinCLIP: {said}")
    return remarks


def _origin(content: Mapping[str, Any]) -> list[str]:
    command = f"`{content['command']}`" if content.get("command") else "not recorded"
    lines = [f"command: {command}", f"commit: {content.get('git_commit') or 'not recorded'}"]
    files = {name: content[name] for name in ("weights", "checkpoint") if content.get(name)}
    return lines + [f"{name}: {file.get('path')}, SHA-256 {file.get('sha256')}" for name, file in files.items()]
