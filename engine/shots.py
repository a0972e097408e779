"""k-shot results beside the zero-shot ones, with k normal images of each class's training split remembered.

A test image goes through the backbone once, and is compared with each normal image once, for all k and draws.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.few_shot import draw
from datasets.image_set import ImageSet
from datasets.loader import in_batches
from datasets.meta import Entry
from datasets.transforms import image_transform, normalised
from engine.data_sets import refuse_absent
from engine.training_sets import fingerprints, known_images
from models.memory import TokenDetector, distance_grids, distance_maps, remember
from utils.errors import UserError, some_of
from utils.evaluation_types import ClassMaps, ClassResult, ImageScore, Prediction, Writer
from utils.files import write_text
from utils.measures.class_measures import measure_class
from utils.results import Measures, markdown_table, mean_of, mean_result, percent, with_std
from utils.spread import spreads

logger = logging.getLogger(__name__)

FILE = "shots.md"
TITLE = "Maps compared with normal images of each class, so many from the training split of {}"
SPREAD = "behind ±: the standard deviation over the seeds of the mean over the classes"


@dataclass(eq=False)
class Shots(Writer):
    """The detector's zero-shot maps with each patch's distance to K draws of normal images; measures those, too."""

    detector: TokenDetector
    images: ImageSet  # with normal images of its training split
    shots: Sequence[int]  # the images of a draw
    seeds: Sequence[int]  # one for each draw
    image_size: int
    batch_size: int
    folder: Path
    needs_maps = True

    def __post_init__(self) -> None:
        shots, seeds = sorted(set(self.shots)), dict.fromkeys(self.seeds)
        self.draws = {f"{shot}, seed {seed}": (shot, seed) for shot in shots for seed in seeds}
        self.drawn = {name: self._draw(name) for name in self.images.phrases()}
        self.content: dict[str, Any] = {"mean": {}, "classes": {}, "images": {}}  # for results.json
        for name, drawn in self.drawn.items():
            self.content["images"][name] = {key: [one.img_path for one in own] for key, own in drawn.items()}
        self._look_at_files()
        self.image_scores = self.detector.image_scores
        self.zero_shot: list[ClassResult] = []
        self.remembered = None  # class, tokens and choices, of the class that is predicted

    def _draw(self, name: str) -> dict[str, list[Entry]]:
        normal = [entry for entry in self.images.train.get(name, ()) if entry.anomaly == 0]
        if len(normal) < max(self.shots):
            found = f"{self.images.root} has {len(normal)} normal images of {name} in its training split"
            raise UserError(f"--shots {max(self.shots)}: {found}; give fewer shots, or other --classes")
        return {key: draw(normal, *one) for key, one in self.draws.items()}

    def _look_at_files(self) -> None:
        """Refuse normal images that are not there, before any is predicted, and note those that are tested, too."""
        entries = dict.fromkeys(one for draws in self.drawn.values() for own in draws.values() for one in own)
        refuse_absent(self.images.root, [one.img_path for one in entries], "--shots draws images")
        if both := known_images(self.images, fingerprints([replace(self.images, entries=[*entries])])):
            names = some_of([one.img_path for one in both])
            note = f"test images that are among the normal images of --shots ({len(both)}): {names}"
            if note not in self.images.notes:  # as all tests of a data set have the same
                self.images.notes.append(note)
                logger.warning("%s", note)

    @torch.inference_mode()
    def predict(self, images: Tensor, class_names: Sequence[str]) -> Prediction:
        """Predict maps and `text_prob` of normalised images [B, 3, S, S] of one class, and their `distances`."""
        if self.remembered is None or self.remembered[0] != class_names[0]:
            self.remembered = class_names[0], *self._remember(class_names[0])
        found = self.detector.predict(images, class_names, with_tokens=True)
        return found._replace(tokens=None, distances=distance_grids(found.tokens, *self.remembered[1:]))

    def _remember(self, name: str) -> tuple[list[Tensor], Tensor]:
        """Encode a class's normal images: unit tokens of each tap [R, k, C]; and say which each draw has, [1, K, R]."""
        draws = self.drawn[name].values()
        entries, tokens = list(dict.fromkeys(entry for drawn in draws for entry in drawn)), []
        for batch in in_batches(entries, self.batch_size):
            images = torch.stack([image_transform(self.images.load(entry), self.image_size) for entry in batch])
            tokens += remember(self.detector, normalised(images), [name] * len(batch), of=max(self.shots))
        taps = [torch.stack(tap) for tap in zip(*tokens, strict=True)]
        return taps, torch.tensor([[[one in drawn for one in entries] for drawn in draws]], device=taps[0].device)

    def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
        found: dict[str, Measures] = {}
        for place, key in enumerate(self.draws):
            grids = torch.from_numpy(np.stack([one[place] for one in maps.distances]))
            own = maps.maps + distance_maps(self.detector, grids).cpu().numpy()
            scores = self.image_scores(maps.text_prob, own.max((1, 2)), own.min((1, 2))).tolist()
            pairs = zip(maps.samples, scores, strict=True)
            rows = [ImageScore(one.img_path, one.cls_name, one.anomaly, score) for one, score in pairs]
            found[key] = measure_class(rows, own, maps.masks.copy(), maps.has_mask).measures
        self._add(maps.samples[0].cls_name, found)

    def _add(self, name: str, found: dict[str, Measures]) -> None:
        """Take a class's measures by draw, and bring the means over the classes up to date."""
        self.content["classes"][name] = found
        means: dict[str, list[Measures]] = {}
        for key, (shot, _) in self.draws.items():
            means.setdefault(str(shot), []).append(mean_of([own[key] for own in self.content["classes"].values()]))
        for shot, own in means.items():
            self.content["mean"][shot] = spreads(own)

    def class_done(self, result: ClassResult) -> None:
        self.zero_shot.append(result)

    def kept(self) -> dict[str, Measures]:
        return self.content["classes"][self.zero_shot[-1].name]

    def restore(self, result: ClassResult, kept: dict[str, Measures]) -> None:
        self.zero_shot.append(result)
        self._add(result.name, kept)

    def finish(self) -> str | None:
        if not self.zero_shot:
            return None
        title, zero_shot = TITLE.format(self.images.spec.label), mean_result(self.zero_shot).measures
        keys = next(iter(self.content["mean"].values()))
        rows = [["0", *(percent(zero_shot[key]) for key in keys)]]
        rows += [[shot, *(with_std(**one) for one in own.values())] for shot, own in self.content["mean"].items()]
        table, seeds = markdown_table(["shots", *keys], rows), ", ".join(map(str, dict.fromkeys(self.seeds)))
        note = f"means over {len(self.zero_shot)} of {len(self.drawn)} classes, and over the draws by seeds {seeds}"
        write_text(self.folder / FILE, f"# {title}\n\n{table}\n\n- {note}\n- {SPREAD}\n")
        logger.info("%s\n%s", title, table)
        return f"results by shots are in {self.folder / FILE}"
