"""What an earlier run left in a folder of results: refused where its settings were others, else gone on with."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.image_set import ImageSet
from datasets.images import mask_files
from datasets.registry import REGISTRY, DatasetSpec
from engine.saved_runs import Description
from models.adapter_checkpoint import DP_CLIP
from utils.arguments import as_given
from utils.checked_arrays import digest_of
from utils.errors import UserError, some_of
from utils.evaluation_types import ClassResult, ImageScore, Writer
from utils.files import write_text
from utils.json_files import read_json

logger = logging.getLogger(__name__)

FILES = (
    *("results.json", "results.md", "rows.jsonl", "scores.csv", "published.md", "shots.md", "contact_sheet.png"),
    "report.html",
)
CLASSES = ".classes"  # folder of what `--resume` needs of each class

# Options that no figure depends on beyond rounding.
FREE = {
    *("save_path", "resume", "overwrite", "skip_broken", "compare_published", "num_workers", "device", "compile"),
    *("save_maps", "visualization", "no_report", "report", "submission", "cache_dir", "name", "max_pixels"),
}
# Files are told by their SHA-256, wherever they lie; where it is not known of both, by the option that names them.
DIGESTS = {
    "config_sha256": "model",
    "SHA-256 of the weights": "pretrained",
    "SHA-256 of the checkpoint": "checkpoint",
    "SHA-256 of the prompts": "prompts",
}
EARLIER = {"intensity": "full"}  # what options stood at before they could be given


def folder_name(spec: DatasetSpec, data_path: Path | None) -> str:
    """Name the folder of a data set's results; one's own data are called as their folder."""
    own = (data_path or spec.folder).resolve().name
    return f"{spec.label}/{own}" if spec.name == "folder" else spec.label


def check_settings(path: Path, description: Mapping[str, Any]) -> None:
    """Refuse to replace results, if there are any at `path`, of other settings than a run's `description` has."""
    if not path.exists():
        return
    described = json.loads(json.dumps(description, default=str))
    before, now = (settings_of(content) for content in (read_json(path, Description), described))
    free = {option if before.get(key) and now.get(key) else key for key, option in DIGESTS.items()}
    if before["phrases"] is None and now["phrases"] is not None:
        before["phrases"] = _unrecorded_phrases(described)
    said = [
        f"{name} ({as_given(before.get(name))} there, {as_given(now.get(name))} here)"
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name) and name not in free
    ]
    if said:
        raise UserError(
            f"{path.parent} holds results of other settings, {some_of(said)}: choose another --save_path, or "
            "replace them with --overwrite"
        )


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Select what the figures depend on from a run's description or its results.json."""
    arguments = EARLIER | (content.get("arguments") or {})
    arguments |= content.get("backbone") or {}  # what an option was left open for
    arguments["mask_threshold"] = mask_threshold_of(content)
    files = {name: (content.get(name) or {}).get("sha256") for name in ("weights", "checkpoint", "prompts")}
    return {
        **{name: content.get(name) for name in ("method", "dataset", "protocol")},
        **{name: value for name, value in arguments.items() if name not in FREE},
        **{f"SHA-256 of the {name}": digest for name, digest in files.items()},
        "phrases": content.get("phrases"),  # of each class, wherever they come from
    }


def mask_threshold_of(content: Mapping[str, Any]) -> int | None:
    """Find the value above which masks were anomalous in a run, the data set's own where its results do not say."""
    recorded, spec = (content.get("arguments") or {}).get("mask_threshold"), REGISTRY.get(content.get("dataset"))
    return spec.mask_threshold if recorded is None and spec is not None else recorded


def _unrecorded_phrases(description: Mapping[str, Any]) -> dict[str, str]:
    """Say what the versions that did not record it called the classes: by their very names, unless the registry did."""
    spec, called = replace(REGISTRY[description["dataset"]], keeps_names=True), description["arguments"]["obj_name"]
    described = description["method"] == DP_CLIP
    return {name: called or spec.phrase(name, described=described) for name in description["phrases"]}


def remove_results(folder: Path) -> None:
    """Remove the results of an earlier run, but for the maps and pictures of single images."""
    shutil.rmtree(folder / CLASSES, ignore_errors=True)  # first, as results.json says of which settings they are
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


@dataclass
class ClassKeeper(Writer):
    """Keeps what the other `writers` and the table need of each class that is done, to go on after a stop."""

    folder: Path
    images: ImageSet
    writers: Sequence[Writer]

    def class_done(self, result: ClassResult) -> None:
        content = asdict(result) | {"images_sha256": self._digest(result.name)}
        content["writers"] = {type(writer).__name__: writer.kept() for writer in self.writers}
        text = json.dumps(content, default=np.ndarray.tolist)
        write_text(self._path(result.name), f'{{"class": {text}, "digest": "{digest_of(text)}"}}\n')

    def restore(self) -> list[ClassResult]:
        """Hand the classes that an earlier run did to the writers, up to the first that is missing or changed."""
        results = []
        for name in self.images.phrases():
            try:
                file = json.loads(self._path(name).read_text(encoding="utf-8"))
                content = file["class"]
                if file["digest"] != digest_of(json.dumps(content)):
                    break
                if content.pop("images_sha256") != self._digest(name):
                    logger.warning("class %s is computed again, since its images have changed", name)
                    break
                by_name = content.pop("writers")
                kept = [by_name[type(writer).__name__] for writer in self.writers]
                result = _class_result(content)
            except (OSError, LookupError, TypeError, ValueError, RecursionError):
                break  # it was not done, or not all that is wanted of it, or its file is damaged
            if not all(writer.is_there(result) for writer in self.writers):
                logger.warning("class %s is computed again, since files that were written of it are gone", name)
                break
            for writer, own in zip(self.writers, kept, strict=True):
                writer.restore(result, own)
            results.append(result)
        return results

    def _path(self, name: str) -> Path:
        return self.folder / CLASSES / f"{name}.json"

    def _digest(self, name: str) -> str:
        """Tell a class's list of images and masks, and their files by size and time of change, from others."""
        entries = [entry for entry in self.images.entries if entry.cls_name == name]
        entries += self.images.train.get(name, ())
        paths = []
        for entry in entries:
            paths.append(self.images.root / entry.img_path)
            paths += mask_files(self.images.root / entry.mask_path) if entry.mask_path else []
        content = [*map(asdict, entries), *map(_size_and_time, paths)]
        return digest_of(json.dumps(content))


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # it is gone, and named by those who read it
        return None
    return found.st_size, found.st_mtime_ns


def _class_result(content: Mapping[str, Any]) -> ClassResult:
    curves, shape = content["pixel_curves"], content["map_shape"]
    arrays = {
        "images": [ImageScore(*row) for row in content["images"]],
        "draws": {key: np.array(values) for key, values in content["draws"].items()},
        "pixel_curves": curves and {key: None if xy is None else np.array(xy) for key, xy in curves.items()},
        "map_shape": shape and tuple(shape),
    }
    return ClassResult(**{**content, **arrays})
