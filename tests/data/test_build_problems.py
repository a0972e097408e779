"""What the builders of meta.json leave out, and the problems they name."""

from dataclasses import replace

import pytest

from data.build import build_meta
from data.found import list_images
from datasets.registry import get_spec
from tests.builder_data import build, built, paths, put, put_text
from utils.errors import UserError


def test_missing_and_unmatched_masks_are_named(bottle, warnings_of):
    truth = bottle / "ground_truth" / "crack"
    (truth / "2_mask.png").rename(truth / "3_mask.png")
    put(bottle / "ground_truth" / "hole" / "1_mask.png", 255)
    entries = built("mvtec", bottle.parent)["test"]["bottle"]
    assert paths(entries)[0] == ("bottle/test/crack/2.png", "", 1)
    assert warnings_of().splitlines() == [
        "anomalous images without a mask (1): bottle/test/crack/2.png",
        "masks without an image (2): bottle/ground_truth/crack/3_mask.png, bottle/ground_truth/hole/1_mask.png",
    ]


def test_an_unreadable_image_is_left_out_and_named(bottle, warnings_of):
    broken = bottle / "test" / "crack" / "2.png"
    broken.write_bytes(broken.read_bytes()[:-40])
    entries = built("mvtec", bottle.parent)["test"]["bottle"]
    assert [entry.img_path for entry in entries] == ["bottle/test/crack/10.png", "bottle/test/good/0.png"]
    assert warnings_of().startswith("unreadable images, left out (1): cannot read the image ")
    assert str(broken) in warnings_of()


def test_an_unreadable_mask_is_left_out_and_named(bottle, warnings_of):
    broken = bottle / "ground_truth" / "crack" / "2_mask.png"
    broken.write_bytes(b"no image")
    entries = built("mvtec", bottle.parent)["test"]["bottle"]
    assert paths(entries)[0] == ("bottle/test/crack/2.png", "", 1)
    assert warnings_of().startswith(f"unreadable masks, left out (1): {broken} is not an image")


def test_the_mask_threshold_decides_what_is_empty(bottle, warnings_of):
    put(bottle / "ground_truth" / "crack" / "10_mask.png", 100)
    build_meta(replace(get_spec("mvtec"), mask_threshold=127), bottle.parent)
    assert "empty masks of anomalous images (1): bottle/ground_truth/crack/10_mask.png" in warnings_of()


def test_paths_that_a_meta_file_may_not_hold_are_left_out_and_named(bottle, tmp_path_factory, warnings_of):
    elsewhere = put(tmp_path_factory.mktemp("elsewhere") / "0.png", 7)
    (bottle / "test" / "good" / "link.png").symlink_to(elsewhere)
    put(bottle / "test" / "good" / "a\\b.png")
    put(bottle / "test" / "good" / "\udcff.png")  # a byte that is not UTF-8
    entries = built("mvtec", bottle.parent)["test"]["bottle"]
    assert [entry.img_path for entry in entries if entry.anomaly == 0] == ["bottle/test/good/0.png"]
    said = warnings_of()
    assert said.startswith("images with a path that is refused, left out (3): ")
    for reason in ("through a symlink", "has a backslash", "is not a usable path"):
        assert reason in said


def test_without_the_check_images_are_not_read(bottle, warnings_of):
    (bottle / "test" / "crack" / "2.png").write_bytes(b"no image")
    assert len(built("mvtec", bottle.parent, decode=False)["test"]["bottle"]) == 3
    assert warnings_of() == ""


def test_nothing_usable_is_an_error(bottle):
    root = bottle.parent
    with pytest.raises(UserError, match=r"no test images found in .*; expected is brain_tumor_dataset"):
        build("brainmri", root)
    for path in (bottle / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"none of the 3 test images in .* can be used"):
        build("mvtec", root)
    assert not (root / "meta.json").exists()


def test_images_are_listed_in_natural_order(tmp_path):
    names = ["b.png", "img10.png", "img9.JPG", "img9a.png", "10.tiff", "9.bmp", "009.png"]
    for name in names:
        put_text(tmp_path / name, "")
    put_text(tmp_path / "notes.txt", "")
    (tmp_path / "folder.png").mkdir()
    listed = [path.name for path in list_images(tmp_path)]
    assert listed == ["9.bmp", "009.png", "10.tiff", "b.png", "img9.JPG", "img9a.png", "img10.png"]
