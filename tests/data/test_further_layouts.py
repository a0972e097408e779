"""The builders of further data sets, each on a small folder of its exact layout with the faults of the real one."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.build import main
from data.checks import check_data_set
from datasets.images import load_mask, load_rgb
from datasets.registry import get_spec
from tests.builder_data import build, built, paths, put, put_text
from utils.errors import UserError


def put_edge(path: Path) -> Path:
    """A mask whose edge is grey, as JPEG or smoothing leave it: black, 100, white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((6, 8), np.uint8)
    pixels[:, 3:5], pixels[:, 5:] = 100, 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("top", ["", "DTD-Synthetic/"])
def test_dtd_synthetic(tmp_path, warnings_of, top):
    folder = tmp_path / top / "Woven_001"
    put(folder / "train" / "good" / "000.png")
    put(folder / "test" / "good" / "000.png")
    put(folder / "test" / "bad" / "000.png")
    put(folder / "ground_truth" / "bad" / "000_mask.png", 255)
    meta = built("dtd_synthetic", tmp_path)
    assert paths(meta["train"]["Woven_001"]) == [(f"{top}Woven_001/train/good/000.png", "", 0)]
    assert paths(meta["test"]["Woven_001"]) == [
        (f"{top}Woven_001/test/bad/000.png", f"{top}Woven_001/ground_truth/bad/000_mask.png", 1),
        (f"{top}Woven_001/test/good/000.png", "", 0),
    ]
    assert warnings_of() == ""


@pytest.mark.parametrize("top", ["", "Br35H/"])
def test_br35h_passes_over_the_unlabelled_pictures_beside(tmp_path, warnings_of, top):
    for name in ("no/no1.jpg", "yes/y1.jpg", "pred/pred1.jpg"):
        put(tmp_path / top / name)
    assert paths(built("br35h", tmp_path)["test"]["br35h"]) == [
        (f"{top}no/no1.jpg", "", 0),
        (f"{top}yes/y1.jpg", "", 1),
    ]
    assert warnings_of() == ""


@pytest.mark.parametrize("top", ["", "DAGM_KaggleUpload/"])
def test_dagm(tmp_path, warnings_of, top):
    for name in ("Class2", "Class10"):
        for split, numbers in (("Train", ("0001", "0002")), ("Test", ("0003", "0004"))):
            for number in numbers:
                put(tmp_path / top / name / split / f"{number}.PNG")
            put(tmp_path / top / name / split / "Label" / f"{numbers[1]}_label.PNG", 255)
            put_text(tmp_path / top / name / split / "Label" / "Labels.txt", "1\n")
    meta = built("dagm", tmp_path)
    assert list(meta["test"]) == ["Class2", "Class10"]
    assert paths(meta["train"]["Class2"]) == [(f"{top}Class2/Train/0001.PNG", "", 0)]
    assert paths(meta["test"]["Class2"]) == [
        (f"{top}Class2/Test/0003.PNG", "", 0),
        (f"{top}Class2/Test/0004.PNG", f"{top}Class2/Test/Label/0004_label.PNG", 1),
    ]
    assert warnings_of() == ""


def test_dagm_notes_a_label_without_its_image(tmp_path, warnings_of):
    put(tmp_path / "Class1" / "Test" / "0001.PNG")
    put(tmp_path / "Class1" / "Test" / "Label" / "0002_label.PNG", 255)
    assert paths(built("dagm", tmp_path)["test"]["Class1"]) == [("Class1/Test/0001.PNG", "", 0)]
    assert warnings_of() == "masks without an image (1): Class1/Test/Label/0002_label.PNG"


@pytest.mark.parametrize("top", ["", "EndoTect_2020_Segmentation_Test_Dataset/"])
def test_endotect(tmp_path, warnings_of, top):
    put(tmp_path / top / "images" / "a1.jpg")
    put(tmp_path / top / "masks" / "a1.png", 255)
    assert paths(built("endotect", tmp_path)["test"]["endotect"]) == [(f"{top}images/a1.jpg", f"{top}masks/a1.png", 1)]
    assert warnings_of() == ""


