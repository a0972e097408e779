"""What a reproduction consists of: trainings and tests in their order, each with its command and what it leaves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from datasets.image_set import ImageSet
from engine import testing_options
from engine.earlier_results import folder_name
from engine.reproduction_options import ReproductionOptions
from engine.saved_runs import Description
from models.adapter_checkpoint import DP_CLIP, FILES, SDP_PLUS
from models.presets import PRESETS
from utils.errors import UserError
from utils.files import sha256_of
from utils.json_files import read_json

# What adapters are trained on for tests on a data set: VisA, unless it says otherwise; None where nobody says.
TRAINED_ON: Mapping[str, Mapping[str, str | None]] = {
    "sdp_plus": {"visa": "mvtec", "demo": "demo"},
    "dp_clip": {"visa": None, "demo": "demo"},
}
SPLIT = {  # data sets of which some classes are trained on and the others tested on
    "demo": (["circuit", "fabric", "foil", "gear", "leather"], ["metal", "tablet", "tile", "washer", "wood"])
}
NAMES = {"sdp": "SDP", "sdp_plus": SDP_PLUS, "dp_clip": DP_CLIP}
RECIPES = {"sdp_plus": {"epochs": 5, "batch_size": 8}, "dp_clip": {"epochs": 20, "batch_size": 3}}  # the papers'
DEMO_RECIPES = {  # which teach the demonstration model something in minutes, as in demo.sh
    "sdp_plus": {"epochs": 40, "batch_size": 8, "learning_rate": 0.0005},
    "dp_clip": {
        **{"epochs": 10, "batch_size": 3, "prompts": "industrial", "fidelity": "corrected", "features_list": [2, 3, 4]},
        **{"learning_rate": 0.004, "milestones": [300, 400, 460, 500]},
        **{"no_augmentation": True, "align_corners": False},
    },
}
VARIANTS = [{"baseline": one} for one in get_args(testing_options.Baseline)]
VARIANTS += [{"without": [one]} for one in get_args(testing_options.Part)]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A training on a data set, or tests on several in one run."""

    name: str
    program: str
    method: str  # of `METHODS`
    model: str  # a preset
    options: Mapping[str, Any]  # beside data sets, model and folder; what figures depend on
    running: Mapping[str, Any]  # further options, which no figure depends on beyond rounding
    folder: Path
    data_sets: Sequence[ImageSet]
    checkpoint: Path | None  # what a training leaves, or a test needs; None of a test without
    trains: bool = False
    processes: int = 1

    def todo(self) -> list[ImageSet]:
        """List the data sets that are not trained or tested on to the end, by what lies in the folder."""
        if self.trains:
            return [] if self.checkpoint.is_file() else [*self.data_sets]
        digest = sha256_of(self.checkpoint) if self.checkpoint is not None and self.checkpoint.is_file() else None
        return [images for images in self.data_sets if not self._is_tested(images, digest)]

    def images_of(self, images: ImageSet) -> int:
        """Count the images of a data set that are trained or tested on."""
        chosen = self.options.get("train_classes" if self.trains else "classes")
        own = [one for one in images.entries if chosen is None or one.cls_name in chosen]
        return sum(one.anomaly == 0 or bool(one.mask_path) for one in own) if self.trains else len(own)

    def arguments(self) -> list[str]:
        """Give the command line, without Python, for what is to be done."""
        todo, kind = self.todo(), "train_" if self.trains else ""
        folders = {"train_dataset_dir" if self.trains else "data_path": [images.root for images in todo]}
        named = {f"{kind}dataset": [images.spec.name for images in todo], **folders, "model": self.model}
        files = {} if self.trains or self.checkpoint is None else {"checkpoint": self.checkpoint}
        folder = self.folder if self.trains or len(todo) > 1 else self._folder_of(todo[0])
        options = {**named, **files, **self.options, **self.running, "save_path": folder}
        return [self.program, *command_line(options), "--resume"]

    def _folder_of(self, images: ImageSet) -> Path:
        return self.folder / folder_name(images.spec, images.root)

    def _is_tested(self, images: ImageSet, digest: str | None) -> bool:
        """Tell whether there are finished results of these images, options and the checkpoint as it is now."""
        path, content = self._folder_of(images) / "results.json", {}
        with suppress(UserError):  # a damaged file, which the test itself will name
            content = read_json(path, Description) if path.is_file() else {}
        recorded, tested = content.get("arguments", {}), content.get("checkpoint", {}).get("sha256")
        same = all(recorded.get(name) == value for name, value in self.options.items()) and digest in (None, tested)
        return same and content.get("finished", False) and content.get("images") == self.images_of(images)


