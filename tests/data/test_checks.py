"""What is told of a data set with every kind of fault."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.checks import check_data_set
from data.found import Kind
from datasets.meta import Entry
from datasets.registry import get_spec
from tests.builder_data import build, mvtec_class, put
from utils.errors import Problem

FOLDER = get_spec("folder")  # of which nothing is published


def check(root: Path, name: str = "folder", meta: Path | None = None, classes=None) -> list[Problem]:
    return check_data_set(get_spec(name), root, meta, classes)[1]


def said(kind: Kind, where: str, count: int = 1) -> Problem:
    """The problem that a kind of fault is told as."""
    return Problem(kind.level, f"{kind.text} ({count}): {where}", kind.remedy)


def add_entry(meta: Path, **values) -> None:
    """One more test image of the class bottle in a meta.json."""
    content = json.loads(meta.read_text())
    entry = Entry("bottle/test/crack/2.png", "", "bottle", "crack", 1)
    content["test"]["bottle"].append(asdict(entry) | values)
    meta.write_text(json.dumps(content))


def test_a_sound_data_set_has_no_problems_and_nothing_is_written(bottle):
    before = sorted(bottle.parent.rglob("*"))
    meta, problems = check_data_set(FOLDER, bottle.parent, None, None)
    assert problems == []
    assert len(meta["test"]["bottle"]) == 3
    assert sorted(bottle.parent.rglob("*")) == before


def test_truncated_images_and_masks_are_errors(bottle):
    image, mask = bottle / "test" / "crack" / "2.png", bottle / "ground_truth" / "crack" / "10_mask.png"
    for path in (image, mask):
        path.write_bytes(path.read_bytes()[:45])
    problems = check(bottle.parent)
    assert [problem.level for problem in problems] == ["error", "error"]
    assert problems[0].what.startswith(f"unreadable images (1): cannot read the image {image}: ")
    assert problems[1].what.startswith(f"unreadable masks (1): cannot read the image {mask}: ")


def test_files_that_a_list_has_and_the_folder_lacks_are_errors(bottle):
    build("folder", bottle.parent)
    gone = [bottle / "test" / "good" / "0.png", bottle / "ground_truth" / "crack" / "2_mask.png"]
    for path in gone:
        path.unlink()
    assert check(bottle.parent) == [
        said(Kind.MISSING_MASK, f"there is no image {gone[1]}"),
        said(Kind.MISSING, f"there is no image {gone[0]}"),
    ]


def test_masks_and_labels_that_contradict_each_other_are_told(bottle):
    put(bottle / "ground_truth" / "crack" / "2_mask.png", 0)
    meta = build("folder", bottle.parent)
    put(bottle / "test" / "good" / "1.png")
    mask = "bottle/ground_truth/crack/10_mask.png"
    add_entry(meta, img_path="bottle/test/good/1.png", mask_path=mask, anomaly=0)
    assert check(bottle.parent) == [
        said(Kind.EMPTY_MASK, "bottle/ground_truth/crack/2_mask.png"),
        said(Kind.NORMAL_WITH_MASK, f"bottle/test/good/1.png ({mask})"),
    ]


def test_a_mask_of_another_size_is_told(bottle):
    put(bottle / "ground_truth" / "crack" / "2_mask.png", 255, shape=(8, 6))
    where = "bottle/ground_truth/crack/2_mask.png (6 x 8, its image 8 x 6)"
    assert check(bottle.parent) == [said(Kind.OTHER_SIZE, where)]


def test_anomalous_images_that_lack_a_mask_in_a_list_are_told(bottle):
    meta = build("folder", bottle.parent)
    put(bottle / "test" / "crack" / "3.png")
    add_entry(meta, img_path="bottle/test/crack/3.png")
    assert check(bottle.parent) == [said(Kind.NO_MASK, "bottle/test/crack/3.png")]


def saved_anew(source: Path, target: Path) -> None:
    """The same pixels in another file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.open(source).save(target)


@pytest.mark.parametrize(
    "source, target, kind",
    [
        ("bottle/train/good/02.png", "bottle/test/good/7.bmp", Kind.BOTH_SPLITS),
        ("bottle/test/good/0.png", "bottle/test/good/7.bmp", Kind.TWICE),
        ("bottle/test/good/0.png", "nut/test/good/7.bmp", Kind.TWO_CLASSES),
        ("bottle/train/good/02.png", "nut/train/good/7.bmp", Kind.TWO_CLASSES),
        ("bottle/train/good/02.png", "bottle/test/hole/7.bmp", Kind.TWO_LABELS),
    ],
)
def test_the_same_image_in_two_places_is_told_whatever_its_format(bottle, source, target, kind):
    root = bottle.parent
    shutil.rmtree(bottle / "ground_truth")
    mvtec_class(root / "nut")
    shutil.rmtree(root / "nut" / "ground_truth")
    saved_anew(root / source, root / target)
    assert check(root) == [said(kind, f"{target} (= {source})")]


