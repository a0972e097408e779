"""The seeds of one training: their results beside each other, and two methods compared by the spread over the seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from engine.evaluation_options import EvaluationOptions
from engine.rows import CollectedRun, settings_digest
from engine.saved_runs import SavedRun, read_run
from utils.errors import UserError
from utils.evaluation_types import ClassResult
from utils.files import write_json, write_text
from utils.results import MEAN, Measures, Run, bullets, markdown_table, mean_result, with_std
from utils.spread import RULE, STD, compare_spreads, number_of_seeds, over_seeds, spread, spreads, verdicts

# Options that a comparison of seeds has no use for.
IDLE = ("bootstrap", "dataset", "data_path", "meta", "protocol", "mask_threshold", "map_size")

CONFIDENCE = 95.0  # of the intervals in a table of all runs, in percent
Sample = dict[int | None, tuple[int, CollectedRun]]  # seed, None of what has none -> number of the run, and the run


@dataclass
class Seeds:
    """Collects the results of seeds by data set, and writes seeds.md and seeds.json above their folders with each."""

    found: dict[Path, dict[int, tuple[Run, Sequence[ClassResult]]]] = field(default_factory=dict)

    def add(self, seed: int, run: Run, results: Sequence[ClassResult]) -> None:
        """Take the results of a seed."""
        folder = run.folder.parent
        own = self.found.setdefault(folder, {})
        own[seed] = run, results
        of_classes = zip(*(found for _, found in own.values()), strict=True)
        by_class = {same[0].name: spreads([one.measures for one in same]) for same in of_classes}
        mean = spreads([mean_result(found).measures for _, found in own.values()])
        about = {key: run.description[key] for key in ("method", "dataset", "protocol")}
        write_json(folder / "seeds.json", {**about, "seeds": [*own], "mean": mean, "classes": by_class})
        rows = [[name, *(with_std(**one) for one in row.values())] for name, row in [*by_class.items(), (MEAN, mean)]]
        notes = [STD, *(f"seed {seed}: {note}" for seed, (one, found) in own.items() for note in one.origin(found))]
        title = f"# {run.title} over {over_seeds(own)}"
        text = "\n\n".join([title, markdown_table(["objects", *mean], rows), bullets([*notes, *run.notes])])
        write_text(folder / "seeds.md", f"{text}\n")


def seed_runs(folder: Path) -> list[SavedRun]:
    """Read the finished runs of the seeds that were tested into a folder; the one run if it is that of a run itself."""
    folders = [] if (folder / "results.json").exists() else [path.parent for path in folder.glob("seed_*/results.json")]
    runs = [read_run(one) for one in folders or [folder]]
    for one in runs:
        if settings_digest(one.content) != settings_digest(runs[0].content):
            raise UserError(f"{runs[0].folder} and {one.folder} differ in more than the seed: compare them one by one")
    return sorted(runs, key=seed_of)


def seed_of(run: SavedRun) -> int:
    """Give the seed of the training, -1 where there is none or it is not recorded."""
    return run.content.get("checkpoint", {}).get("seed", -1)


def title_of(runs: Sequence[SavedRun]) -> str:
    """Name what was run, and by which seeds."""
    return f"{runs[0].title} over {over_seeds(map(seed_of, runs))}" if len(runs) > 1 else runs[0].title


def compare_seeds(
    a: Sequence[SavedRun], b: Sequence[SavedRun], options: EvaluationOptions
) -> tuple[dict[str, Any], str, list[str]]:
    """Compare two methods, each by several seeds, or one of them by its one run if it has no training.

    Returns:
        `mean` and `classes` as `compare_spreads` gives them, what their intervals are, and notes.
    """
    if name := options.first_given(IDLE):
        raise UserError(f"--{name} does not go with a comparison of seeds, which takes the measures from results.json")
    for runs in (a, b):
        if len(runs) == 1 and not is_exact(**{name: runs[0].content.get(name) for name in ("weights", "checkpoint")}):
            raise UserError(f"{runs[0].folder} is of one seed, whose spread is not known: name a test of several seeds")
    keys = [key for key in a[0].content["mean"] if key in b[0].content["mean"]]
    samples = [[run.content for run in runs] for runs in (a, b)]

    def compared(*rows: Sequence[Measures]) -> dict[str, dict[str, Any]]:
        chosen = [[{key: row[key] for key in keys} for row in of_seeds] for of_seeds in rows]
        return compare_spreads(*chosen, options.confidence)

    by_class = {
        name: compared(*([content["classes"][name] for content in contents] for contents in samples))
        for name in a[0].content["classes"]
    }
    mean = compared(*([content["mean"] for content in contents] for contents in samples))
    notes = [STD, *verdicts(a[0].content["method"], b[0].content["method"], mean, number_of_seeds(len(a), len(b)))]
    return {"mean": mean, "classes": by_class}, RULE.format(options.confidence), notes


def is_exact(weights: Mapping[str, Any] | str | None, checkpoint: Mapping[str, Any] | str | None) -> bool:
    """Tell whether a run's figures depend on no training's seed: SDP's, but not maps of another program."""
    return weights is not None and checkpoint is None


def seed_tables(runs: Sequence[CollectedRun]) -> Iterator[str]:
    """Make a table of the collected runs of several seeds, and say which methods differ by more than the spread.

    The runs are numbered from 1 on. Those that are not finished, and those of one seed alone, are left out.
    """
    samples: dict[tuple[object, str, str], Sample] = {}
    clashes: dict[tuple[object, str, str], str] = {}
    for number, run in enumerate(runs, start=1):
        mean, seed = run.mean, run.mean["seed"]
        if mean["finished"] and (seed is not None or is_exact(mean["weights_sha256"], mean["checkpoint_sha256"])):
            key = run.test_set, mean["method"], mean["settings_sha256"]
            earlier, first = samples.setdefault(key, {}).setdefault(seed, (number, run))
            if first.mean["measures"] != mean["measures"]:
                clashes[key] = f"rows {earlier}, {number}: the same settings and seed, other figures; no spread is made"
    samples = {key: own for key, own in samples.items() if key not in clashes and (None in own or len(own) > 1)}
    seeded = [own for own in samples.values() if None not in own]
    if seeded:
        yield "## Seeds"
        measures = list(dict.fromkeys(key for own in seeded for key in _measures(own)[0]))
        rows = []
        for own in seeded:
            of_seeds = (spread(row.get(key) for row in _measures(own)) for key in measures)
            (_, run), *_ = own.values()
            about = [run.data_set, run.mean["method"], run.model, ", ".join(map(str, own))]
            rows.append([_numbers(own), *about, *(with_std(**one) for one in of_seeds)])
        yield markdown_table(["rows", "data set", "method", "model", "seeds", *measures], rows)
    said = [*clashes.values()]
    for (one, a), (other, b) in combinations(samples.items(), 2):
        if one[0] == other[0] and one[1] != other[1] and (None not in a or None not in b):
            names = [f"{key[1]} (rows {_numbers(own)})" for key, own in ((one, a), (other, b))]
            seeds = number_of_seeds(len(a), len(b))
            said += verdicts(*names, compare_spreads(_measures(a), _measures(b), CONFIDENCE), seeds)
    if said or seeded:
        yield bullets([*([STD, f"a difference ± half of {RULE.format(CONFIDENCE)}"] if seeded else []), *said])


def _measures(sample: Sample) -> list[Measures]:
    return [run.mean["measures"] for _, run in sample.values()]


def _numbers(sample: Sample) -> str:
    return ", ".join(str(number) for number, _ in sample.values())
