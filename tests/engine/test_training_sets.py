"""What was trained on is known by the content of images, whatever their files, folders and data sets are called."""

import shutil
from pathlib import Path

import pytest

from datasets.image_set import ImageSet
from datasets.meta import Entry
from datasets.registry import get_spec
from engine.data_sets import read_test_split
from engine.training_sets import fingerprints, known_images, seen_in_training
from models.adapter_checkpoint import AdapterCheckpoint
from tests import small_data


def images_in(root: Path, name: str = "folder") -> ImageSet:
    return read_test_split(get_spec(name), root)


def checkpoint_of(*sets: ImageSet) -> AdapterCheckpoint:
    return AdapterCheckpoint(Path("a.pth"), "", {}, {}, fingerprints(sets))


@pytest.fixture(scope="module")
def bolts(tmp_path_factory) -> ImageSet:
    return images_in(small_data.make(tmp_path_factory.mktemp("bolts"), ("bolt", "nut")))


def test_a_copy_under_any_name_is_what_was_trained_on(bolts, tmp_path):
    for i, entry in enumerate(bolts.entries):
        copy = tmp_path / f"part/test/{entry.specie_name}/{i}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bolts.root / entry.img_path, copy)
    said = ["btad is what the checkpoint was trained on: its figures say nothing of unseen data"]
    entries = [Entry(f"part/test/{e.specie_name}/{i}.png", "", "part", "", None) for i, e in enumerate(bolts.entries)]
    copies = ImageSet(get_spec("btad"), tmp_path, entries)
    assert seen_in_training([checkpoint_of(bolts)], copies) == said
    assert seen_in_training([checkpoint_of(bolts), checkpoint_of(bolts)], copies) == said  # of two epochs


def test_another_set_under_the_same_names_is_not(bolts, tmp_path):
    others = images_in(small_data.make(tmp_path, ("bolt", "nut"), seed=1))
    assert [entry.img_path for entry in others.entries] == [entry.img_path for entry in bolts.entries]
    assert seen_in_training([checkpoint_of(bolts)], others) == []


def test_some_images_are_counted(bolts):
    few = ImageSet(bolts.spec, bolts.root, bolts.entries[:3])
    said = seen_in_training([checkpoint_of(few)], bolts)
    assert [one.partition(":")[0] for one in said] == ["folder (3 of 10 images) is what the checkpoint was trained on"]
    assert known_images(bolts, fingerprints([few])) == few.entries


def test_what_a_file_does_not_record_is_said(bolts):
    authors = AdapterCheckpoint(Path("a.pth"), "", {}, {})
    said = ["a.pth does not record its images: whether it was trained on folder is not known"]
    assert seen_in_training([authors], bolts) == said


def test_an_image_that_is_gone_is_not_known(bolts, tmp_path):
    there = small_data.make(tmp_path, ("bolt", "nut"))
    images = images_in(there)
    (there / images.entries[0].img_path).unlink()
    assert known_images(images, fingerprints([bolts])) == images.entries[1:]


def test_a_folder_of_masks_counts_by_all_of_them(tmp_path):
    root = small_data.make(tmp_path, ("bolt",))
    truth = root / "bolt" / "ground_truth" / "square"
    single = fingerprints([images_in(root)])["mask_sha256"]
    (root / "meta.json").unlink()
    for number in range(3):
        (truth / f"{number:03}").mkdir()
        (truth / f"{number:03}_mask.png").rename(truth / f"{number:03}" / "000.png")
    assert fingerprints([images_in(root)])["mask_sha256"] == single
    shutil.copyfile(truth / "001" / "000.png", truth / "000" / "001.png")
    added = fingerprints([images_in(root)])["mask_sha256"]
    assert [after == before for after, before in zip(added, single, strict=True)].count(False) == 1
