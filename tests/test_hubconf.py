"""`torch.hub.load` as a user calls it, in processes with other packages of our packages' names."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import hubconf
from engine.detector import Detector
from tests.test_import_direction import FILES, MODULES, PROJECT, ROOMS, imported

OPTIONAL = {"pillow_heif"}
OTHERS = ("datasets", "models", "utils", "data", "engine", "page", "demo")

USE = """
import importlib.util, json, logging, pickle, sys

folder, others, when, clone, options = sys.argv[1:]
others, options = others.split(","), json.loads(options)

def import_others():
    return {name: importlib.import_module(name) for name in others}

class Spy:  # stands for a package that looks for an optional one while it is imported
    found = {}

    def find_spec(self, name, path=None, target=None):
        if name == "open_clip.model":  # which the hub, looking for what is needed, does not import
            self.found = {other: importlib.util.find_spec(other).origin for other in others}

if when == "before":
    before = import_others()
spy = Spy()
sys.meta_path.insert(0, spy)
import numpy, torch
path, level = list(sys.path), logging.root.level

picture = numpy.load(folder + "/picture.npy")
detector = torch.hub.load(clone, "sdp", source="local", **options)
result = detector(picture)
if when == "after":
    before = import_others()
assert sys.meta_path.index(spy) == 1
sys.meta_path.remove(spy)
detector.calibrate([picture, 255 - picture, picture // 2], false_alarm_rate=0.5)
detector.save(folder + "/saved.safetensors")
loaded = torch.hub.load(clone, "sdp", source="local", saved=folder + "/saved.safetensors")
judged, judged_again = detector(picture), loaded([picture])[0]
assert (judged.p_value, judged.score) == (judged_again.p_value, judged_again.score)
assert (pickle.loads(pickle.dumps(result)).map == result.map).all()
try:
    loaded("no such file.png")
except importlib.import_module("clip_ad.utils.errors").UserError as error:
    assert str(error) == "there is no image no such file.png", error
else:
    raise AssertionError("it was read")

assert type(loaded) is type(detector) and type(loaded).__module__ == "clip_ad.engine.detector"
assert sys.path == path and logging.root.handlers == [] and logging.root.level == level
after = import_others()
for name in others:
    assert after[name] is before[name] is sys.modules[name], name
    assert after[name].__file__.startswith(folder), after[name]
    assert importlib.import_module(f"clip_ad.{name}").__file__.startswith(clone)
ours = [name for name in sys.modules if name.partition(".")[0] in others and name not in others]
print(json.dumps({"score": result.score, "map": result.map.tolist(), "found": spy.found, "ours": ours}))
"""


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def run(folder: Path, program: str, *arguments: Any) -> str:
    """Run a program in a folder that is not the project's, and return what it prints; it may say nothing else."""
    (folder / "program.py").write_text(program)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, folder / "program.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_lives_beside_packages_of_the_same_names(tmp_path, picture, when):
    np.save(tmp_path / "picture.npy", picture)
    options = {"object": "metal nut", "backbone": "demo", "device": "cpu", "cache_dir": str(tmp_path / "cache")}
    options |= {"tile": 64, "tile_scale": 1.25} if when == "after" else {}
    for name in OTHERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    told = json.loads(run(tmp_path, USE, tmp_path, ",".join(OTHERS), when, PROJECT, json.dumps(options)))
    result = Detector("sdp", **options)(picture)
    assert told["score"] == result.score
    np.testing.assert_array_equal(np.asarray(told["map"], np.float32), result.map)
    assert told["found"] == {name: str(tmp_path / name / "__init__.py") for name in OTHERS}
    assert told["ours"] == []


LOOK = """
import importlib.util, json, sys
import torch

class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "open_clip.model":  # which the hub, looking for what is needed, does not import
            print(importlib.util.find_spec("datasets"))

sys.meta_path.insert(0, Spy())
torch.hub.load(sys.argv[1], "sdp", source="local", backbone="demo", cache_dir=sys.argv[2])
print(json.dumps([name for name in sys.modules if name.partition(".")[0] in json.loads(sys.argv[3])]))
"""


def test_a_package_that_looks_for_an_optional_one_does_not_find_ours(tmp_path):
    found, names = run(tmp_path, LOOK, PROJECT, tmp_path / "cache", json.dumps(OTHERS)).splitlines()
    assert (found, names) == ("None", "[]")


def test_every_import_of_ours_is_one_that_is_prefixed():
    """`from a.b import c` is, `import a.b` is not; nor is a name that is made up when it is imported."""
    assert {*ROOMS} == hubconf.ROOMS
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.partition(".")[0] in ROOMS], path


def test_dependencies_are_what_the_detectors_import():
    """By the names under which the hub looks for them."""
    needed, seen = {"engine.detector"}, set()
    while needed - seen:
        name = (needed - seen).pop()
        seen.add(name)
        if name in MODULES:
            modules = [other for other in imported(MODULES[name]) if other]
            needed |= {other if other in MODULES else other.rpartition(".")[0] or other for other in modules}
    foreign = {name.partition(".")[0] for name in seen} - ROOMS.keys() - set(sys.stdlib_module_names)
    assert foreign - OPTIONAL == set(hubconf.dependencies)


def test_another_clone_in_the_same_process_is_refused(monkeypatch):
    other = ModuleType(hubconf.PACKAGE)
    other.__path__ = ["/another/clone"]
    monkeypatch.setitem(sys.modules, hubconf.PACKAGE, other)
    with pytest.raises(ImportError, match=r"clip_ad is imported from \['/another/clone'\] already: use one clone"):
        hubconf.sdp(backbone="demo")
