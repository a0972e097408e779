"""The builders of the data sets that DP-CLIP adds: MPDD, BTAD, those of BMAD, and the colon sets."""

import shutil

import pytest

from data.build import main
from datasets.meta import read_meta
from tests.builder_data import build, built, mvtec_class, paths, put
from utils.errors import UserError

BMAD = ["brain", "liver", "retina"]
COLON = ["colondb", "cvc300", "kvasir", "cvc_clinicdb"]


def test_mpdd_is_read_as_mvtec(tmp_path, capsys, warnings_of):
    mvtec_class(tmp_path / "bracket_black")
    main(["mpdd", "--root", str(tmp_path)])
    said = capsys.readouterr().out
    assert "1 of 6 classes, 1 of 176 normal images, 2 of 282 anomalous images" in said
    assert warnings_of() == ""


def btad_tree(root, ok="ok", ko="ko"):
    for name, images, masks in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        put(root / name / "train" / ok / f"0000.{images}")
        put(root / name / "test" / ok / f"0001.{images}")
        put(root / name / "ground_truth" / ok / f"0001.{masks}", 0)
        for number in ("0002", "0010"):
            put(root / name / "test" / ko / f"{number}.{images}")
            put(root / name / "ground_truth" / ko / f"{number}.{masks}", 255)


def test_btad(tmp_path, warnings_of):
    btad_tree(tmp_path)
    meta = built("btad", tmp_path)
    assert list(meta["train"]) == list(meta["test"]) == ["01", "02", "03"]
    assert paths(meta["train"]["02"]) == [("02/train/ok/0000.png", "", 0)]
    for name, images, masks in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        assert paths(meta["test"][name]) == [
            (f"{name}/test/ko/0002.{images}", f"{name}/ground_truth/ko/0002.{masks}", 1),
            (f"{name}/test/ko/0010.{images}", f"{name}/ground_truth/ko/0010.{masks}", 1),
            (f"{name}/test/ok/0001.{images}", "", 0),
        ]
    assert warnings_of() == ""


def test_btad_in_upper_case(tmp_path, warnings_of):
    btad_tree(tmp_path, "OK", "KO")
    put(tmp_path / "01" / "test" / "KO" / "0011.BMP", 11)
    (tmp_path / "01" / "ground_truth" / "KO").rename(tmp_path / "01" / "ground_truth" / "ko")
    put(tmp_path / "01" / "ground_truth" / "ko" / "0011.PNG", 255)
    meta = built("btad", tmp_path)
    assert paths(meta["train"]["01"]) == [("01/train/OK/0000.bmp", "", 0)]
    entries = meta["test"]["01"]
    assert [entry.anomaly for entry in entries] == [1, 1, 1, 0]
    assert paths(entries)[2] == ("01/test/KO/0011.BMP", "01/ground_truth/ko/0011.PNG", 1)
    assert warnings_of() == ""


def test_btad_names_missing_and_unmatched_masks(tmp_path, warnings_of):
    btad_tree(tmp_path)
    (tmp_path / "03" / "ground_truth" / "ko" / "0002.bmp").rename(tmp_path / "03" / "ground_truth" / "ko" / "0003.bmp")
    assert paths(built("btad", tmp_path)["test"]["03"])[0] == ("03/test/ko/0002.bmp", "", 1)
    assert warnings_of().splitlines() == [
        "anomalous images without a mask (1): 03/test/ko/0002.bmp",
        "masks without an image (1): 03/ground_truth/ko/0003.bmp",
    ]


def bmad_tree(root, good="good", ungood="Ungood"):
    put(root / "train" / good / "1.png", 1)
    put(root / "valid" / ungood / "img" / "2.png", 2)
    put(root / "test" / good / "img" / "3.png", 3)
    put(root / "test" / good / "label" / "3.png", 0)
    for number in (10, 4):
        put(root / "test" / ungood / "img" / f"{number}.png", number)
        put(root / "test" / ungood / "label" / f"{number}.png", 255)


@pytest.mark.parametrize("name", BMAD)
@pytest.mark.parametrize(("good", "ungood"), [("good", "Ungood"), ("Good", "ungood"), ("GOOD", "UNGOOD")])
def test_bmad(tmp_path, warnings_of, name, good, ungood):
    bmad_tree(tmp_path, good, ungood)
    meta = built(name, tmp_path)
    assert paths(meta["train"][name]) == [(f"train/{good}/1.png", "", 0)]
    assert paths(meta["test"][name]) == [
        (f"test/{good}/img/3.png", "", 0),
        (f"test/{ungood}/img/4.png", f"test/{ungood}/label/4.png", 1),
        (f"test/{ungood}/img/10.png", f"test/{ungood}/label/10.png", 1),
    ]
    assert warnings_of() == ""


