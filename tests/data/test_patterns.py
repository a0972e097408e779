"""Images of one's own, found by patterns: four layouts as people have them, and what is refused."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

import test_sdp
from data.build import build_meta, ensure_meta, main
from datasets.layout_options import LayoutOptions
from datasets.meta import Meta, read_about, read_meta
from datasets.registry import get_spec
from engine.data_sets import read_test_split
from tests import tiny_clip
from tests.builder_data import paths, put, put_text
from utils.errors import UserError

FOLDER = get_spec("folder")


def magnetic_tiles(root: Path) -> dict[str, str]:
    """Images and masks side by side; the masks of MT_Free are empty."""
    for kind in ("Blowhole", "Fray", "Free"):
        for number in (1, 2, 10):
            put(root / f"MT_{kind}" / "Imgs" / f"exp{number}.jpg")
            put(root / f"MT_{kind}" / "Imgs" / f"exp{number}.png", 0 if kind == "Free" else 255)
    return {"normal": "MT_Free/Imgs/*.jpg", "anomalous": "MT_*/Imgs/*.jpg", "mask": "{dir}/{stem}.png"}


def kolektor(root: Path) -> dict[str, str]:
    """Whether an image is normal is known from its mask alone."""
    for folder in ("kos01", "kos02"):
        for part in (0, 1, 5):
            put(root / folder / f"Part{part}.jpg")
            put(root / folder / f"Part{part}_label.bmp", 255 if part == 5 else 0)
    return {"anomalous": "kos*/Part*.jpg", "mask": "{dir}/{stem}_label.bmp"}


def mvtec_3d(root: Path) -> dict[str, str]:
    """Colours beside depth, and masks beside both, empty ones for what is good."""
    for name in ("bagel", "tire"):
        for kind in ("good", "hole", "combined"):
            put(root / name / "test" / kind / "rgb" / "000.png")
            put(root / name / "test" / kind / "xyz" / "000.tiff")
            put(root / name / "test" / kind / "gt" / "000.png", 0 if kind == "good" else 255)
    return {
        "normal": "*/test/good/rgb/*",
        "anomalous": "*/test/[!g]*/rgb/*",
        "mask": "{dir}/../gt/{name}",
        "class_name": "{parent4}",
    }


def loco(root: Path) -> dict[str, str]:
    """A folder of masks for each image."""
    for kind in ("logical", "structural"):
        put(root / "pushpins" / "test" / f"{kind}_anomalies" / "000.png")
        for number in range(2):
            put(root / "pushpins" / "ground_truth" / f"{kind}_anomalies" / "000" / f"00{number}.png", 255)
    put(root / "pushpins" / "test" / "good" / "000.png")
    return {
        "normal": "*/test/good/*.png",
        "anomalous": "*/test/*_anomalies/*.png",
        "mask": "{dir}/../../ground_truth/{parent}/{stem}",
        "class_name": "{parent3}",
    }


FOUND = {  # classes, normal and anomalous images, masks of anomalous ones, kinds of anomalies
    magnetic_tiles: (["own"], 3, 6, 6, {"MT_Blowhole", "MT_Fray"}),
    kolektor: (["own"], 4, 2, 2, {"anomalous"}),
    mvtec_3d: (["bagel", "tire"], 2, 4, 4, {"hole", "combined"}),
    loco: (["pushpins"], 1, 2, 2, {"logical_anomalies", "structural_anomalies"}),
}


def read(root: Path, **patterns: str | int) -> Meta:
    return read_meta(build_meta(FOLDER, root, **patterns), root)


def as_options(patterns: dict[str, str]) -> list[str]:
    return [text for name, value in patterns.items() for text in (f"--{name}", value)]


@pytest.fixture
def own(tmp_path) -> Path:
    return tmp_path / "own"


@pytest.mark.parametrize("layout", FOUND)
def test_layouts_are_read_by_patterns(own, layout, warnings_of):
    meta = read(own, **layout(own))["test"]
    classes, normal, anomalous, masks, kinds = FOUND[layout]
    entries = [entry for group in meta.values() for entry in group]
    assert list(meta) == classes
    assert [entry.anomaly for entry in entries].count(0) == normal
    assert [entry.anomaly for entry in entries].count(1) == anomalous
    assert sum(bool(entry.mask_path) for entry in entries if entry.anomaly) == masks
    assert {entry.specie_name for entry in entries if entry.anomaly} == kinds
    assert {entry.specie_name for entry in entries if not entry.anomaly} == {"good"}
    assert all((own / entry.mask_path).exists() for entry in entries)
    assert warnings_of() == ""


def test_each_image_gets_its_own_mask_in_natural_order(own):
    blowholes = [row for row in paths(read(own, **magnetic_tiles(own))["test"]["own"]) if "Blow" in row[0]]
    names = [f"MT_Blowhole/Imgs/exp{number}" for number in (1, 2, 10)]
    assert blowholes == [(f"{name}.jpg", f"{name}.png", 1) for name in names]


@pytest.mark.parametrize("layout", FOUND)
def test_one_command_goes_from_a_folder_to_its_table(own, layout, tmp_path, small_images):
    config, weights = tiny_clip.save(tmp_path / "model")
    options = ["--dataset", "folder", "--data_path", str(own), *as_options(layout(own)), "--num_workers", "0"]
    model = ["--model", str(config), "--pretrained", str(weights), "--cache_dir", str(tmp_path / "cache")]
    assert test_sdp.main([*options, *model, "--save_path", str(tmp_path / "out"), "--no_report"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    classes, normal, anomalous, *_ = FOUND[layout]
    assert list(results["classes"]) == classes
    assert results["images"] == normal + anomalous
    assert results["mean"]["auroc_px"] is not None


@pytest.fixture
def small_images(monkeypatch) -> None:
    """Of 48 x 64 pixels, so that the masks survive resizing."""
    monkeypatch.setattr("tests.builder_data.put.__defaults__", (None, (48, 64)))


def test_missing_masks_are_counted_and_named(own, warnings_of):
    patterns = magnetic_tiles(own)
    (own / "MT_Fray" / "Imgs" / "exp2.png").unlink()
    entries = read(own, **patterns)["test"]["own"]
    assert [entry.img_path for entry in entries if entry.anomaly and not entry.mask_path] == ["MT_Fray/Imgs/exp2.jpg"]
    assert "anomalous images without a mask (1): MT_Fray/Imgs/exp2.jpg" in warnings_of()


def test_masks_that_a_pattern_matches_as_well_are_no_images(own):
    for number, value in ((0, 0), (1, 255)):
        put(own / "test" / f"{number}.png")
        put(own / "test" / f"{number}_GT.png", value)
    entries = read(own, anomalous="test/*.png", mask="{dir}/{stem}_GT.png")["test"]["own"]
    assert paths(entries) == [("test/0.png", "test/0_GT.png", 0), ("test/1.png", "test/1_GT.png", 1)]


def test_a_threshold_decides_what_an_empty_mask_is(own):
    for name, value in (("a", 9), ("b", 200)):
        put(own / f"{name}.jpg")
        put(own / "masks" / f"{name}.png", value)
    patterns = {"anomalous": "*.jpg", "mask": "masks/{stem}.png"}
    assert [entry.anomaly for entry in read(own, **patterns)["test"]["own"]] == [1, 1]
    assert [entry.anomaly for entry in read(own, **patterns, mask_threshold=127)["test"]["own"]] == [0, 1]


def test_hidden_files_and_other_formats_are_no_images(own, warnings_of):
    for name in ("a.png", "._a.png", ".ipynb_checkpoints/a.png"):
        put(own / name)
    put_text(own / "a.txt", "no image")
    for name in ("a.gif", "b.gif"):
        put_text(own / name, "of a format that is not read")
    assert [entry.img_path for entry in read(own, normal="**/*")["test"]["own"]] == ["a.png"]
    assert "images of formats that are not read, left out (2): a.gif, b.gif" in warnings_of()
    with pytest.raises(UserError, match=r"matches no image in .*; images of formats that are not read .*: 2 \.gif"):
        read(own, normal="*.gif")


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (
            {"normal": "*/none/*.jpg"},
            r"--normal '\*/none/\*.jpg' matches no image in .*3 .jpg in MT_Free/Imgs \(2 deep\)",
        ),
        ({"normal": "/etc/*"}, "is absolute"),
        ({"anomalous": "../*/*.jpg"}, r"has '\.\.' in it"),
        ({"normal": "MT_*/Imgs/*.jpg", "anomalous": "MT_F*/Imgs/*.jpg"}, r"--anomalous .* but what --normal matches"),
        ({"normal": "MT_F*/Imgs/*.jpg", "class_name": "{parent4}"}, r"there is no \{parent4\}"),
        ({"normal": "MT_F*/Imgs/*.jpg", "mask": "{dir}/{name}"}, "is the image itself"),
        ({"normal": "MT_F*/Imgs/*.jpg", "mask": "../../{name}"}, r"has '\.\.' in it"),
        ({"normal": "MT_F*/Imgs/*.jpg", "mask": "{folder}/{name}"}, r"there is no \{folder\}; known are \{dir\}"),
        ({"normal": "MT_F*/Imgs/*.jpg", "class_name": "{parent99}"}, r"there is no \{parent99\}"),
        ({"normal": "MT_F*/Imgs/*.jpg", "class_name": "{dir}"}, "cannot be the name of a class"),
    ],
)
def test_patterns_that_cannot_be_right_are_refused(own, patterns, said):
    magnetic_tiles(own)
    with pytest.raises(UserError, match=said):
        build_meta(FOLDER, own, **patterns)
    assert not (own / "meta.json").exists()


def test_the_list_says_what_it_was_built_by_and_is_built_again_for_other_patterns(own, caplog):
    caplog.set_level(logging.INFO)
    patterns = magnetic_tiles(own)
    path = ensure_meta(FOLDER, own, patterns)
    assert read_about(path).options == patterns
    before = path.stat().st_mtime_ns
    assert ensure_meta(FOLDER, own, patterns) == ensure_meta(FOLDER, own) == path
    assert path.stat().st_mtime_ns == before
    assert "does not list" not in caplog.text
    ensure_meta(FOLDER, own, {"normal": "MT_Free/Imgs/*.jpg"})
    assert "does not list (6): MT_Blowhole/Imgs/exp1.jpg" in caplog.text
    assert len(read_meta(path, own)["test"]["own"]) == 3
    assert "has no meta.json of these patterns: building it" in caplog.text


def test_a_list_that_no_pattern_made_is_not_replaced(own):
    patterns = magnetic_tiles(own)
    put_text(own / "meta.json", json.dumps({"train": {}, "test": read_as_json(own, patterns)}))
    before = (own / "meta.json").read_text()
    with pytest.raises(UserError, match=r"meta\.json was not built by patterns: delete it, or leave --normal out"):
        ensure_meta(FOLDER, own, patterns)
    assert (own / "meta.json").read_text() == before


def read_as_json(root: Path, patterns: dict[str, str]) -> dict:
    path = build_meta(FOLDER, root, root.parent / "other.json", **patterns)
    return json.loads(path.read_text())["test"]


def test_the_builder_takes_patterns(own, capsys):
    main(["folder", "--root", str(own), *as_options(mvtec_3d(own))])
    assert "test images: 6, classes: 2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["folder", "--root", str(own), "--mask", "{stem}.png"])
    assert "--mask goes with --normal or --anomalous" in capsys.readouterr().err


def test_other_data_sets_take_no_patterns(own, capsys):
    with pytest.raises(UserError, match="--normal is for --dataset folder: mvtec has a layout of its own"):
        ensure_meta(get_spec("mvtec"), own.parent, {"normal": "*"})
    with pytest.raises(SystemExit):
        test_sdp.main(["--dataset", "mvtec", "--normal", "*"])
    assert "--normal goes with the data set folder: others have a layout of their own" in capsys.readouterr().err


def test_no_test_images_says_where_images_lie(own):
    magnetic_tiles(own)
    with pytest.raises(UserError, match=r"no test images.*3 .jpg in MT_Blowhole/Imgs \(2 deep\).*are read by patterns"):
        build_meta(get_spec("mvtec"), own)


def test_phrases_come_from_the_list_or_a_file(own, tmp_path):
    patterns = mvtec_3d(own)
    options = LayoutOptions(**patterns)
    shutil.move(own / "tire", own / "bike_tire")
    images = read_test_split(FOLDER, own, options=options)
    assert images.phrases() == {"bagel": "bagel", "bike_tire": "bike tire"}
    path = own / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"phrases": {"bike_tire": "black rubber tire"}}))
    images = read_test_split(FOLDER, own, options=options)
    assert images.phrases(described=True) == {"bagel": "bagel", "bike_tire": "black rubber tire"}
    assert read_about(build_meta(FOLDER, own, **patterns)).phrases == {"bike_tire": "black rubber tire"}


def test_files_that_are_not_there_are_named_before_any_work(own):
    path = build_meta(FOLDER, own, own.parent / "list.json", **magnetic_tiles(own))
    (own / "MT_Fray" / "Imgs" / "exp1.jpg").unlink()
    (own / "MT_Fray" / "Imgs" / "exp2.png").unlink()
    with pytest.raises(UserError, match=r"\(2\): MT_Fray/Imgs/exp1\.jpg, MT_Fray/Imgs/exp2\.png; restore them"):
        read_test_split(FOLDER, own, path, intensity="full")
    with pytest.raises(UserError, match=r"\(1\): MT_Fray/Imgs/exp2\.png; restore them"):
        read_test_split(FOLDER, own, path)


def test_the_threshold_is_the_options_or_the_lists(own):
    for name, value in (("a", 9), ("b", 200)):
        put(own / f"{name}.jpg")
        put(own / "masks" / f"{name}.png", value)
    put(own / "good.jpg")
    patterns = {"normal": "good.jpg", "anomalous": "?.jpg", "mask": "masks/{stem}.png", "mask_threshold": 127}
    build_meta(FOLDER, own, **patterns)
    for options, threshold in ((None, 127), (LayoutOptions(mask_threshold=3), 3), (LayoutOptions(mask_threshold=0), 0)):
        images = read_test_split(FOLDER, own, options=options)
        assert images.spec.mask_threshold == threshold
        first = np.asarray(images.read_mask(images.entries[1], (6, 8)))
        assert first.any() == (threshold < 9)


def test_masks_called_as_those_of_anomalous_images_are_not_the_normal_images(own, warnings_of):
    for name in ("good/000.png", "broken/000.png", "masks/000.png"):
        put(own / name, 255 if name.startswith("masks") else None)
    entries = read(own, normal="good/*", anomalous="broken/*", mask="masks/{stem}.png")["test"]["own"]
    assert paths(entries) == [("good/000.png", "", 0), ("broken/000.png", "masks/000.png", 1)]
    assert warnings_of() == ""


def test_a_threshold_of_one_run_is_not_that_of_the_next(bottle, warnings_of):
    root, given = bottle.parent, LayoutOptions(mask_threshold=99)
    images = read_test_split(get_spec("mvtec"), root, options=given)
    assert images.spec.mask_threshold == 99
    assert "masks begin above 99 of 255" in images.notes
    assert read_test_split(get_spec("mvtec"), root).spec.mask_threshold == 0
    main(["mvtec", "--root", str(root), "--mask_threshold", "99"])
    assert read_test_split(get_spec("mvtec"), root).spec.mask_threshold == 99


def test_labels_that_masks_decide_follow_the_threshold(tmp_path):
    for part, value in ((0, 0), (1, 40), (2, 200)):
        put(tmp_path / "kos01" / f"Part{part}.jpg")
        put(tmp_path / "kos01" / f"Part{part}_label.bmp", value)
    for threshold, labels in ((None, [0, 1, 1]), (100, [0, 0, 1])):
        images = read_test_split(get_spec("ksdd"), tmp_path, options=LayoutOptions(mask_threshold=threshold))
        assert [entry.anomaly for entry in sorted(images.entries, key=lambda one: one.img_path)] == labels
        with pytest.raises(UserError, match=r"has the labels of masks above \d+: delete it"):
            read_test_split(get_spec("ksdd"), tmp_path, options=LayoutOptions(mask_threshold=50))
        (tmp_path / "meta.json").unlink()


def test_a_list_by_patterns_is_not_a_known_data_sets(own):
    ensure_meta(FOLDER, own, magnetic_tiles(own))
    with pytest.raises(UserError, match=r"was built by patterns, for --dataset folder: delete it"):
        read_test_split(get_spec("mvtec"), own)


def test_a_list_stays_where_the_new_one_is_refused(own):
    path = ensure_meta(FOLDER, own, magnetic_tiles(own))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"own/meta\.json, test/"):
        build_meta(FOLDER, own, normal="MT_Free/Imgs/*.jpg", class_name="a/{stem}")
    assert path.read_bytes() == before
    assert [*own.glob(".new*")] == []


def test_a_list_by_patterns_is_tested_again_without_them(own, tmp_path, small_images):
    patterns = magnetic_tiles(own)
    config, weights = tiny_clip.save(tmp_path / "model")
    run = ["--dataset", "folder", "--data_path", str(own), "--num_workers", "0", "--save_path", str(tmp_path / "out")]
    run += ["--model", str(config), "--pretrained", str(weights), "--cache_dir", str(tmp_path / "c"), "--no_report"]
    for given in (as_options(patterns), []):
        assert test_sdp.main([*run, *given]) == 0
        assert json.loads((tmp_path / "out" / "results.json").read_text())["arguments"]["mask"] == patterns["mask"]