def test_tn3k_has_jpeg_masks_of_the_images_own_names(tmp_path, warnings_of):
    for folder in ("test-image", "trainval-image"):
        put(tmp_path / folder / "0000.jpg")
    for folder in ("test-mask", "trainval-mask"):
        put_edge(tmp_path / folder / "0000.jpg")
    put_text(tmp_path / "tn3k-trainval-fold0.json", "{}")
    assert paths(built("tn3k", tmp_path)["test"]["tn3k"]) == [("test-image/0000.jpg", "test-mask/0000.jpg", 1)]
    assert load_mask(tmp_path / "test-mask" / "0000.jpg", get_spec("tn3k").mask_threshold).sum() == 18
    assert warnings_of() == ""


def kolektor(root: Path) -> None:
    for part, value in (("kos01", 0), ("kos02", 255)):
        for number in (0, 10):
            put(root / part / f"Part{number}.jpg", shape=(10, 8))
            put(root / part / f"Part{number}_label.bmp", value if number else 0, shape=(10, 8))


def test_ksdd_whole(tmp_path, warnings_of):
    kolektor(tmp_path)
    entries = built("ksdd", tmp_path)["test"]["ksdd"]
    assert paths(entries) == [
        ("kos01/Part0.jpg", "", 0),
        ("kos01/Part10.jpg", "", 0),
        ("kos02/Part0.jpg", "", 0),
        ("kos02/Part10.jpg", "kos02/Part10_label.bmp", 1),
    ]
    assert warnings_of() == ""


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


def test_ksdd2(tmp_path, warnings_of):
    for split, number, value in (("train", 1, 0), ("train", 2, 255), ("test", 3, 0), ("test", 4, 255)):
        put(tmp_path / "KSDD2" / split / f"1000{number}.png")
        put(tmp_path / "KSDD2" / split / f"1000{number}_GT.png", value)
    meta = built("ksdd2", tmp_path)
    assert paths(meta["train"]["ksdd2"]) == [("KSDD2/train/10001.png", "", 0)]
    assert paths(meta["test"]["ksdd2"]) == [
        ("KSDD2/test/10003.png", "", 0),
        ("KSDD2/test/10004.png", "KSDD2/test/10004_GT.png", 1),
    ]
    assert warnings_of() == ""


def test_rsdd_has_bmp_images_and_png_masks(tmp_path, warnings_of):
    put(tmp_path / "Metal15" / "test" / "good" / "a.bmp")
    put(tmp_path / "Metal15" / "test" / "anomaly" / "b.bmp")
    put(tmp_path / "Metal15" / "ground_truth" / "anomaly" / "b.png", 255)
    assert paths(built("rsdd", tmp_path)["test"]["Metal15"]) == [
        ("Metal15/test/anomaly/b.bmp", "Metal15/ground_truth/anomaly/b.png", 1),
        ("Metal15/test/good/a.bmp", "", 0),
    ]
    assert warnings_of() == ""


def test_mvtec_loco_unites_the_masks_of_an_image(tmp_path, warnings_of):
    box = tmp_path / "breakfast_box"
    for folder in ("train/good", "validation/good", "test/good", "test/logical_anomalies", "test/structural_anomalies"):
        put(box / folder / "000.png")
    for kind in ("logical_anomalies", "structural_anomalies"):
        put(box / "ground_truth" / kind / "000" / "000.png", 255)
    right = np.zeros((6, 8), np.uint8)
    right[:2, 4:] = 200
    Image.fromarray(right).save(box / "ground_truth" / "logical_anomalies" / "000" / "001.png")
    put_text(box / "defects_config.json", "[]")
    entries = built("mvtec_loco", tmp_path)["test"]["breakfast_box"]
    assert paths(entries) == [
        ("breakfast_box/test/good/000.png", "", 0),
        *(
            (f"breakfast_box/test/{kind}/000.png", f"breakfast_box/ground_truth/{kind}/000", 1)
            for kind in ("logical_anomalies", "structural_anomalies")
        ),
    ]
    assert load_mask(tmp_path / entries[1].mask_path).sum() == 6 * 4 + 2 * 4
    assert warnings_of() == ""


