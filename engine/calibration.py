"""Thresholds from normal images alone, with a false-alarm rate that can be promised: split conformal prediction.

Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World (2005), chapter 2. If the calibration images and a
further normal image are exchangeable, that image's p-value is at most r with a probability of at most r. Of the two
scores of an image, each is tested at half the rate (Bonferroni), so that either may raise the alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.arguments import as_given
from utils.errors import UserError
from utils.files import write_json
from utils.json_files import read_json
from utils.pictures import ColourScale

LEAST = 2  # images; with one there is no rate below 1 to promise
UNRECORDED = ("config_sha256", "folder", "runtime")  # settings that earlier versions left out
IMAGES = "normal_sha256"  # where an origin has the SHA-256 of each file, or prepared picture, that was calibrated on
ROUNDING = 1e-4  # of scores on other machines and in other batches, as a share of them
TERMS = 2  # scores of an image that are tested: its probability by the text, and its map's maximum


@dataclass(frozen=True)
class Calibration:
    """Scores of normal images, and what follows from them."""

    text_prob: Sequence[float]  # probability of each image by the text alone
    map_max: Sequence[float]  # maximum of each image's map
    rate: float  # share of normal images that may be called anomalous, in (0, 1)
    origin: Mapping[str, Any]  # what the scores depend on, such as method, weights and object

    def __post_init__(self) -> None:
        if not (LEAST <= len(self.text_prob) == len(self.map_max) and 0 < self.rate < 1):
            raise ValueError("the lists of scores are too short or differ in length, or the rate is not in (0, 1)")

    @property
    def promised_rate(self) -> float:
        """The rate that holds for images: that asked for, or the least that so few images allow."""
        return max(self.rate, TERMS / (len(self.map_max) + 1))

    @property
    def shortcoming(self) -> str | None:
        """A sentence where so few images do not allow the rate asked for."""
        if self.promised_rate <= self.rate:
            return None
        least = int(np.ceil(TERMS / self.rate - 1 - 1e-9))
        needed = f"a false-alarm rate of {self.rate:g} needs {least} normal images or more"
        return f"{needed}; with {len(self.map_max)} no less than {100 * self.promised_rate:.1f} % can be promised"

    @property
    def text_threshold(self) -> float:
        """An image's probability above this raises the alarm."""
        return conformal_quantile(self.text_prob, self.promised_rate / TERMS)

    @property
    def map_threshold(self) -> float:
        """A map's maximum above this raises the alarm."""
        return conformal_quantile(self.map_max, self.promised_rate / TERMS)

    @property
    def pixel_threshold(self) -> float:
        """Scores above this are marked; a normal image has any of them with at most the rate asked for, or promised.

        It uses no second score and so is never above `map_threshold`.
        """
        return conformal_quantile(self.map_max, max(self.rate, 1 / (len(self.map_max) + 1)))

    def p_value(self, text_prob: float, map_max: float) -> float:
        """Bound how often a normal image looks as anomalous as this one: in (0, 1]."""
        return min(1.0, TERMS * min(p_value(self.text_prob, text_prob), p_value(self.map_max, map_max)))

    def score(self, text_prob: float, map_max: float) -> float:
        """By how much an image exceeds its thresholds, the larger of both, in standard deviations of normal images.

        It is above 0 exactly where the p-value is at most the promised rate. Where all images are the same, 1 stands
        for their deviation.
        """
        excess = ((text_prob - self.text_threshold, self.text_prob), (map_max - self.map_threshold, self.map_max))
        return max(above / (float(np.std(values)) or 1.0) for above, values in excess)

    @property
    def scale(self) -> ColourScale:
        """Colours that leave half of the normal images as they are, with the pixel threshold in their first half."""
        low = min(float(np.median(self.map_max)), self.pixel_threshold)
        step = max(self.pixel_threshold - low, float(np.std(self.map_max)))
        return ColourScale(low, low + 2 * step)

    def agrees_with(self, other: "Calibration") -> bool:
        """Compare with another of the same settings: images and rate must be equal, scores but for rounding.

        Of one that does not record its images, the scores are looked at.
        """
        if IMAGES in self.origin:
            return (self.rate, self.origin[IMAGES]) == (other.rate, other.origin.get(IMAGES))
        own, others = ([one.text_prob, one.map_max] for one in (self, other))
        return self.rate == other.rate and np.shape(own) == np.shape(others) and np.allclose(own, others, ROUNDING, 0)

    @property
    def summary(self) -> dict[str, Any]:
        """Say how many images it is of, the rates and the thresholds."""
        derived = ("rate", "promised_rate", "text_threshold", "map_threshold", "pixel_threshold")
        return {"images": len(self.map_max)} | {name: getattr(self, name) for name in derived}

    def save(self, path: Path) -> None:
        """Write everything to a JSON file, with the thresholds for the reader's eye."""
        write_json(path, {**asdict(self), **self.summary})


def read_calibration(path: Path, origin: Mapping[str, Any]) -> Calibration:
    """Read what `Calibration.save` wrote, for predictions of the same origin."""
    calibration = read_json(path, Calibration, "--calibration")
    if found := difference(calibration.origin, origin):
        remedy = "scores of the two cannot be compared; calibrate again with --normal_dir"
        raise UserError(f"--calibration {path} was made with {found}: {remedy}")
    return calibration


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say in what the settings of an earlier run differ from those of this one; None if in nothing."""
    before = {name: now.get(name) for name in UNRECORDED} | before
    key = next((key for key, value in now.items() if before.get(key) != value), None)
    return key and f"{key} {as_given(before.get(key))}, and this run has {as_given(now[key])}"


def conformal_quantile(values: Sequence[float], rate: float) -> float:
    """Find the least of `values` that a further exchangeable one exceeds with probability <= `rate`."""
    n = len(values)
    rank = int(np.ceil((n + 1) * (1 - rate) - 1e-9))  # less what rounding adds to a whole number
    if rank > n:
        raise ValueError(f"{n} values are too few for a rate of {rate}")
    return float(np.sort(values)[max(rank, 1) - 1])


def p_value(values: Sequence[float], value: float) -> float:
    """Share of `values` and `value` itself that are as large as `value`: in (0, 1]."""
    return (1 + int(np.count_nonzero(np.asarray(values) >= value))) / (len(values) + 1)
