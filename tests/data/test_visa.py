"""The builder of VisA's meta.json, which follows a split file."""

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
