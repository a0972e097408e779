"""Compares SDP with anomalib's WinCLIP on the same pictures and random weights, and both programs' measures of maps.

    bash benchmarks/peers.sh             # makes anomalib's environment and the demo set, and runs this

Figures are medians of fresh processes (`one_peer.py`), the two programs in turn. Set-up is what comes before the first
picture: imports, weights and sentences.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import PROJECT, Options, benchmark, in_own_process, print_table
from measures import make_class
from one_peer import VALUES

from datasets.images import load_rgb
from datasets.transforms import image_transform, normalised
from tests.random_weights import random_clip
from utils.errors import UserError

PHRASE = "wood"
PROGRAMS = {"ours": Path(sys.executable), "anomalib": PROJECT / "benchmarks" / ".venv" / "bin" / "python"}
Found = Mapping[str, Sequence[dict[str, Any]]]  # what `one_peer.py` printed, by program
COSTS = {"": "", "ours: wall s": ".3f", "processor s": ".3f", "peak MiB": ".0f", "anomalib: wall s": ".3f"}
COSTS |= {"its processor s": ".3f", "its peak MiB": ".0f", "by ours: processor": ".1f", "by ours: peak": ".2f"}


def prepare(folder: Path, paths: Sequence[Path], model: str, maps: int, size: int) -> None:
    """Write what both are given: seeded random weights, normalised pictures, and a class of maps with its masks."""
    clip = random_clip(model)
    torch.save(clip.state_dict(), folder / "random.pt")
    inputs = {"model": model, "weights": str(folder / "random.pt"), "phrase": PHRASE}
    (folder / "inputs.json").write_text(json.dumps(inputs))
    images = [normalised(image_transform(load_rgb(path), clip.visual.image_size[0])) for path in paths]
    np.save(folder / "images.npy", torch.stack(images).numpy())
    for name, values in zip(("maps", "masks"), make_class(maps, size, anomalous=0.03, seed=0), strict=True):
        np.save(folder / f"{name}.npy", values)


def ask(program: str, *words: Any) -> dict[str, Any]:
    """Run one program in a process, which prints what it found as its last line."""
    command = [PROGRAMS[program], PROJECT / "benchmarks" / "one_peer.py", program, *map(str, words)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def compared(found: Found, key: str) -> list[float]:
    """Medians of each program's costs, ours first, and theirs by ours: processor seconds, peak memory."""
    own, theirs = (np.median([run[key] for run in runs], axis=0) for runs in found.values())
    return [*own, *theirs, *(theirs / own)[1:]]


def values_of(found: Found) -> list[tuple[str, float, float, float, float]]:
    """Rows of a value, ours and theirs, the difference, and the processor seconds that theirs takes."""
    own, theirs = (runs[-1]["values"] for runs in found.values())
    seconds = np.median([run["each"] for run in found["anomalib"]], axis=0)
    return [*zip(VALUES, own, theirs, np.subtract(theirs, own), seconds, strict=True)]


@benchmark(data_path="data/demo", model="ViT-B-16-plus-240", images=8, batch_size=[1, 8], maps=83, size=518, repeats=3)
def main(args: Options) -> None:
    if not PROGRAMS["anomalib"].exists():
        raise UserError("there is no benchmarks/.venv with anomalib: run bash benchmarks/peers.sh, which makes it")
    paths = sorted(Path(args.data_path, PHRASE, "test").rglob("*.png"))[: args.images]
    in_own_process(prepare, args.folder, paths, args.model, args.maps, args.size)
    tasks = {f"a picture of {len(paths)}, batch {size}": ("predict", size) for size in args.batch_size}
    tasks |= {(measuring := f"measures of {args.maps} maps"): ("measure",)}
    found = {name: {program: [] for program in PROGRAMS} for name in tasks}
    for _, (name, (task, *size)), program in product(range(args.repeats), tasks.items(), PROGRAMS):
        found[name][program].append(ask(program, task, args.folder, time.time(), *size))
    for program, runs in found[measuring].items():
        print(f"{program}: {runs[0]['packages']}, {runs[0]['threads']} threads")
    rows = [("set-up", *compared(next(iter(found.values())), "set-up"))]
    print_table(COSTS, rows + [(name, *compared(both, "task")) for name, both in found.items()])
    print()
    rows = values_of(found[measuring])
    print_table({"": "", "ours": ".7f", "anomalib": ".7f", "difference": ".1e", "its processor s": ".3f"}, rows)
    print(f"\nlargest difference: {max(abs(row[3]) for row in rows):.1e}")
