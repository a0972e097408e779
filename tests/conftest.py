"""Fixtures that several test modules use.

What takes seconds to import is imported by the fixtures: the process that shares the tests out needs none of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from models.backbone import Backbone

REAL_DATA = "CLIP_AD_REAL_DATA"


def golden_numbers(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file in `tests/goldens/`."""
    with np.load(Path(__file__).parent / "goldens" / f"{name}.npz") as file:
        return dict(file)


# Modules of minutes, which begin first, so that no worker is left alone with one of them at the end.
LONG = ("test_distributed.py", "test_faults.py", "test_train.py", "test_train_dp_clip.py", "test_train_sdp_plus.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of long modules first; those of one module stay together."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The tests' tensors are so small that threads cost more than they gain, here and in the processes started."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def threads_left_alone() -> Iterator[None]:
    """See that a test does not set PyTorch's threads for later ones: a process forked from several would hang."""
    import torch

    yield
    assert torch.get_num_threads() == 1


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A folder for the sentence embeddings of a module's tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """What the authors' code computes of CLIP-AD from the tiny CLIP."""
    return golden_numbers("tiny_sdp")


@pytest.fixture(scope="session")
def dp_clip_golden() -> dict[str, np.ndarray]:
    """What the authors' code computes of DP-CLIP from the tiny CLIP."""
    return golden_numbers("tiny_dp_clip")


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """The tiny CLIP, in released fidelity."""
    from tests import tiny_clip

    return tiny_clip.load(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of an entry point that name the tiny CLIP."""
    from tests import tiny_clip

    config, weights = tiny_clip.save(tmp_path_factory.mktemp("model"))
    return ["--model", str(config), "--pretrained", str(weights)]


@pytest.fixture(scope="module")
def bolts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of two classes, to train on."""
    from tests import small_data

    return small_data.make(tmp_path_factory.mktemp("bolts"))


@pytest.fixture(scope="module")
def cogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of another class."""
    from tests import small_data

    return small_data.make(tmp_path_factory.mktemp("cogs"), ("cog",), seed=1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A read-only folder of small parts of the real data sets, one subfolder each; without it, tests skip."""
    value = os.environ.get(REAL_DATA)
    if not value:
        pytest.skip(f"needs parts of the real data sets; the environment variable {REAL_DATA} names no folder")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"{REAL_DATA} is {value}, which is not a folder")
    return folder


@pytest.fixture
def warnings_of(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """The warnings logged since, as one text."""
    caplog.set_level(logging.INFO)
    return lambda: "\n".join(r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)


@pytest.fixture
def bottle(tmp_path: Path) -> Path:
    """The folder of one class laid out as MVTec's, alone in its data set."""
    from tests.builder_data import mvtec_class

    mvtec_class(tmp_path / "bottle")
    return tmp_path / "bottle"
