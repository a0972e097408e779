"""The builders of meta.json: every layout, every problem they name, and the entry points."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data.build
from data.build import LAYOUTS, build_meta, ensure_meta, main
from data.common import list_images
from datasets.meta import Entry, read_meta
from datasets.registry import REGISTRY, get_spec
from utils.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
SHAPE = (6, 8)


def put(path: Path, value: int = 0, shape: tuple[int, int] = SHAPE) -> Path:
    """A small grey image of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)
    return path


def put_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mvtec_class(folder: Path, normal: str = "good") -> None:
    for number in (10, 2):  # written in the wrong order
        put(folder / "train" / normal / f"{number:02}.png", 100 + number)
        put(folder / "test" / "crack" / f"{number}.png", 200 + number)
        put(folder / "ground_truth" / "crack" / f"{number}_mask.png", 255)
    put(folder / "test" / normal / "0.png", 50)


def built(layout: str, root: Path, **options) -> dict:
    return read_meta(build_meta(layout, root, **options), root)


def paths(entries: list[Entry]) -> list[tuple[str, str, int | None]]:
    return [(entry.img_path, entry.mask_path, entry.anomaly) for entry in entries]


@pytest.fixture
def warnings_of(caplog):
    """The warnings logged since, as one text."""
    caplog.set_level(logging.INFO)
    return lambda: "\n".join(r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)


# Layouts


def test_every_data_set_has_a_builder_that_can_be_run_and_imported():
    for spec in REGISTRY.values():
        assert callable(LAYOUTS[spec.layout].read)
        assert LAYOUTS[spec.layout].EXPECTED


def test_mvtec(tmp_path, warnings_of):
    mvtec_class(tmp_path / "bottle")
    mvtec_class(tmp_path / "cable")
    put(tmp_path / "extra" / "0.png")
    put_text(tmp_path / "readme.txt", "hello")
    put_text(tmp_path / "bottle" / "test" / "good" / ".hidden.png", "not an image")
    meta = built("mvtec", tmp_path)
    assert list(meta["train"]) == list(meta["test"]) == ["bottle", "cable"]
    assert paths(meta["train"]["bottle"]) == [
        ("bottle/train/good/02.png", "", 0),
        ("bottle/train/good/10.png", "", 0),
    ]
    assert paths(meta["test"]["bottle"]) == [
        ("bottle/test/crack/2.png", "bottle/ground_truth/crack/2_mask.png", 1),
        ("bottle/test/crack/10.png", "bottle/ground_truth/crack/10_mask.png", 1),
        ("bottle/test/good/0.png", "", 0),
    ]
    assert [entry.specie_name for entry in meta["test"]["cable"]] == ["crack", "crack", "good"]
    assert warnings_of() == ""


def test_building_twice_gives_the_same_bytes(tmp_path):
    mvtec_class(tmp_path / "bottle")
    first = build_meta("mvtec", tmp_path).read_bytes()
    assert build_meta("mvtec", tmp_path).read_bytes() == first


VISA_HEADER = "object,split,label,image,mask\n"


def visa_rows(name="candle"):
    images, masks = f"{name}/Data/Images", f"{name}/Data/Masks/Anomaly"
    return [
        (name, "train", "normal", f"{images}/Normal/0.JPG", ""),
        (name, "test", "normal", f"{images}/Normal/1.JPG", ""),
        (name, "test", "anomaly", f"{images}/Anomaly/0.JPG", f"{masks}/0.png"),
    ]


def visa_tree(root: Path) -> None:
    for value, (*_, image, mask) in enumerate(visa_rows()):
        put(root / image, 10 * value)
        if mask:
            put(root / mask, 1)
    put_text(root / "split_csv" / "1cls.csv", VISA_HEADER + "\n".join(",".join(row) for row in visa_rows()))


def test_visa(tmp_path, warnings_of):
    visa_tree(tmp_path)
    meta = built("visa", tmp_path)
    (_, _, _, train, _), (_, _, _, normal, _), (_, _, _, anomalous, mask) = visa_rows()
    assert paths(meta["train"]["candle"]) == [(train, "", 0)]
    assert paths(meta["test"]["candle"]) == [(normal, "", 0), (anomalous, mask, 1)]
    assert warnings_of() == ""