def command_line(options: Mapping[str, Any]) -> list[str]:
    """Give options by their names as words of a command line."""
    flags = {name: f"--no-{name}" if value is False else f"--{name}" for name, value in options.items()}
    return [word for name, value in options.items() for word in (flags[name], *_words(value))]


def _words(value: Any) -> list[str]:
    """Give an option's values as words of a command line, none of a switch."""
    if isinstance(value, bool):
        return []
    return [*map(str, value)] if isinstance(value, list) else [str(value)]


def parts_of(options: ReproductionOptions, data_sets: Sequence[ImageSet]) -> tuple[list[Part], list[str]]:
    """List all parts, trainings before the tests that need them, and say in a sentence each what is left out."""
    parts, left_out = [], []
    for table in options.tables:
        if table in TRAINED_ON:
            for found in _trained(options, table, data_sets):
                (left_out if isinstance(found, str) else parts).append(found)
        else:
            parts += _untrained(options, table, data_sets)
    return parts, left_out


def _untrained(options: ReproductionOptions, table: str, data_sets: Sequence[ImageSet]) -> Iterator[Part]:
    if table == "sdp":
        runs = [(model, {"rep_vec": rep_vec}, rep_vec) for model in options.model for rep_vec in options.rep_vec]
    else:
        model = options.model[0]
        whole = [] if PRESETS[model].clip_ad_fidelity == "corrected" else [{}]  # else it is among those of `sdp`
        variants = [(variant, label_of(variant)) for variant in (*whole, *VARIANTS)]
        runs = [(model, {"fidelity": "corrected", **variant}, label) for variant, label in variants]
    for model, own, label in runs:
        yield Part(
            name=f"{NAMES['sdp']} {label.replace('_', ' ')}, {model}",
            program="test_sdp.py",
            method="sdp",
            model=model,
            options={**own, "bootstrap": options.bootstrap},
            running=_running(options),
            folder=options.save_path / table / model / label,
            data_sets=data_sets,
            checkpoint=None,
            processes=options.nproc,
        )


def label_of(variant: Mapping[str, Any]) -> str:
    """Name a variant of SDP by its options; one without is its paper's."""
    return "_".join([word for name, value in variant.items() for word in (name, *_words(value))] or ["corrected"])


def _trained(options: ReproductionOptions, key: str, data_sets: Sequence[ImageSet]) -> Iterator[Part | str]:
    known = {images.spec.name: images for images in data_sets}
    tested: dict[str, list[ImageSet]] = {}
    for images in data_sets:
        name = images.spec.name
        on = TRAINED_ON[key].get(name, "visa")
        if on is None:
            yield f"{NAMES[key]} on {name}: it is what {NAMES[key]} is trained on"
        elif on not in known:
            yield f"{NAMES[key]} on {name}: {on}, to train on, is not among the data sets"
        else:
            tested.setdefault(on, []).append(images)
    models, seeds = (options.model, [None]) if key == "sdp_plus" else (options.model[:1], options.seeds)
    for model, seed, on in ((model, seed, on) for model in models for seed in seeds for on in tested):
        below = Path(key, model, *([] if seed is None else [f"seed_{seed}"]), f"on_{on}")
        recipe = (DEMO_RECIPES if on == "demo" else RECIPES)[key] | ({} if seed is None else {"seed": seed})
        train_classes, classes = SPLIT.get(on, (None, None))
        processes = math.gcd(options.nproc, recipe["batch_size"])  # so that a step's batch is the whole one
        recipe |= {"batch_size": recipe["batch_size"] // processes}
        recipe |= {"train_classes": train_classes} if train_classes else {}
        said = f"{NAMES[key]} on {on}, {model}{'' if seed is None else f', seed {seed}'}"
        same = {"method": key, "model": model}
        same["checkpoint"] = options.save_path / "trainings" / below / FILES[NAMES[key]].format(recipe["epochs"])
        yield Part(
            name=f"training of {said}",
            program=f"train_{key}.py",
            options=recipe,
            running=_running(options, save_freq=recipe["epochs"]),
            folder=options.save_path / "trainings" / below,
            data_sets=[known[on]],
            trains=True,
            processes=processes,
            **same,
        )
        yield Part(
            name=f"tests of {said}",
            program=f"test_{key}.py",
            options={**({"classes": classes} if classes else {}), "bootstrap": options.bootstrap},
            running=_running(options),
            folder=options.save_path / below,
            data_sets=tested[on],
            processes=options.nproc,
            **same,
        )


def _running(options: ReproductionOptions, **more: Any) -> dict[str, Any]:
    """Give the options a part is run with: a training takes batches of its own."""
    readers = {} if options.num_workers is None else {"num_workers": options.num_workers}
    more = more or {"batch_size": options.batch_size}
    return {"device": options.device, "precision": options.precision, **readers, **more}
