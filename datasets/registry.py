"""The data sets this project knows: everything that depends on a data set's name is a value here.

Counts are the sizes of the test splits. `phrases.json` holds what a class is called in a prompt: CLIP-AD's
phrases (for the colon sets that it was not tested on, the one it has for CVC-ClinicDB) and DP-CLIP's, which describe
what is to be seen; those of data sets that neither was tested on are this project's own. DBSCAN's parameters are those
of the CLIP-AD authors.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, astuple, dataclass, field, replace
from pathlib import Path
from typing import Literal

from utils.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
Domain = Literal["industrial", "medical"]
Phrases = Mapping[str, str] | str  # of each class, or one where all classes are called alike


@dataclass(frozen=True)
class Published:
    """Size of a data set's complete test split, as published, or of what there is of it."""

    classes: int
    normal: int
    anomalous: int
    unlabelled: int = 0
    verified: bool = field(default=True, kw_only=True, compare=False)  # False: as we know it, without a source at hand

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Classes, normal, anomalous and unlabelled images."""
        return astuple(self)[:4]

    @property
    def source(self) -> str:
        """Say how the counts are known."""
        return "as published" if self.verified else "as we know it"

    @classmethod
    def count(cls, classes: int, labels: Sequence[int | None]) -> "Published":
        """Count images by their labels."""
        return cls(classes, *map(labels.count, (0, 1, None)))


@dataclass(frozen=True)
class DatasetSpec:
    """One data set."""

    name: str  # what `--dataset` calls it
    domain: Domain  # which prompt file its classes are described with by default
    published: Published | None = None  # the complete test split's size, None for a user's own data
    _: KW_ONLY
    alias: str | None = None  # another name that `--dataset` may call it by
    protocol: str | None = None  # what of it is tested, and in which form; None where nobody does it in another way
    others: Mapping[str, Published | None] = field(default_factory=dict)  # protocols beside the default one
    phrases: Phrases = field(default_factory=dict)  # what CLIP-AD calls a class in the prompts, if not by its name
    described: Phrases = field(default_factory=dict)  # what DP-CLIP calls it, where that is not as in `phrases`
    keeps_names: bool = False  # whether a class is called by its very name, else with spaces for underscores
    dbscan_eps: float = 0.5  # of the `dbscan` representative vector, as the next
    dbscan_min_samples: int = 15
    smoothing: float = 8.0  # standard deviation in pixels of the Gaussian filter on SDP's anomaly maps
    smoothing_sdp_plus: float | None = None  # the same for SDP+; None where it is SDP's
    token_smoothing: float | None = None  # of DP-CLIP's, in patch tokens; None for what its domain has
    own_phrases: Mapping[str, str] = field(default_factory=dict)  # what a user calls a class, before all others
    mask_threshold: int = 0  # a mask's pixel is anomalous where its value (0 to 255) exceeds this

    @property
    def folder(self) -> Path:
        """Where the data set lies unless the user says otherwise."""
        return PROJECT / "data" / self.name

    @property
    def label(self) -> str:
        """What its results are called; those of different protocols do not compare."""
        return f"{self.name}-{self.protocol}" if self.protocol in self.others else self.name

    @property
    def meta_name(self) -> str:
        """What the list of its images is called in its folder."""
        return f"meta-{self.protocol}.json" if self.protocol in self.others else "meta.json"

    @property
    def protocols(self) -> tuple[str, ...]:
        """The names of its protocols."""
        return tuple(dict.fromkeys(filter(None, (self.protocol, *self.others))))

    def under(self, protocol: str | None) -> "DatasetSpec":
        """Give the data set under one of its protocols, the default one if that is None."""
        if protocol in (None, self.protocol):
            return self
        if protocol not in self.others:
            known = ", ".join(self.protocols) or "none to choose from"
            raise UserError(f"--protocol {protocol} is not one of {self.name}'s protocols: {known}")
        return replace(self, protocol=protocol, published=self.others[protocol])

    def phrase(self, class_name: str, *, described: bool = False) -> str:
        """Give what `class_name` is called in a prompt, its described phrase if that is wanted and known."""
        for phrases in (self.own_phrases, self.described if described else {}, self.phrases):
            phrase = phrases if isinstance(phrases, str) else phrases.get(class_name)
            if phrase is not None:
                return phrase
        return class_name if self.keeps_names else class_name.replace("_", " ")

    def with_threshold(self, mask_threshold: int | None) -> "DatasetSpec":
        """Return the data set with masks that begin above another value, if it is given."""
        return self if mask_threshold is None else replace(self, mask_threshold=mask_threshold)


_SPECS = (
    DatasetSpec("mvtec", "industrial", Published(15, 467, 1258), keeps_names=True),
    DatasetSpec(
        "visa",
        "industrial",
        Published(12, 962, 1200),
        keeps_names=True,
        dbscan_eps=1.5,
        dbscan_min_samples=25,
        smoothing_sdp_plus=2.0,
    ),
    DatasetSpec("mpdd", "industrial", Published(6, 176, 282), keeps_names=True),
    DatasetSpec("btad", "industrial", Published(3, 451, 290)),
    DatasetSpec("mvtec_loco", "industrial", Published(5, 575, 993, verified=False), alias="loco"),
    DatasetSpec("mvtec_ad2", "industrial", alias="ad2", protocol="public", others={"private": None}),
    DatasetSpec("mvtec_3d", "industrial", Published(10, 249, 948, verified=False), protocol="rgb"),
    DatasetSpec("dtd_synthetic", "industrial", Published(12, 357, 947), alias="dtd-synthetic"),
    DatasetSpec("dagm", "industrial", Published(10, 6996, 1054, verified=False), protocol="test"),
    DatasetSpec(
        "ksdd",
        "industrial",
        Published(1, 347, 52, verified=False),
        alias="sdd",
        protocol="whole",
        others={"strips": Published(1, 1143, 54, verified=False)},
    ),
    DatasetSpec("ksdd2", "industrial", Published(1, 894, 110, verified=False), protocol="test"),
    DatasetSpec("rsdd", "industrial", Published(1, 387, 387), protocol="bayes-pfl"),
    DatasetSpec("mtd", "industrial", Published(1, 952, 392), protocol="all", mask_threshold=127),
    DatasetSpec("goodsad", "industrial", Published(6, 1328, 1660)),
    DatasetSpec("vad", "industrial", Published(1, 1000, 1000)),
    DatasetSpec("real_iad", "industrial", alias="real-iad", protocol="multi-view", others={"single-view": None}),
    DatasetSpec("brain", "medical", Published(1, 640, 3075)),
    DatasetSpec("liver", "medical", Published(1, 833, 660)),
    DatasetSpec("retina", "medical", Published(1, 1041, 764)),
    DatasetSpec("colondb", "medical", Published(1, 0, 380)),
    DatasetSpec("cvc_clinicdb", "medical", Published(1, 0, 612), alias="clinicdb"),
    DatasetSpec("cvc300", "medical", Published(1, 0, 60)),
    # Its masks can be JPEG, which is not black where it should be.
    DatasetSpec("kvasir", "medical", Published(1, 0, 1000), mask_threshold=127),
    DatasetSpec("isic", "medical", Published(1, 0, 379)),
    DatasetSpec("headct", "medical", Published(1, 100, 100)),
    DatasetSpec("brainmri", "medical", Published(1, 98, 155)),
    DatasetSpec("br35h", "medical", Published(1, 1500, 1500)),
    DatasetSpec("endotect", "medical", Published(1, 0, 200), alias="endo"),
    DatasetSpec("tn3k", "medical", Published(1, 0, 614, verified=False), mask_threshold=127),  # JPEG, as Kvasir's
    DatasetSpec("demo", "industrial", smoothing=2.0, token_smoothing=0.5),
    DatasetSpec("folder", "industrial"),
)
_PHRASES = json.loads(Path(__file__).with_name("phrases.json").read_text(encoding="utf-8"))
REGISTRY: Mapping[str, DatasetSpec] = {spec.name: replace(spec, **_PHRASES.get(spec.name, {})) for spec in _SPECS}


def canonical_name(name: str) -> str:
    """Give the registry's name for a data set called by name or alias in any case; others stay as they are."""
    called = name.lower()
    return next((spec.name for spec in _SPECS if called in (spec.name, spec.alias)), name)


def get_spec(name: str, protocol: str | None = None) -> DatasetSpec:
    """Look up a data set by its name or alias, in any case, under a protocol, by default its first."""
    spec = REGISTRY.get(canonical_name(name))
    if spec is None:
        raise UserError(f"unknown data set '{name}'; known are {', '.join(REGISTRY)} (use 'folder' for your own)")
    return spec.under(protocol)


def get_specs(names: Sequence[str], protocols: Sequence[str] | None = None) -> list[DatasetSpec]:
    """Look up data sets, each under that one of the protocols which it has, by default its first.

    A protocol that none of them has is a `UserError`, and so are two for one data set.
    """
    specs = [get_spec(name) for name in names]
    for protocol in protocols or ():
        if not any(protocol in spec.protocols for spec in specs):
            specs[0].under(protocol)
    for number, spec in enumerate(specs):
        own = [name for name in protocols or () if name in spec.protocols]
        if len(own) > 1:
            raise UserError(f"--protocol names {own[0]} and {own[1]}, both of {spec.name}: take one")
        specs[number] = spec.under(*own or (None,))
    return specs
