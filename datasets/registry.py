"""The data sets this project knows: everything that depends on a data set's name is a value here.

Counts are the published sizes of the test splits. Phrases are what a class is called in a prompt (CLIP-AD's
choice; a class without one goes by its folder's name). DBSCAN's parameters are those of the CLIP-AD authors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from utils.errors import UserError

Domain = Literal["industrial", "medical"]


@dataclass(frozen=True)
class Published:
    """Size of a data set's complete test split, as published."""

    classes: int
    normal: int
    anomalous: int


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One data set.

    Attributes:
        name: what `--dataset` calls it.
        layout: the folder layout, that is the builder in `data/` that reads it.
        domain: which prompt file its classes are described with by default.
        phrases: what a class is called in the prompts, for classes not called by their name.
        dbscan_eps, dbscan_min_samples: parameters of the `dbscan` representative vector.
        smoothing: standard deviation in pixels of the Gaussian filter on SDP's anomaly maps.
        smoothing_sdp_plus: the same for SDP+; `None` where it is SDP's.
        mask_threshold: a mask's pixel is anomalous where its value (0 to 255) exceeds this.
        published: the complete test split's size, `None` for a user's own data.
    """

    name: str
    layout: str
    domain: Domain
    phrases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dbscan_eps: float = 0.5
    dbscan_min_samples: int = 15
    smoothing: float = 8.0
    smoothing_sdp_plus: float | None = None
    mask_threshold: int = 0
    published: Published | None = None

    @property
    def folder(self) -> str:
        """Where the data set lies unless the user says otherwise, relative to the project."""
        return f"data/{self.name}"

    def phrase(self, class_name: str) -> str:
        """What `class_name` is called in a prompt."""
        return self.phrases.get(class_name, class_name)


_SPECS = (
    DatasetSpec(name="mvtec", layout="mvtec", domain="industrial", published=Published(15, 467, 1258)),
    DatasetSpec(
        name="visa",
        layout="visa",
        domain="industrial",
        dbscan_eps=1.5,
        dbscan_min_samples=25,
        smoothing_sdp_plus=2.0,
        published=Published(12, 962, 1200),
    ),
    DatasetSpec(
        name="isic",
        layout="isic",
        domain="medical",
        phrases=MappingProxyType({"isic": "skin"}),
        published=Published(1, 0, 379),
    ),
    DatasetSpec(
        name="cvc_clinicdb",
        layout="cvc_clinicdb",
        domain="medical",
        phrases=MappingProxyType({"cvc_clinicdb": "colon"}),
        published=Published(1, 0, 612),
    ),
    DatasetSpec(
        name="headct",
        layout="headct",
        domain="medical",
        phrases=MappingProxyType({"headct": "head ct"}),
        published=Published(1, 100, 100),
    ),
    DatasetSpec(
        name="brainmri",
        layout="brainmri",
        domain="medical",
        phrases=MappingProxyType({"brainmri": "brain ct"}),
        published=Published(1, 98, 155),
    ),
    DatasetSpec(name="demo", layout="demo", domain="industrial", smoothing=2.0),
    DatasetSpec(name="folder", layout="folder", domain="industrial"),
)
REGISTRY: Mapping[str, DatasetSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})


def get_spec(name: str) -> DatasetSpec:
    """Look up a data set by name.

    Raises:
        UserError: there is no such data set.
    """
    if name not in REGISTRY:
        raise UserError(
            f"unknown data set '{name}'; known are {', '.join(REGISTRY)} (use 'folder' for your own)"
        )
    return REGISTRY[name]