def test_visa_lists_what_is_absent_briefly(tmp_path, warnings_of):
    visa_tree(tmp_path)
    put(tmp_path / "candle/Data/Masks/Anomaly/9.png", 1)
    (tmp_path / "candle/Data/Masks/Anomaly/0.png").unlink()
    rows = [("nut", "test", "normal", f"nut/{n}.JPG", "") for n in range(1000)]
    with (tmp_path / "split_csv" / "1cls.csv").open("a") as file:
        file.write("\n" + "\n".join(",".join(row) for row in rows))
    meta = built("visa", tmp_path)
    assert list(meta["test"]) == ["candle"]
    said = warnings_of()
    assert "images listed but absent, left out (1000): nut/0.JPG" in said
    assert "and 995 more" in said
    assert len(said) < 1000
    assert "anomalous images without a mask (1): candle/Data/Images/Anomaly/0.JPG" in said
    assert "masks without an image (1): candle/Data/Masks/Anomaly/9.png" in said


def test_visa_with_another_split_file(tmp_path):
    visa_tree(tmp_path)
    text = VISA_HEADER + ",".join(visa_rows()[2])
    put_text(tmp_path / "mine.csv", text)
    meta = built("visa", tmp_path, split_csv=str(tmp_path / "mine.csv"))
    assert meta["train"] == {}
    assert len(meta["test"]["candle"]) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read .*1cls.csv: No such file"),
        ("object,split,label,image\n", "1cls.csv has no column 'mask'"),
        (VISA_HEADER + "candle,test,normal\n", "1cls.csv, line 2: too few values"),
        (VISA_HEADER + "candle,val,normal,a.JPG,\n", "1cls.csv, line 2: 'val, normal'"),
        (VISA_HEADER + "candle,test,bad,a.JPG,\n", "1cls.csv, line 2: 'test, bad'"),
        (VISA_HEADER, "no test images found"),
    ],
)
def test_a_wrong_split_file_is_refused_by_line(tmp_path, text, said):
    if text is not None:
        put_text(tmp_path / "split_csv" / "1cls.csv", text)
    with pytest.raises(UserError, match=said):
        build_meta("visa", tmp_path)


def test_isic(tmp_path, warnings_of):
    for stem in ("ISIC_2", "ISIC_10"):
        put(tmp_path / "ISBI2016_ISIC_Part1_Test_Data" / f"{stem}.jpg")
        put(tmp_path / "ISBI2016_ISIC_Part1_Test_GroundTruth" / f"{stem}_Segmentation.png", 255)
    entries = built("isic", tmp_path)["test"]["isic"]
    assert paths(entries) == [
        (
            f"ISBI2016_ISIC_Part1_Test_Data/{stem}.jpg",
            f"ISBI2016_ISIC_Part1_Test_GroundTruth/{stem}_Segmentation.png",
            1,
        )
        for stem in ("ISIC_2", "ISIC_10")
    ]
    assert warnings_of() == ""


@pytest.mark.parametrize(
    ("images", "masks", "suffix"), [("Original", "Ground Truth", "tif"), ("images", "masks", "png")]
)
def test_cvc_clinicdb(tmp_path, warnings_of, images, masks, suffix):
    for number in (10, 9):
        put(tmp_path / images / f"{number}.{suffix}")
        put(tmp_path / masks / f"{number}.{suffix}", 255)
    assert paths(built("cvc_clinicdb", tmp_path)["test"]["cvc_clinicdb"]) == [
        (f"{images}/{number}.{suffix}", f"{masks}/{number}.{suffix}", 1) for number in (9, 10)
    ]
    assert warnings_of() == ""


def test_headct(tmp_path, warnings_of):
    for number in (0, 1, 100, 7):
        put(tmp_path / "head_ct" / "head_ct" / f"{number:03}.png")
    put_text(tmp_path / "labels.csv", "id, hemorrhage\n0,1\n1,1\n3,0\n100,0\n")
    assert paths(built("headct", tmp_path)["test"]["headct"]) == [
        ("head_ct/head_ct/000.png", "", 1),
        ("head_ct/head_ct/001.png", "", 1),
        ("head_ct/head_ct/100.png", "", 0),
    ]
    said = warnings_of()
    assert "images listed but absent, left out (1): id 3" in said
    assert "images without a label, left out (1): head_ct/head_ct/007.png" in said
    assert "mask" not in said