def ad2(root: Path) -> None:
    can = root / "can"
    put(can / "train" / "good" / "000_regular.png")
    put(can / "validation" / "good" / "000_regular.png")
    put(can / "test_public" / "good" / "000_regular.png")
    put(can / "test_public" / "bad" / "000_overexposed.png")
    put(can / "test_public" / "ground_truth" / "bad" / "000_overexposed_mask.png", 255)
    put(can / "test_private" / "000_regular.png")
    put(can / "test_private_mixed" / "000_mixed.png")


def test_mvtec_ad_2(tmp_path, warnings_of):
    ad2(tmp_path)
    truth = "can/test_public/ground_truth/bad/000_overexposed_mask.png"
    assert paths(built("mvtec_ad2", tmp_path)["test"]["can"]) == [
        ("can/test_public/bad/000_overexposed.png", truth, 1),
        ("can/test_public/good/000_regular.png", "", 0),
    ]
    assert paths(built("mvtec_ad2", tmp_path, protocol="private")["test"]["can"]) == [
        ("can/validation/good/000_regular.png", "", 0),
        ("can/test_private/000_regular.png", "", None),
        ("can/test_private_mixed/000_mixed.png", "", None),
    ]
    assert warnings_of() == ""


def test_mvtec_3d_is_read_in_colour_with_the_masks_of_defects_alone(tmp_path, warnings_of):
    bagel = tmp_path / "bagel"
    for folder in ("train/good", "validation/good", "test/good", "test/crack", "test/hole"):
        put(bagel / folder / "rgb" / "000.png")
        put(bagel / folder / "xyz" / "000.tiff")
    put(bagel / "test" / "good" / "gt" / "000.png", 0)
    for kind, value in (("crack", 1), ("hole", 7)):
        pixels = np.zeros((6, 8), np.uint8)
        pixels[:2] = value  # another value for each defect, all of which look black
        (bagel / "test" / kind / "gt").mkdir()
        Image.fromarray(pixels).save(bagel / "test" / kind / "gt" / "000.png")
    meta = built("mvtec_3d", tmp_path)
    assert paths(meta["train"]["bagel"]) == [("bagel/train/good/rgb/000.png", "", 0)]
    assert paths(meta["test"]["bagel"]) == [
        ("bagel/test/crack/rgb/000.png", "bagel/test/crack/gt/000.png", 1),
        ("bagel/test/good/rgb/000.png", "", 0),
        ("bagel/test/hole/rgb/000.png", "bagel/test/hole/gt/000.png", 1),
    ]
    for kind in ("crack", "hole"):
        assert load_mask(bagel / "test" / kind / "gt" / "000.png", get_spec("mvtec_3d").mask_threshold).sum() == 16
    assert warnings_of() == ""
    (bagel / "test" / "hole" / "gt" / "000.png").unlink()
    built("mvtec_3d", tmp_path)
    assert warnings_of() == "anomalous images without a mask (1): bagel/test/hole/rgb/000.png"


def test_magnetic_tiles_have_masks_with_grey_edges_beside_the_images(tmp_path, warnings_of):
    for defect in ("Free", "Blowhole", "Uneven"):
        put(tmp_path / f"MT_{defect}" / "Imgs" / "exp1_num_1.jpg")
    put(tmp_path / "MT_Free" / "Imgs" / "exp1_num_1.png", 0)
    put_edge(tmp_path / "MT_Blowhole" / "Imgs" / "exp1_num_1.png")
    put(tmp_path / "MT_Uneven" / "Imgs" / "exp1_num_1.png", 0)
    entries = built("mtd", tmp_path)["test"]["mtd"]
    assert paths(entries) == [
        ("MT_Free/Imgs/exp1_num_1.jpg", "", 0),
        ("MT_Blowhole/Imgs/exp1_num_1.jpg", "MT_Blowhole/Imgs/exp1_num_1.png", 1),
        ("MT_Uneven/Imgs/exp1_num_1.jpg", "MT_Uneven/Imgs/exp1_num_1.png", 1),
    ]
    assert [entry.specie_name for entry in entries] == ["good", "blowhole", "uneven"]
    assert load_mask(tmp_path / entries[1].mask_path, get_spec("mtd").mask_threshold).sum() == 18
    assert warnings_of() == "empty masks of anomalous images (1): MT_Uneven/Imgs/exp1_num_1.png"