def test_bmad_without_training_images_or_with_them_in_img(tmp_path):
    bmad_tree(tmp_path)
    (tmp_path / "train" / "good").rename(tmp_path / "train" / "img")
    put(tmp_path / "train" / "good" / "img" / "1.png")
    assert paths(built("liver", tmp_path)["train"]["liver"]) == [("train/good/img/1.png", "", 0)]
    shutil.rmtree(tmp_path / "train")
    assert built("liver", tmp_path)["train"] == {}


def test_bmad_names_what_does_not_match(tmp_path, warnings_of):
    bmad_tree(tmp_path)
    (tmp_path / "test" / "Ungood" / "label" / "4.png").unlink()
    put(tmp_path / "test" / "Ungood" / "label" / "5.png", 255)
    put(tmp_path / "test" / "Ungood" / "label" / "10.png", 0)
    assert paths(built("retina", tmp_path)["test"]["retina"])[1] == ("test/Ungood/img/4.png", "", 1)
    assert warnings_of().splitlines() == [
        "anomalous images without a mask (1): test/Ungood/img/4.png",
        "masks without an image (1): test/Ungood/label/5.png",
        "empty masks of anomalous images (1): test/Ungood/label/10.png",
    ]


@pytest.mark.parametrize("name", COLON)
def test_colon_sets_pair_frames_and_masks_by_stem(tmp_path, warnings_of, name):
    """A frame and a mask too many, at other places of a sorted list, shift nothing."""
    for stem in ("1", "2", "10"):
        put(tmp_path / "images" / f"{stem}.png", int(stem))
    put(tmp_path / "images" / "11.JPG", 11)
    for stem in ("0", "2", "10", "11"):
        put(tmp_path / "masks" / f"{stem}.png", 255)
    assert paths(built(name, tmp_path)["test"][name]) == [
        ("images/1.png", "", 1),
        ("images/2.png", "masks/2.png", 1),
        ("images/10.png", "masks/10.png", 1),
        ("images/11.JPG", "masks/11.png", 1),
    ]
    assert warnings_of().splitlines() == [
        "anomalous images without a mask (1): images/1.png",
        "masks without an image (1): masks/0.png",
    ]


@pytest.mark.parametrize("name", COLON)
def test_colon_sets_may_be_in_folders_of_another_case(tmp_path, warnings_of, name):
    put(tmp_path / "Images" / "1.png")
    put(tmp_path / "MASKS" / "1.png", 255)
    assert paths(built(name, tmp_path)["test"][name]) == [("Images/1.png", "MASKS/1.png", 1)]
    assert warnings_of() == ""


def test_of_two_folders_that_differ_in_case_the_one_of_the_layout_is_read(tmp_path):
    put(tmp_path / "Images" / "1.png")
    put(tmp_path / "images" / "2.png")
    put(tmp_path / "masks" / "2.png", 255)
    assert paths(built("kvasir", tmp_path)["test"]["kvasir"]) == [("images/2.png", "masks/2.png", 1)]


def test_the_grey_of_kvasirs_jpeg_masks_is_no_polyp(tmp_path, warnings_of):
    put(tmp_path / "images" / "1.jpg")
    put(tmp_path / "masks" / "1.jpg", 100)
    main(["kvasir", "--root", str(tmp_path)])
    assert warnings_of() == "empty masks of anomalous images (1): masks/1.jpg"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mpdd", "CLASS/train"), ("btad", "01/train/ok"), ("brain", "test/good/img"), ("cvc300", "images/N")],
)
def test_another_layout_is_refused_with_the_expected_one(tmp_path, name, expected):
    put(tmp_path / "pictures" / "1.png")
    with pytest.raises(UserError, match=f"no test images found in .*; expected is {expected}"):
        main([name, "--root", str(tmp_path)])


def test_real_kvasir(real_data, tmp_path, warnings_of):
    root = real_data / "kvasir_seg"
    meta = read_meta(build("kvasir", root, tmp_path / "meta.json"), root)
    assert [entry.mask_path for entry in meta["test"]["kvasir"]] == [
        f"masks/{path.name}" for path in sorted((root / "masks").iterdir())
    ]
    assert warnings_of() == ""
