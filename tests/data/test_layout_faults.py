"""What readers make of folders with faults: masks that are missing, too many or grey, and labels that are not there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.build import main
from data.checks import check_data_set
from datasets.images import load_mask, load_rgb
from datasets.meta import read_about
from datasets.registry import get_spec
from tests.builder_data import build, built, paths, put, put_text
from tests.data.folders import FOLDERS, make
from utils.errors import UserError


def put_edge(path: Path) -> Path:
    """A mask whose edge is grey, as JPEG or smoothing leave it: black, 100, white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((6, 8), np.uint8)
    pixels[:, 3:5], pixels[:, 5:] = 100, 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    "name, image, mask",
    [
        ("tn3k", "test-image/0.jpg", "test-mask/0.jpg"),
        ("mtd", "MT_Fray/Imgs/0.jpg", "MT_Fray/Imgs/0.png"),
        ("kvasir", "images/0.jpg", "masks/0.png"),
    ],
)
def test_grey_edges_of_masks_are_normal(tmp_path, warnings_of, name, image, mask):
    put(tmp_path / image)
    put_edge(tmp_path / mask)
    assert paths(built(name, tmp_path)["test"][name]) == [(image, mask, 1)]
    assert load_mask(tmp_path / mask, get_spec(name).mask_threshold).sum() == 18
    assert warnings_of() == ""


@pytest.mark.parametrize("threshold, label", [(None, 1), (127, 0)])
def test_a_threshold_given_to_the_builder_decides_labels_and_is_recorded(tmp_path, threshold, label):
    put(tmp_path / "test" / "1.png")
    put(tmp_path / "test" / "1_GT.png", 100)
    (entry,) = built("ksdd2", tmp_path, mask_threshold=threshold)["test"]["ksdd2"]
    assert entry.anomaly == label
    assert read_about(tmp_path / "meta.json").options.get("mask_threshold") == threshold


def test_dagm_notes_a_label_without_its_image(tmp_path, warnings_of):
    put(tmp_path / "Class1" / "Test" / "0001.PNG")
    put(tmp_path / "Class1" / "Test" / "Label" / "0002_label.PNG", 255)
    assert paths(built("dagm", tmp_path)["test"]["Class1"]) == [("Class1/Test/0001.PNG", "", 0)]
    assert warnings_of() == "masks without an image (1): Class1/Test/Label/0002_label.PNG"


def kolektor(root: Path) -> None:
    for part, value in (("kos01", 0), ("kos02", 255)):
        for number in (0, 10):
            put(root / part / f"Part{number}.jpg", shape=(10, 8))
            put(root / part / f"Part{number}_label.bmp", value if number else 0, shape=(10, 8))


def test_ksdd_without_a_label_or_with_a_broken_one_is_left_out(tmp_path, warnings_of):
    kolektor(tmp_path)
    (tmp_path / "kos01" / "Part0_label.bmp").unlink()
    put_text(tmp_path / "kos02" / "Part10_label.bmp", "no image")
    assert len(built("ksdd", tmp_path)["test"]["ksdd"]) == 2
    said = warnings_of()
    assert "images without a label, left out (1): kos01/Part0.jpg" in said
    assert "the label of kos02/Part10.jpg is unknown" in said


def test_ksdd_strips_are_cut_from_top_to_bottom(tmp_path, warnings_of):
    kolektor(tmp_path)
    pixels = np.zeros((10, 8), np.uint8)
    pixels[8:, :3] = 255
    Image.fromarray(pixels).save(tmp_path / "kos02" / "Part10_label.bmp")
    entries = built("ksdd", tmp_path, protocol="strips")["test"]["ksdd"]
    assert len(entries) == 12
    assert [entry for entry in paths(entries) if entry[2]] == [
        ("strips/kos02_Part10_2.png", "strips/kos02_Part10_2_label.png", 1)
    ]
    whole = np.asarray(load_rgb(tmp_path / "kos02" / "Part10.jpg"))
    strips = [np.asarray(load_rgb(tmp_path / "strips" / f"kos02_Part10_{number}.png")) for number in range(3)]
    assert [len(strip) for strip in strips] == [4, 3, 3]
    assert (np.concatenate(strips) == whole).all()
    masks = [load_mask(tmp_path / "strips" / f"kos02_Part10_{number}_label.png") for number in range(3)]
    assert (np.concatenate(masks) == (pixels > 0)).all()
    assert warnings_of() == ""


def test_the_lists_of_two_protocols_lie_side_by_side_and_are_not_taken_for_each_other(tmp_path):
    kolektor(tmp_path)
    whole, strips = get_spec("ksdd"), get_spec("ksdd", "strips")
    assert check_data_set(strips, tmp_path)[1][-1].what.endswith("has no test image that can be read")
    assert not (tmp_path / "strips").exists()  # which is for the builder to write
    lists = {}
    for spec in (whole, strips):
        lists[spec.protocol] = build("ksdd", tmp_path, protocol=spec.protocol)
        assert json.loads(lists[spec.protocol].read_text())["protocol"] == spec.protocol
    assert lists["whole"] == tmp_path / "meta.json"
    assert lists["strips"] == tmp_path / "meta-strips.json"
    problems = check_data_set(whole, tmp_path, lists["strips"])[1]
    assert "meta-strips.json lists the protocol strips, not whole" in problems[0].what
    assert len(check_data_set(strips, tmp_path)[0]["test"]["ksdd"]) == 12


@pytest.mark.parametrize(
    ("name", "said"),
    [("vad", ["published, of 1", "of 1000 normal images"]), ("tn3k", ["as we know it, of 1", "as we know it\n"])],
)
def test_counts_that_no_source_confirms_are_not_called_published(tmp_path, capsys, name, said):
    for folder in ("test/good", "test/bad", "test-image"):
        put(tmp_path / folder / "0.png")
    put(tmp_path / "test-mask" / "0.png", 255)
    main([name, "--root", str(tmp_path)])
    out = capsys.readouterr().out
    for part in said:
        assert part in out
    assert ("published" in out) == (name == "vad")


def test_a_protocol_is_chosen_on_the_builders_command_line(tmp_path, capsys):
    kolektor(tmp_path)
    main(["SDD", "--root", str(tmp_path), "--protocol", "strips"])
    assert "9 of 1143 normal images, 3 of 54 anomalous images, as we know it" in capsys.readouterr().out
    assert (tmp_path / "meta-strips.json").is_file()
    with pytest.raises(SystemExit):
        main(["ksdd", "--protocol", "drawn"])
    with pytest.raises(SystemExit):
        main(["mvtec", "--protocol", "strips"])


def test_bmad_without_training_images_or_with_them_in_img(tmp_path):
    make(tmp_path, "liver", FOLDERS["liver"])
    (tmp_path / "train" / "good").rename(tmp_path / "train" / "img")
    put(tmp_path / "train" / "good" / "img" / "1.png")
    assert paths(built("liver", tmp_path)["train"]["liver"]) == [("train/good/img/1.png", "", 0)]
    shutil.rmtree(tmp_path / "train")
    assert built("liver", tmp_path)["train"] == {}


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
