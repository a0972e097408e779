"""Few-shot draws: what is drawn, what a draw does and does not depend on, and the command."""

import json
import subprocess
import sys

import pytest

from data.few_shot import draw, main
from datasets.meta import Entry, read_meta, write_meta
from tests.builder_data import PROJECT, mvtec_class
from utils.errors import UserError


def entries(name, normal, anomalous, unlabelled=0):
    labels = [0] * normal + [1] * anomalous + [None] * unlabelled
    return [Entry(f"{name}/{n}.png", "", name, "", label) for n, label in enumerate(labels)]


def classes():
    return {"nut": entries("nut", 10, 20, 5), "bolt": entries("bolt", 3, 1)}


def draw_all(classes, shot, seed):
    return {name: draw(group, shot, seed) for name, group in classes.items()}


def test_so_many_of_each_class_and_label_are_drawn_once():
    drawn = draw_all(classes(), 4, seed=1)
    assert list(drawn) == ["nut", "bolt"]
    assert [entry.anomaly for entry in drawn["nut"]] == [0] * 4 + [1] * 4
    assert [entry.anomaly for entry in drawn["bolt"]] == [0] * 3 + [1]
    paths = [entry.img_path for entry in drawn["nut"]]
    assert len(set(paths)) == 8
    assert paths[:4] == sorted(paths[:4])
    assert paths[4:] == sorted(paths[4:])
    assert set(drawn["nut"]) <= set(classes()["nut"])


def test_a_draw_is_pinned():
    """So that a list can be drawn again elsewhere and later; the paths are those of the smallest hashes."""
    drawn = [entry.img_path for entry in draw(classes()["nut"], 2, seed=111)]
    assert drawn == ["nut/0.png", "nut/9.png", "nut/19.png", "nut/21.png"]


def test_a_draw_depends_on_the_seed_alone_not_on_the_order():
    expected = draw(classes()["nut"], 4, seed=1)
    assert draw(classes()["nut"][::-1], 4, seed=1) == expected
    assert draw(classes()["nut"], 4, seed=2) != expected


def test_a_smaller_draw_is_part_of_a_larger_one():
    small, large = (set(draw(classes()["nut"], shot, seed=1)) for shot in (2, 8))
    assert small < large


def test_every_image_is_drawn_about_equally_often():
    counts = dict.fromkeys(range(10), 0)
    for seed in range(1000):
        for entry in draw(entries("nut", 10, 0), 3, seed):
            counts[int(entry.img_path[4:-4])] += 1
    assert all(230 < count < 370 for count in counts.values())  # 300, five standard deviations of 14.5


@pytest.fixture
def root(tmp_path):
    """The folder of a data set of those classes, of which only the list is there."""
    write_meta(tmp_path / "meta.json", {"train": {"nut": entries("nut", 2, 0)}, "test": classes()})
    return tmp_path


def test_main_writes_the_list_and_says_what_was_drawn(root, capsys, warnings_of):
    main(["--dataset", "MVTec", "--root", str(root), "--shot", "4", "--seed", "1"])
    meta = read_meta(root / "4-shot.jsonl", root)
    drawn = {name: [entry.img_path for entry in group] for name, group in draw_all(classes(), 4, seed=1).items()}
    assert {name: [entry.img_path for entry in group] for name, group in meta["test"].items()} == drawn
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["class", "normal", "anomalous"]
    assert ["nut", "4", "of", "10", "4", "of", "20"] in rows
    assert ["bolt", "3", "of", "3", "1", "of", "1"] in rows
    assert warnings_of() == "fewer than 4 images of a kind: bolt (3 normal), bolt (1 anomalous)"


def test_the_files_bytes_depend_on_neither_order_nor_list(root):
    write_meta(root / "other.jsonl", {"test": {name: classes()[name][::-1] for name in ("bolt", "nut")}})
    for number, more in enumerate([[], ["--meta", str(root / "other.jsonl")]]):
        out = root / f"{number}.jsonl"
        main(["--dataset", "mvtec", "--root", str(root), "--shot", "2", "--out", str(out), *more])
    assert (root / "0.jsonl").read_bytes() == (root / "1.jsonl").read_bytes()


def test_the_split_can_be_chosen(root, warnings_of):
    main(["--dataset", "mvtec", "--root", str(root), "--shot", "1", "--split", "train"])
    (line,) = (root / "1-shot.jsonl").read_text().splitlines()
    assert json.loads(line)["label"] == 0.0
    assert warnings_of() == "fewer than 1 images of a kind: nut (0 anomalous)"


def test_nothing_to_draw_from_is_an_error(root):
    write_meta(root / "own.jsonl", {"test": {"nut": entries("nut", 0, 0, 3)}})
    arguments = ["--dataset", "mvtec", "--root", str(root), "--shot", "1", "--meta", str(root / "own.jsonl")]
    for split in ("train", "test"):
        with pytest.raises(UserError, match=rf"own\.jsonl has no labelled images in its {split} split"):
            main([*arguments, "--split", split])
    assert not (root / "1-shot.jsonl").exists()


def test_the_script_builds_the_list_it_draws_from(tmp_path):
    mvtec_class(tmp_path / "bottle")
    run = [sys.executable, PROJECT / "data" / "few_shot.py", "--dataset", "mvtec", "--root", tmp_path]
    result = subprocess.run([*run, "--shot", "1"], cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "1 of 2" in result.stdout
    drawn = read_meta(tmp_path / "1-shot.jsonl", tmp_path)["test"]["bottle"]
    assert [entry.anomaly for entry in drawn] == [0, 1]
    assert drawn[1].mask_path.startswith("bottle/ground_truth/crack/")


@pytest.mark.parametrize("more", [["--shot", "0"], ["--shot", "x"], [], ["--shot", "1", "--dataset", "none"]])
def test_wrong_arguments_are_refused(more, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--dataset", "mvtec", *more])
    assert stop.value.code == 2
    assert "--shot" in capsys.readouterr().err
