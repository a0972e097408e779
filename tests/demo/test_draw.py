"""The demo set: reproducible to the byte, its masks true to what the defect changed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.checks import check_data_set
from datasets.meta import read_about
from datasets.registry import get_spec
from demo import draw
from demo.draw import MARKER, Recipe, generate, image_rng
from demo.render import CLASSES, DEFECTS, render
from tests.plain_baselines import baseline_aurocs
from utils.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
SMALL = Recipe(train=1, normal=1, anomalous=2, size=64)
KINDS = [(name, defect) for name in CLASSES for defect in DEFECTS[name]]
SIZE = 128


def test_there_are_enough_classes_and_kinds_of_defect():
    assert len(CLASSES) >= 8
    assert len({defect for _, defect in KINDS}) >= 5
    assert all(len(set(DEFECTS[name])) >= 4 for name in CLASSES)


@pytest.mark.parametrize(("name", "defect"), KINDS)
def test_the_mask_holds_what_the_defect_changed(name, defect):
    sound, faulty, mask = render(name, [defect], np.random.default_rng(5), SIZE)
    assert faulty.shape == (SIZE, SIZE, 3) and faulty.dtype == np.uint8
    assert mask.shape == (SIZE, SIZE) and mask.dtype == bool
    assert 0 < mask.mean() <= 0.12
    change = np.abs(faulty.astype(float) - sound).max(-1)
    assert change[mask].mean() > 8
    assert change[~mask].mean() < 0.5


@pytest.mark.parametrize(("name", "defect"), [kind for kind in KINDS if kind[1] != "missing"])
def test_small_defects_are_whole_ones_in_a_large_picture(name, defect):
    sound, faulty, mask = render(name, [defect], np.random.default_rng(5), 3 * SIZE, 1 / 3)
    assert sound.shape == (3 * SIZE, 3 * SIZE, 3)
    rows, columns = np.nonzero(mask)
    assert max(np.ptp(rows), np.ptp(columns)) < SIZE + 8
    assert 0 < mask.sum() <= 0.12 * SIZE**2
    change = np.abs(faulty.astype(float) - sound).max(-1)
    assert change[mask].mean() > 8
    assert change[~mask].mean() < 0.5


def test_a_set_of_small_defects_has_none_of_a_missing_piece(tmp_path):
    recipe = replace(SMALL, size=96, defect_scale=0.5)
    assert generate(tmp_path, recipe, workers=1)
    assert not generate(tmp_path, recipe, workers=1)
    assert not list(tmp_path.glob("*/test/missing"))


@pytest.mark.parametrize("name", CLASSES)
def test_an_image_depends_on_its_generator_alone(name):
    _, first, _ = render(name, [], image_rng(0, f"{name}/test/good/3.png"), SIZE)
    render(name, DEFECTS[name][:1], np.random.default_rng(1), SIZE)
    _, again, mask = render(name, [], image_rng(0, f"{name}/test/good/3.png"), SIZE)
    _, other_index, _ = render(name, [], image_rng(0, f"{name}/test/good/4.png"), SIZE)
    _, other_seed, _ = render(name, [], image_rng(1, f"{name}/test/good/3.png"), SIZE)
    assert np.array_equal(first, again)
    assert not mask.any()
    assert not np.array_equal(first, other_index)
    assert not np.array_equal(first, other_seed)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    assert generate(root, SMALL, workers=1)
    return root


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(small_set, tmp_path):
    generate(tmp_path / "again", SMALL, workers=2)
    assert _content(tmp_path / "again") == _content(small_set)


def test_another_seed_gives_other_images(small_set, tmp_path):
    generate(tmp_path / "other", replace(SMALL, seed=1), workers=1)
    ours, theirs = _content(small_set), _content(tmp_path / "other")
    images = [name for name in ours if name.endswith(".png")]
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in images)


def test_layout_and_meta(small_set):
    meta = json.loads((small_set / "meta.json").read_text())
    for name in CLASSES:
        assert len(meta["train"][name]) == 1
        labels = [entry["anomaly"] for entry in meta["test"][name]]
        assert sorted(labels) == [0, 1, 1]
        for entry in meta["test"][name]:
            image = Image.open(small_set / entry["img_path"])
            assert image.size == (64, 64) and image.mode == "RGB"
            if entry["anomaly"]:
                mask = np.asarray(Image.open(small_set / entry["mask_path"]))
                assert mask.shape == (64, 64)
                assert set(np.unique(mask)) == {0, 255}


def test_nothing_is_wrong_with_it_as_its_list_says(small_set):
    assert check_data_set(get_spec("demo"), small_set)[1] == []
    assert read_about(small_set / "meta.json").findings == []


def test_a_complete_set_is_kept_and_another_recipe_replaces_it(tmp_path):
    recipe = Recipe(train=1, normal=1, anomalous=1, size=64)
    assert generate(tmp_path / "set", recipe, workers=1)
    assert not generate(tmp_path / "set", recipe, workers=1)
    (tmp_path / "set" / MARKER).unlink()  # as if it had been interrupted
    assert generate(tmp_path / "set", recipe, workers=1)
    assert generate(tmp_path / "set", replace(recipe, normal=2), workers=1)
    assert (tmp_path / "set" / "gear" / "test" / "good" / "001.png").is_file()


def start_drawing(root: Path) -> subprocess.Popen:
    """Start to draw the small set in a process of its own, which prints whether it drew."""
    call = f"generate(Path({str(root)!r}), {SMALL}, workers=1)"
    code = f"from pathlib import Path; from demo.draw import Recipe, generate; print({call})"
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_set_whose_drawing_was_killed_is_not_there_and_is_drawn_from_the_start(small_set, tmp_path):
    root = tmp_path / "set"
    drawing = start_drawing(root)
    while not list(tmp_path.rglob("*.png")):
        assert drawing.poll() is None
        time.sleep(0.01)
    os.killpg(drawing.pid, signal.SIGKILL)
    drawing.communicate()
    assert not root.exists()
    assert generate(root, SMALL, workers=1)
    assert _content(root) == _content(small_set)
    assert [path.name for path in tmp_path.glob(".*/*")] == ["lock"]


def test_two_processes_that_draw_at_once_both_have_the_whole_set(small_set, tmp_path):
    root = tmp_path / "set"
    processes = [start_drawing(root) for _ in range(2)]
    assert sorted(process.communicate()[0] for process in processes) == ["False\n", "True\n"]
    assert _content(root) == _content(small_set)


def test_a_set_that_cannot_be_drawn_leaves_the_old_one(small_set, tmp_path, monkeypatch):
    root = tmp_path / "set"
    generate(root, SMALL, workers=1)
    monkeypatch.setattr(draw, "write_meta", None)
    with pytest.raises(TypeError):
        generate(root, replace(SMALL, seed=1), workers=1)
    assert _content(root) == _content(small_set)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="something other"):
        generate(tmp_path, Recipe(), workers=1)
    with pytest.raises(UserError, match="something other"):
        generate(tmp_path / "notes.txt", Recipe(), workers=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_several_defects_on_one_picture_change_more_than_the_first_alone():
    rng = np.random.default_rng
    _, _, one = render("wood", ["spot"], rng(2), SIZE)
    _, _, two = render("wood", ["spot", "crack"], rng(2), SIZE)
    assert two[one].all()
    assert two.sum() > one.sum()


def test_grey_values_and_edges_alone_do_not_find_the_defects():
    """Mean pixel AUROC over the classes: a detector well above this has understood more than brightness."""
    means = {}
    for name in CLASSES:
        pairs = [
            render(name, [defect], image_rng(7, f"{name}/test/{defect}/{k}.png"), SIZE)[1:]
            for defect in DEFECTS[name]
            for k in (0, 1)
        ]
        for baseline, auroc in baseline_aurocs(*map(list, zip(*pairs, strict=True))).items():
            means.setdefault(baseline, []).append(auroc)
    assert max(np.mean(aurocs) for aurocs in means.values()) < 0.75
