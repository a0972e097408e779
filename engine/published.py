"""A finished run beside the numbers its method was published with, and what keeps the two from being compared."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.registry import PROJECT, get_spec
from engine.saved_runs import SavedRun, read_run
from models.presets import PRESETS
from utils.arguments import as_given
from utils.errors import UserError
from utils.files import sha256_of, write_text
from utils.results import markdown_table, percent

FACTS = PROJECT / "datasets" / "published.json"
Numbers = dict[str, dict[str, float]]  # method -> measure -> percent


def read_facts() -> dict[str, Any]:
    """Read all published numbers."""
    return json.loads(FACTS.read_text(encoding="utf-8"))


def published_numbers(facts: Mapping[str, Any], method: str, dataset: str) -> Numbers:
    """Choose the numbers of all methods on a data set, of which `method`, of this project, must be known as well."""
    for name, known, of in ((method, facts["implemented"], "of"), (dataset, facts["data_sets"], "on")):
        if name not in known:
            raise UserError(f"no published numbers {of} {name} are known, but {of} {', '.join(known)}")
    numbers: Numbers = {}
    for level, measures in facts["measures"].items():
        for name, values in facts["data_sets"][dataset].get(level, {}).items():
            numbers.setdefault(name, {}).update(zip(measures, values, strict=True))
    return numbers


def write_published(folder: Path) -> Path:
    """Write published.md into the folder of a finished run; returns its path."""
    run, facts = read_run(folder), read_facts()
    method, dataset = str(run.content.get("method")), str(run.content.get("dataset"))
    numbers = published_numbers(facts, method, dataset)
    listed, where = facts["implemented"][method]["listed_as"], facts["data_sets"][dataset]["listed_as"]
    reasons = not_comparable(run, facts["implemented"][method]["preset"])
    source = f"published: {facts['source']}, {listed} on {where}"
    lines = [
        f"# {run.title} beside published numbers",
        "",
        *(["**NOT COMPARABLE with the published numbers:**", "", *_items(reasons), ""] if reasons else []),
        _own_table(run, numbers[listed], listed),
        "",
        f"- in percent; {source}; difference: this run less the published",
        *_items(_remarks(run, facts, method, dataset)),
        "",
        f"## All methods on {where}, as published",
        "",
        _all_table(run, numbers),
        "",
        "## What made this run",
        "",
        *_items(_origin(run.content)),
    ]
    path = folder / "published.md"
    write_text(path, "\n".join(lines) + "\n")
    return path


def _items(sentences: Sequence[str]) -> list[str]:
    return [f"- {sentence}" for sentence in sentences]


def not_comparable(run: SavedRun, preset_name: str) -> list[str]:
    """Say in a sentence each what a run does not share with the published ones, which were made with a preset."""
    preset, demo = PRESETS[preset_name], PRESETS["demo"]
    backbone, weights = run.content.get("backbone", {}), run.content.get("weights", {})
    reasons = []
    digest = weights.get("sha256")
    if digest == sha256_of(demo.pretrained):
        reasons.append("these are the weights of the DEMONSTRATION MODEL, which knows ten drawn surfaces alone")
    elif weights.get("tag") != preset.pretrained:
        reasons.append(f"the weights (SHA-256 {digest}) are not known to be those of {preset.pretrained}")
    settings = {
        "the backbone": (backbone.get("name"), preset.model),
        "the image size": (backbone.get("image_size"), preset.image_size),
        "the list of tapped blocks": (backbone.get("features_list"), list(preset.features_list)),
    }
    for what, (own, theirs) in settings.items():
        if own != theirs:
            reasons.append(f"{what} is {as_given(own)}, that of the authors' scripts {as_given(theirs)}")
    spec = get_spec(str(run.content["dataset"]))
    labels = [image.label for image in run.images.values()]
    counts = (len(run.content["classes"]), labels.count(0), labels.count(1))
    if spec.published is not None:
        complete = (spec.published.classes, spec.published.normal, spec.published.anomalous)
        here, there = ("{} classes, {} normal and {} anomalous images".format(*all_) for all_ in (counts, complete))
        if here != there:
            reasons.append(f"the data set is not the published one or a part of it: {here}, published are {there}")
    return reasons


def _own_table(run: SavedRun, published: Mapping[str, float], listed: str) -> str:
    limits = run.content.get("intervals", {}).get("mean", {})
    rows = []
    for key, value in published.items():
        own = run.content["mean"].get(key)
        difference = percent(None if own is None else own - value / 100, sign="+")
        rows.append([key, f"{value:.1f}", percent(own, limits.get(key)), difference])
    return markdown_table(["measure", f"{listed}, published", "this run", "difference"], rows)


def _all_table(run: SavedRun, numbers: Numbers) -> str:
    measures = list(next(iter(numbers.values())))
    rows = [[name, *(f"{values[key]:.1f}" for key in measures)] for name, values in numbers.items()]
    own = [percent(run.content["mean"].get(key)) for key in measures]
    return markdown_table(["published", *measures], [*rows, [f"this run: {run.content['method']}", *own]])


def _remarks(run: SavedRun, facts: Mapping[str, Any], method: str, dataset: str) -> list[str]:
    remarks = []
    if facts["implemented"][method]["listed_as"] == "CLIP-AD":
        remarks.append(
            f"the table lists CLIP-AD; that this is {method}, and with which backbone it was run there, is not recorded"
        )
    fidelity = run.content.get("fidelity", {}).get("name")
    if fidelity != "released":
        remarks.append(f"fidelity is {fidelity}; the published numbers were made with the released code")
    if run.content.get("arguments", {}).get("prompts") == "medical":
        remarks.append("the medical prompts are this project's own")
    gains = facts["gains_over_winclip"]
    if dataset == gains["data_set"] and method in gains:
        said = ", ".join(f"{key} {value:+.1f}" for key, value in gains[method].items())
        remarks.append(f"published of {method} ({gains['source']}), in points over WinCLIP: {said}")
    return remarks


def _origin(content: Mapping[str, Any]) -> list[str]:
    command = f"`{content['command']}`" if content.get("command") else "not recorded"
    lines = [f"command: {command}", f"commit: {content.get('git_commit') or 'not recorded'}"]
    files = {"weights": content.get("weights", {}), "checkpoint": content.get("checkpoint")}
    named = {name: file for name, file in files.items() if file is not None}
    return lines + [f"{name}: {file.get('path')}, SHA-256 {file.get('sha256')}" for name, file in named.items()]