@pytest.mark.parametrize("row", ["x,1", "1,2", "1,"])
def test_headct_refuses_wrong_labels(tmp_path, row):
    put(tmp_path / "head_ct" / "head_ct" / "001.png")
    put_text(tmp_path / "labels.csv", f"id, hemorrhage\n{row}\n")
    with pytest.raises(UserError, match=r"labels\.csv, line 2"):
        build_meta("headct", tmp_path)


@pytest.mark.parametrize("nested", [True, False])
def test_brainmri_is_read_once_though_it_is_there_twice(tmp_path, warnings_of, nested):
    for folder in [tmp_path, tmp_path / "brain_tumor_dataset"] if nested else [tmp_path]:
        put(folder / "yes" / "Y1.JPG")
        put(folder / "yes" / "Y2.jpeg")
        put(folder / "no" / "1 no.PNG")
    prefix = "brain_tumor_dataset/" if nested else ""
    assert paths(built("brainmri", tmp_path)["test"]["brainmri"]) == [
        (f"{prefix}no/1 no.PNG", "", 0),
        (f"{prefix}yes/Y1.JPG", "", 1),
        (f"{prefix}yes/Y2.jpeg", "", 1),
    ]
    assert warnings_of() == ""


def test_folder_of_images_of_which_nothing_is_known(tmp_path):
    root = tmp_path / "screws"
    for name in ("10.png", "9.JPG"):
        put(root / name)
    meta = built("folder", root)
    assert meta == {
        "train": {},
        "test": {"screws": [Entry(name, "", "screws", "", None) for name in ("9.JPG", "10.png")]},
    }


@pytest.mark.parametrize("normal", ["good", "ok", "normal"])
def test_folder_that_is_one_class(tmp_path, normal):
    root = tmp_path / "screws"
    mvtec_class(root, normal)
    put(root / "test" / "new.png", 1)
    meta = built("folder", root)
    assert paths(meta["train"]["screws"]) == [(f"train/{normal}/{n}.png", "", 0) for n in ("02", "10")]
    assert paths(meta["test"]["screws"]) == [
        ("test/crack/2.png", "ground_truth/crack/2_mask.png", 1),
        ("test/crack/10.png", "ground_truth/crack/10_mask.png", 1),
        (f"test/{normal}/0.png", "", 0),
        ("test/new.png", "", None),
    ]


def test_folder_of_classes_without_masks(tmp_path, warnings_of):
    for name in ("nut", "bolt"):
        mvtec_class(tmp_path / name)
        shutil.rmtree(tmp_path / name / "ground_truth")
    meta = built("folder", tmp_path)
    assert list(meta["test"]) == ["bolt", "nut"]
    assert {entry.mask_path for entry in meta["test"]["nut"]} == {""}
    assert warnings_of() == ""
    build_meta("mvtec", tmp_path)
    assert "anomalous images without a mask (4)" in warnings_of()


# Problems


@pytest.fixture
def bottle(tmp_path):
    mvtec_class(tmp_path / "bottle")
    return tmp_path / "bottle"


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
    broken.write_bytes(broken.read_bytes()[:-20])
    entries = built("mvtec", bottle.parent)["test"]["bottle"]
    assert [entry.img_path for entry in entries] == ["bottle/test/crack/10.png", "bottle/test/good/0.png"]
    assert warnings_of().startswith("images left out as unreadable (1): cannot read the image ")
    assert str(broken) in warnings_of()


def test_an_unreadable_mask_is_left_out_and_named(bottle, warnings_of):
    broken = bottle / "ground_truth" / "crack" / "2_mask.png"
    broken.write_bytes(b"no image")
    entries = built("mvtec", bottle.parent)["test"]["bottle"]
    assert paths(entries)[0] == ("bottle/test/crack/2.png", "", 1)
    assert warnings_of().startswith(f"masks left out as unreadable (1): {broken} is not an image")


