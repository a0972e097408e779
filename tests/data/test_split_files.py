"""Layouts with files that say what belongs to which split or is anomalous: VisA, HeadCT and Real-IAD."""

import json
from pathlib import Path

import pytest

from tests.builder_data import build, built, paths, put, put_text
from utils.errors import UserError

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
            put(root / mask, 255)
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
    put(tmp_path / "candle/Data/Masks/Anomaly/9.png", 255)
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
        (None, "cannot read .*1cls.csv: No such file or directory; expected is CLASS/Data/Images"),
        ("object,split,label,image\n", "1cls.csv has no column 'mask'"),
        ("object,split,label,image,mask,image\n", "1cls.csv has 2 columns 'image'"),
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
        build("visa", tmp_path)


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
        build("headct", tmp_path)


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
