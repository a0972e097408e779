"""What looks wrong with masks: told by the builders, by doctor.py, and by every run on the same list."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.build import ensure_meta
from data.checks import check_data_set
from data.found import Kind
from data.masks import vanishing
from datasets.image_set import ImageSet
from datasets.meta import Entry, read_meta, write_meta
from datasets.registry import get_spec
from engine.data_sets import read_test_split
from tests.builder_data import build

H, W = 48, 64
FOLDER = get_spec("folder")
REGION = np.zeros((H, W), bool)
REGION[10:30, 12:40] = True
WHITE, BLACK = np.full((H, W), 255, np.uint8), np.zeros((H, W), np.uint8)
DEFECT = REGION.astype(np.uint8) * 255
IDS = np.where(REGION, 3, 0).astype(np.uint8)
IDS[12:28, 14:20] = 1


def save(path: Path, pixels: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def sheet(root: Path, mask: np.ndarray | Image.Image | None, name: str = "0_mask.png", orientation: int = 1) -> Path:
    """One class, of a normal and an anomalous image, with this mask."""
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x112] = orientation
    save(root / "test" / "good" / "1.png", rng.integers(0, 255, (H, W), dtype=np.uint8))
    save(root / "test" / "dent" / "0.jpg", rng.integers(0, 255, (H, W), dtype=np.uint8), exif=exif)
    if mask is not None:
        save(root / "ground_truth" / "dent" / name, mask)
    return root


def kinds(root: Path) -> list[str]:
    """What doctor.py finds, without the places."""
    return [problem.what.partition(" (")[0] for problem in check_data_set(FOLDER, root)[1]]


def soft(factor: int) -> Image.Image:
    """The defect drawn `factor` times as large and scaled down."""
    large = Image.fromarray(DEFECT[3:, 3:]).resize((W * factor + 1, H * factor + 1), Image.Resampling.NEAREST)
    return large.resize((W, H), Image.Resampling.BILINEAR)


@pytest.mark.parametrize(
    "mask",
    [
        DEFECT,
        Image.fromarray(REGION),
        IDS,
        np.where(REGION, 60000, 0).astype(np.uint16),
        np.dstack([DEFECT, DEFECT, DEFECT, WHITE]),
        np.dstack([DEFECT, DEFECT, DEFECT, DEFECT]),  # what is not the defect is transparent
        np.dstack([DEFECT, BLACK, BLACK]),
        255 - np.pad(BLACK[10:-10, 10:-10], 10, constant_values=255),  # a large defect, away from the edges
    ],
)
def test_sound_masks_are_not_remarked_on(tmp_path, mask):
    assert kinds(sheet(tmp_path, mask)) == []


FAULTS = [
    (255 - DEFECT, [Kind.COVERING_MASK]),
    (WHITE, [Kind.COVERING_MASK]),
    (np.dstack([WHITE, WHITE, WHITE, DEFECT]), [Kind.COVERING_MASK, Kind.ALPHA_MASK]),
    (np.dstack([WHITE, DEFECT]), [Kind.COVERING_MASK, Kind.ALPHA_MASK]),
    (np.dstack([BLACK, BLACK, BLACK, DEFECT]), [Kind.EMPTY_MASK, Kind.ALPHA_MASK]),
    (soft(2), [Kind.GREY_MASK]),
    (soft(5), [Kind.GREY_MASK]),
    (DEFECT[:24], [Kind.OTHER_SIZE]),
]


@pytest.mark.parametrize(("mask", "expected"), FAULTS)
def test_masks_that_are_something_else_are_told(tmp_path, mask, expected):
    assert kinds(sheet(tmp_path, mask)) == [kind.text for kind in expected]


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_the_noise_of_jpeg_is_told_unless_the_data_sets_threshold_is_above_it(tmp_path, quality):
    sheet(tmp_path, None)
    save(tmp_path / "ground_truth" / "dent" / "0.jpg", DEFECT, quality=quality)
    assert kinds(tmp_path) == [Kind.GREY_MASK.text]
    images, masks = tmp_path / "polyps" / "images", tmp_path / "polyps" / "masks"
    shutil.copytree(tmp_path / "test" / "dent", images)
    shutil.copytree(tmp_path / "ground_truth" / "dent", masks)
    problems = check_data_set(get_spec("kvasir"), tmp_path / "polyps")[1]
    assert ["partial" in problem.what for problem in problems] == [True]


@pytest.mark.parametrize(
    ("orientation", "turned", "expected"),
    [
        (1, False, []),
        (3, False, [Kind.TURNED]),  # or drawn upright: nobody can know
        (6, False, [Kind.OTHER_SIZE, Kind.TURNED]),
        (6, True, []),
        (8, True, []),
    ],
)
def test_images_that_turn_without_their_masks_are_told(tmp_path, orientation, turned, expected):
    sheet(tmp_path, DEFECT.T.copy() if turned else DEFECT, orientation=orientation)
    assert kinds(tmp_path) == [kind.text for kind in expected]


def test_a_mask_that_turns_with_its_image_is_sound(tmp_path):
    sheet(tmp_path, None, orientation=3)
    exif = Image.Exif()
    exif[0x112] = 3
    save(tmp_path / "ground_truth" / "dent" / "0.png", DEFECT, exif=exif)
    assert kinds(tmp_path) == []


def test_a_mask_of_two_images_is_told_and_a_blank_one_of_normal_images_is_not(tmp_path):
    sheet(tmp_path, DEFECT)
    save(tmp_path / "test" / "dent" / "0.png", DEFECT)
    save(tmp_path / "blank.png", BLACK)
    entries = [Entry(f"test/dent/0.{kind}", "ground_truth/dent/0_mask.png", "a", "dent", 1) for kind in ("jpg", "png")]
    entries += [
        Entry(path, "blank.png", "a", "good", 0) for path in ("test/good/1.png", "ground_truth/dent/0_mask.png")
    ]
    write_meta(tmp_path / "list.json", {"test": {"a": entries}})
    told = [problem.what for problem in check_data_set(FOLDER, tmp_path, tmp_path / "list.json")[1]]
    assert f"{Kind.SHARED_MASK.text} (1): ground_truth/dent/0_mask.png (test/dent/0.jpg, test/dent/0.png)" in told
    assert not any("blank" in one for one in told)


def old_list(root: Path) -> Path:
    """A list of an earlier version, which does not say what is wrong."""
    path = ensure_meta(FOLDER, root)
    content = json.loads(path.read_text())
    del content["findings"]
    path.write_text(json.dumps(content))
    return path


def json_lines(root: Path) -> Path:
    write_meta(root / "own.jsonl", read_meta(ensure_meta(FOLDER, root), root))
    return root / "own.jsonl"


@pytest.mark.parametrize("listed", [lambda root: ensure_meta(FOLDER, root), old_list, json_lines])
def test_every_run_says_so_and_knows_it_for_its_table(tmp_path, listed, caplog, warnings_of):
    sheet(tmp_path, 255 - DEFECT)
    path = listed(tmp_path)
    for _ in range(2):
        caplog.clear()
        notes = read_test_split(FOLDER, tmp_path, path).notes
        assert notes == [f"{Kind.COVERING_MASK.text} (1): ground_truth/dent/0_mask.png"]
        assert warnings_of() == notes[0]


def test_the_run_that_builds_the_list_says_it_once(tmp_path, warnings_of):
    sheet(tmp_path, WHITE)
    assert len(read_test_split(FOLDER, tmp_path, None).notes) == 1
    assert warnings_of().count(Kind.COVERING_MASK.text) == 1


def test_a_run_on_some_classes_says_what_is_wrong_with_these(tmp_path):
    for name, mask in (("bolt", WHITE), ("nut", DEFECT)):
        sheet(tmp_path / name, mask)
    build("folder", tmp_path)
    (bolt,) = read_test_split(FOLDER, tmp_path, None, ["bolt"]).notes[:1]
    assert "bolt/ground_truth" in bolt
    assert not any("bolt/ground_truth" in note for note in read_test_split(FOLDER, tmp_path, None, ["nut"]).notes)


def test_what_was_left_out_of_the_list_is_said_in_every_run(tmp_path):
    sheet(tmp_path, DEFECT)
    (tmp_path / "test" / "good" / "2.png").write_bytes(b"no image")
    build("folder", tmp_path)
    (note,) = read_test_split(FOLDER, tmp_path, None).notes
    assert note.startswith("unreadable images, left out (1): ")


def test_a_folder_of_masks_is_their_union(tmp_path):
    left, right = DEFECT.copy(), DEFECT // 255 * 236
    left[:, 20:], right[:, :20] = 0, 0
    sheet(tmp_path, left, "0/000.png")
    save(tmp_path / "ground_truth" / "dent" / "0" / "001.png", right)
    save(tmp_path / "ground_truth" / "dent" / "0" / "._001.png", WHITE)
    assert kinds(tmp_path) == []
    images = read_test_split(FOLDER, tmp_path, None)
    assert np.array_equal(images.read_mask(images.entries[0], (H, W)).numpy(), REGION)
    save(tmp_path / "ground_truth" / "dent" / "0" / "002.png", WHITE[:9])
    assert kinds(tmp_path)[0] == "unreadable masks"


def test_hairlines_that_vanish_in_resizing_are_told(tmp_path):
    hairline = BLACK.copy()
    hairline[:, 30] = 255
    sheet(tmp_path, hairline)
    images = read_test_split(FOLDER, tmp_path, None)
    assert vanishing(images, H) == []
    (said,) = vanishing(images, 16)
    assert said.startswith("masks of which nothing is left at 16 x 16 px, so that these defects count as normal (1): ")
    assert vanishing(images, 16, nearest=True) == []  # which looks at this very column
    assert vanishing(ImageSet(FOLDER, tmp_path, images.entries[:0]), 16) == []