def test_masks_of_another_size_and_empty_masks_are_named(bottle, warnings_of):
    put(bottle / "ground_truth" / "crack" / "2_mask.png", 255, shape=(8, 6))
    put(bottle / "ground_truth" / "crack" / "10_mask.png", 0)
    assert len(built("mvtec", bottle.parent)["test"]["bottle"]) == 3
    assert warnings_of().splitlines() == [
        "masks of another size than their image (1): bottle/ground_truth/crack/2_mask.png "
        "(6 x 8, its image 8 x 6)",
        "empty masks of anomalous images (1): bottle/ground_truth/crack/10_mask.png",
    ]


def test_the_mask_threshold_decides_what_is_empty(bottle, warnings_of):
    put(bottle / "ground_truth" / "crack" / "10_mask.png", 100)
    build_meta("mvtec", bottle.parent, mask_threshold=127)
    assert "empty masks of anomalous images (1): bottle/ground_truth/crack/10_mask.png" in warnings_of()


def test_a_file_in_both_splits_is_named(bottle, warnings_of):
    shutil.copy(bottle / "train" / "good" / "02.png", bottle / "test" / "good" / "7.png")
    build_meta("mvtec", bottle.parent)
    assert warnings_of() == (
        "test images that are training images too (1): bottle/test/good/7.png (= bottle/train/good/02.png)"
    )


def test_paths_that_a_meta_file_may_not_hold_are_left_out_and_named(bottle, tmp_path_factory, warnings_of):
    elsewhere = put(tmp_path_factory.mktemp("elsewhere") / "0.png", 7)
    (bottle / "test" / "good" / "link.png").symlink_to(elsewhere)
    put(bottle / "test" / "good" / "a\\b.png")
    put(bottle / "test" / "good" / "\udcff.png")  # a byte that is not UTF-8
    entries = built("mvtec", bottle.parent)["test"]["bottle"]
    assert [entry.img_path for entry in entries if entry.anomaly == 0] == ["bottle/test/good/0.png"]
    said = warnings_of()
    assert said.startswith("images left out for their path (3): ")
    for reason in ("through a symlink", "has a backslash", "is not a usable path"):
        assert reason in said


def test_without_the_check_images_are_not_read(bottle, warnings_of):
    (bottle / "test" / "crack" / "2.png").write_bytes(b"no image")
    assert len(built("mvtec", bottle.parent, decode=False)["test"]["bottle"]) == 3
    assert warnings_of() == ""


def test_nothing_usable_is_an_error(bottle):
    root = bottle.parent
    with pytest.raises(UserError, match=r"no test images found in .*; expected is brain_tumor_dataset"):
        build_meta("brainmri", root)
    for path in (bottle / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"none of the 3 test images in .* can be used"):
        build_meta("mvtec", root)
    assert not (root / "meta.json").exists()


def test_images_are_listed_in_natural_order(tmp_path):
    names = ["b.png", "img10.png", "img9.JPG", "img9a.png", "10.tiff", "9.bmp", "009.png"]
    for name in names:
        put_text(tmp_path / name, "")
    put_text(tmp_path / "notes.txt", "")
    (tmp_path / "folder.png").mkdir()
    listed = [path.name for path in list_images(tmp_path)]
    assert listed == ["9.bmp", "009.png", "10.tiff", "b.png", "img9.JPG", "img9a.png", "img10.png"]


# Entry points


def test_ensure_meta_builds_once_and_says_so(bottle, caplog):
    caplog.set_level(logging.INFO)
    path = ensure_meta(get_spec("mvtec"), bottle.parent)
    assert path == bottle.parent / "meta.json"
    assert "building it" in caplog.text
    path.write_text("kept")
    assert ensure_meta(get_spec("mvtec"), bottle.parent) == path
    assert path.read_text() == "kept"