def test_goodsad_has_masks_that_are_called_as_the_images(tmp_path, warnings_of):
    put(tmp_path / "drink_can" / "train" / "good" / "000.jpg")
    put(tmp_path / "drink_can" / "test" / "good" / "001.jpg")
    put(tmp_path / "drink_can" / "test" / "opened" / "002.jpg")
    put(tmp_path / "drink_can" / "ground_truth" / "opened" / "002.png", 255)
    assert paths(built("goodsad", tmp_path)["test"]["drink_can"]) == [
        ("drink_can/test/good/001.jpg", "", 0),
        ("drink_can/test/opened/002.jpg", "drink_can/ground_truth/opened/002.png", 1),
    ]
    assert warnings_of() == ""


@pytest.mark.parametrize("top", ["", "vad/"])
def test_vad_is_one_class_without_masks_whose_bad_training_images_are_not_taken(tmp_path, warnings_of, top):
    for folder in ("train/good", "train/bad", "test/good", "test/bad"):
        put(tmp_path / top / folder / "0.png")
    meta = built("vad", tmp_path)
    assert paths(meta["train"]["vad"]) == [(f"{top}train/good/0.png", "", 0)]
    assert paths(meta["test"]["vad"]) == [(f"{top}test/bad/0.png", "", 1), (f"{top}test/good/0.png", "", 0)]
    assert warnings_of() == ""


def real_iad(root: Path) -> None:
    defect = {"image_path": "NG/scratch/S0001/v1.jpg", "mask_path": "NG/scratch/S0001/v1_mask.png"}
    items = {
        "train": [{"image_path": "OK/S0001/v1.jpg", "mask_path": None, "anomaly_class": "OK"}],
        "test": [
            {"image_path": "OK/S0002/v1.jpg", "mask_path": None, "anomaly_class": "OK"},
            {**defect, "anomaly_class": "scratch"},
        ],
    }
    for size in (256, 1024):
        for name in ("OK/S0001/v1.jpg", "OK/S0002/v1.jpg", "OK/S0002/v2.jpg", "NG/scratch/S0001/v1.jpg"):
            put(root / f"realiad_{size}" / "mint" / name)
        put(root / f"realiad_{size}" / "mint" / defect["mask_path"], 255)
    one_view = {**items, "test": items["test"][:1]}
    for folder, content in (("realiad_jsons", items), ("realiad_jsons_sv", one_view)):
        put_text(root / folder / "mint.json", json.dumps({"meta": {"prefix": "mint/"}, **content}))


def test_real_iad_follows_its_split_files(tmp_path, warnings_of):
    real_iad(tmp_path)
    meta = built("real_iad", tmp_path)
    folder = "realiad_1024/mint"
    assert paths(meta["train"]["mint"]) == [(f"{folder}/OK/S0001/v1.jpg", "", 0)]
    assert paths(meta["test"]["mint"]) == [
        (f"{folder}/OK/S0002/v1.jpg", "", 0),
        (f"{folder}/NG/scratch/S0001/v1.jpg", f"{folder}/NG/scratch/S0001/v1_mask.png", 1),
    ]
    assert [entry.specie_name for entry in meta["test"]["mint"]] == ["good", "scratch"]
    assert len(built("real_iad", tmp_path, protocol="single-view")["test"]["mint"]) == 1
    assert warnings_of() == ""


def test_real_iad_says_what_its_split_files_name_in_vain(tmp_path, warnings_of):
    real_iad(tmp_path)
    (tmp_path / "realiad_1024" / "mint" / "OK" / "S0002" / "v1.jpg").unlink()
    assert len(built("real_iad", tmp_path)["test"]["mint"]) == 1
    assert warnings_of() == "images listed but absent, left out (1): realiad_1024/mint/OK/S0002/v1.jpg"
    put_text(tmp_path / "realiad_jsons" / "mint.json", '{"train": [], "test": [{"image_path": 3}]}')
    with pytest.raises(UserError, match=r"mint\.json"):
        build("real_iad", tmp_path)


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