def test_the_same_image_twice_in_training_is_no_problem(bottle):
    saved_anew(bottle / "train" / "good" / "02.png", bottle / "train" / "good" / "03.bmp")
    assert check(bottle.parent) == []


def test_images_of_one_size_in_bytes_and_other_pixels_are_not_the_same(tmp_path):
    for name, shape in (("a.bmp", (2, 8)), ("b.bmp", (4, 4)), ("c.bmp", (8, 2))):
        put(tmp_path / name, 7, shape)
    assert check(tmp_path) == []


def test_an_image_unlike_its_class_is_told(tmp_path):
    for number in range(9):
        put(tmp_path / f"{number}.png")
    put(tmp_path / "odd.png", shape=(7, 8))
    with Image.open(tmp_path / "0.png") as image:
        image.convert("RGBA").save(tmp_path / "0.png")
    assert check(tmp_path) == [
        said(Kind.ODD_SIZE, "odd.png (8 x 7, not 8 x 6)"),
        said(Kind.ODD_MODE, "0.png (RGBA, not L)"),
    ]
    put(tmp_path / "another.png", shape=(7, 8))  # so that the others are not nearly all
    assert check(tmp_path) == [said(Kind.ODD_MODE, "0.png (RGBA, not L)")]


def test_images_of_few_are_not_odd(bottle):
    put(bottle / "test" / "good" / "1.png", shape=(7, 8))
    assert check(bottle.parent) == []


def test_many_places_are_told_by_the_first_few(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    unreadable, nothing = check(tmp_path)
    assert unreadable.what.startswith("unreadable images (9): ")
    assert unreadable.what.endswith(
        f"{tmp_path / '4.png'} is not an image, or of a kind that cannot be read and 4 more"
    )
    assert nothing.what == f"{tmp_path} has no test image that can be read"


def test_a_part_of_a_published_data_set_is_a_warning(bottle):
    (problem,) = check(bottle.parent, "mvtec")
    assert problem.level == "warning"
    assert problem.what.endswith(
        "a partial or different test split: 1 of 15 classes, 1 of 467 normal images, 2 of 1258 anomalous images"
    )


def test_some_classes_are_looked_at_alone(bottle):
    root = bottle.parent
    mvtec_class(root / "nut")
    (root / "nut" / "test" / "good" / "0.png").write_bytes(b"no image")
    assert check(root, "mvtec", classes=["bottle"]) == []
    assert check(root, "mvtec", classes=["bottle", "bolt"]) == [
        Problem("error", f"{root} has no class bolt in its test split", "choose --classes from bottle, nut")
    ]


def test_images_that_no_list_has_are_told(bottle):
    build("folder", bottle.parent)
    put(bottle / "test" / "good" / "new.png")
    (problem,) = check(bottle.parent)
    assert "does not list (1): bottle/test/good/new.png" in problem.what


@pytest.mark.parametrize("content", ["{", '{"train": {}, "test": {}}', '{"train": {}}', "[]"])
def test_a_broken_list_is_one_error(bottle, content):
    path = bottle.parent / "meta.json"
    path.write_text(content)
    (problem,) = check(bottle.parent)
    assert problem.level == "error"
    assert problem.what.startswith(str(path))
    assert problem.remedy.startswith("correct the list")


def test_a_list_that_is_not_there_is_one_error(bottle, tmp_path):
    (problem,) = check(bottle.parent, meta=tmp_path / "none.json")
    assert problem.what == f"{tmp_path / 'none.json'}: cannot be read, No such file or directory"


def test_a_folder_that_is_not_there_is_one_error(tmp_path):
    (problem,) = check(tmp_path / "none", "headct")
    assert (problem.level, problem.what) == ("error", f"there is no folder {tmp_path / 'none'}")
    assert "labels.csv" in problem.remedy
    assert check(tmp_path / "none", "demo")[0].level == "warning"  # as it is drawn when needed


def test_an_empty_folder_is_one_error(tmp_path):
    (problem,) = check(tmp_path, "mvtec")
    assert problem.what == f"{tmp_path} has no test image that can be read"
    assert "CLASS/train/good" in problem.remedy


@pytest.mark.parametrize("method", ["iterdir", "is_dir"])
def test_a_folder_that_may_not_be_read_is_one_error(bottle, monkeypatch, method):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, method, refuse)
    (problem,) = check(bottle.parent)
    assert problem.level == "error"
    assert problem.what.endswith("Permission denied")


def test_a_wholly_other_file_does_not_stop_the_check(bottle):
    np.save(bottle / "test" / "good" / "0.npy", np.zeros(3))
    (bottle / "test" / "good" / "0.png").write_bytes(bytes(range(256)))
    (bottle / "test" / "crack" / "2.png").write_bytes(b"")
    assert [problem.level for problem in check(bottle.parent)] == ["error"]


def test_every_kind_has_another_text_and_a_remedy():
    every = Kind.__members__.values()  # with aliases, as two equal ones would be
    assert len({kind.text for kind in every}) == len(every) > 15
    assert all(kind.remedy and kind.level in ("error", "warning") for kind in every)