def test_ensure_meta_says_what_is_expected_where(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*nowhere: .*labels\.csv"):
        ensure_meta(get_spec("headct"), tmp_path / "nowhere")


def test_a_read_only_folder_is_left_alone(bottle, tmp_path_factory, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(data.build, "PROJECT", tmp_path_factory.mktemp("project"))
    root = bottle.parent
    root.chmod(0o555)
    try:
        path = ensure_meta(get_spec("mvtec"), root)
        assert ensure_meta(get_spec("mvtec"), root) == path
    finally:
        root.chmod(0o755)
    assert path.is_relative_to(data.build.PROJECT / ".cache" / "meta")
    assert not (root / "meta.json").exists()
    assert "is read-only" in caplog.text
    assert len(read_meta(path, root)["test"]["bottle"]) == 3


def test_main_prints_counts_beside_the_published_ones(bottle, tmp_path, capsys):
    out = tmp_path / "elsewhere" / "meta.json"
    main("mvtec", arguments=["--root", str(bottle.parent), "--out", str(out)])
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["bottle", "2", "1", "2", "0"] in table
    assert ["total", "of", "1", "2", "1", "2", "0"] in table
    assert ["published,", "of", "15", "467", "1258"] in table
    said = "a partial or different test split: 1 of 15 classes, 1 of 467 normal images, 2 of 1258 anomalous images"
    assert said.split() in table
    assert out.is_file()
    assert not (bottle.parent / "meta.json").exists()


@pytest.fixture
def project_copy(tmp_path):
    """The project's code in another place, with a data set's folder of the same name beside its builder."""
    for package in ("data", "datasets", "utils"):
        (tmp_path / package).mkdir()
        for file in (PROJECT / package).glob("*.py"):
            shutil.copy(file, tmp_path / package)
    mvtec_class(tmp_path / "data" / "mvtec" / "bottle")
    return tmp_path


def test_builders_run_as_scripts_from_anywhere(project_copy):
    script = project_copy / "data" / "mvtec.py"
    result = subprocess.run([sys.executable, script], cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "1 of 15 classes" in result.stdout
    meta = json.loads((project_copy / "data" / "mvtec" / "meta.json").read_text())
    assert list(meta["test"]) == ["bottle"]


def test_a_data_sets_folder_does_not_hide_its_builder(project_copy):
    code = "import data.mvtec; print(data.mvtec.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=project_copy, capture_output=True, text=True, check=True
    )
    assert Path(result.stdout.strip()) == project_copy / "data" / "mvtec.py"


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_every_script_has_help_and_one_sentence_for_a_wrong_folder(tmp_path, name):
    script = PROJECT / "data" / f"{name}.py"
    run = [sys.executable, script]
    shown = subprocess.run([*run, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "--root" in shown
    assert ("--split_csv" in shown) == (name == "visa")
    absent = [*run, "--root", "nowhere"]
    result = subprocess.run(absent, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: there is no folder nowhere")
    assert "Traceback" not in result.stderr


# Real data


@pytest.mark.parametrize(
    ("layout", "folder", "train", "test"),
    [
        ("mvtec", "mvtec", {"bottle": 1, "grid": 7}, {"bottle": (1, 3), "grid": (3, 11)}),
        ("mvtec", "hazelnut_toy", {"hazelnut_toy": 28}, {"hazelnut_toy": (6, 17)}),
        ("folder", "hazelnut_toy", {"hazelnut_toy": 28}, {"hazelnut_toy": (6, 17)}),
        ("folder", "hazelnut_toy/hazelnut_toy", {"hazelnut_toy": 28}, {"hazelnut_toy": (6, 17)}),
        ("headct", "headct", {}, {"headct": (30, 30)}),
        ("brainmri", "brainmri", {}, {"brainmri": (98, 155)}),
        ("isic", "isic", {}, {"isic": (0, 5)}),
        ("cvc_clinicdb", "cvc_clinicdb", {}, {"cvc_clinicdb": (0, 20)}),
        ("visa", "visa", {}, {"chewinggum": (1, 1)}),
    ],
)
def test_real_data(shared_data, tmp_path, warnings_of, layout, folder, train, test):
    root = shared_data / folder
    meta = read_meta(build_meta(layout, root, tmp_path / "meta.json"), root)
    assert {name: len(entries) for name, entries in meta["train"].items()} == train
    assert {
        name: tuple([entry.anomaly for entry in entries].count(label) for label in (0, 1))
        for name, entries in meta["test"].items()
    } == test
    masked = {
        bool(entry.mask_path) for entries in meta["test"].values() for entry in entries if entry.anomaly
    }
    assert masked == {layout not in ("headct", "brainmri")}
    said = warnings_of().splitlines()
    if layout == "visa":
        assert len(said) == 1
        assert said[0].startswith("images listed but absent, left out (10819): ")
    else:
        assert said == []
