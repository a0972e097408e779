"""Published numbers beside a run's, and the reasons why they may not be compared."""

import json
import math
from pathlib import Path

import pytest

import evaluate
from datasets.registry import PROJECT, REGISTRY
from engine.published import FACTS, not_comparable, published_numbers, write_published
from engine.saved_runs import read_run
from models.presets import PRESETS
from utils.errors import UserError
from utils.files import sha256_of
from utils.measures.class_measures import IMAGE_MEASURES, PIXEL_MEASURES

METHODS = ["WinCLIP", "CLIP-AD", "AnomalyCLIP", "AdaCLIP", "AA-CLIP", "DP-CLIP"]
MEASURES = (*PIXEL_MEASURES, *IMAGE_MEASURES)


def make_run(folder: Path, dataset: str = "mvtec", method: str = "SDP", **changes) -> Path:
    """A finished run as the method was published, on as many images, with changes to its results.json."""
    preset = PRESETS["vit-l-14-336" if method == "DP-CLIP" else "vit-b-16-plus-240"]
    size = REGISTRY[dataset].published
    classes = {f"class{i}": {} for i in range(size.classes)}
    content = {
        "method": method,
        "dataset": dataset,
        "complete": True,
        "mean": dict.fromkeys(MEASURES, 0.9),
        "classes": classes,
        "arguments": {"prompts": "industrial"},
        "fidelity": {"name": "released"},
        "backbone": {key: getattr(preset, key) for key in ("image_size", "features_list")} | {"name": preset.model},
        "weights": {"path": "weights.safetensors", "sha256": "ab" * 32, "tag": preset.pretrained},
        "command": "python test_sdp.py --dataset mvtec",
        "git_commit": "1234567",
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(content))
    labels = [0] * size.normal + [1] * size.anomalous
    rows = [f"{i}.png,class{i % size.classes},{label},0.5" for i, label in enumerate(labels)]
    (folder / "scores.csv").write_text("\n".join(["image_path,class_name,label,score", *rows]))
    return folder


def rows_of(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in cells}


def test_facts_are_whole():
    text = (PROJECT / "datasets" / "published.json").read_text()
    facts = json.loads(text)
    assert set(facts["data_sets"]) < set(REGISTRY)
    assert len(facts["data_sets"]) == 11
    for name, data_set in facts["data_sets"].items():
        assert REGISTRY[name].published is not None
        assert list(data_set["pixel"]) == METHODS
        with_labels = REGISTRY[name].published.normal > 0
        assert ("image" in data_set) == with_labels
        for level in facts["measures"]:
            for pair in data_set.get(level, {}).values():
                assert len(pair) == 2
                assert all(0 < value <= 100 and math.isclose(value, round(value, 1)) for value in pair)
    for method in facts["implemented"].values():
        assert method["listed_as"] in METHODS
        assert method["preset"] in PRESETS
    for one in facts["other_sources"]:
        for values in one["data_sets"].values():
            assert set(values) <= set(MEASURES)
            assert all(0 < value <= 100 and math.isclose(value, round(value, 1)) for value in values.values())
    assert text.isascii()
    assert facts == FACTS


@pytest.mark.parametrize("level, method", [("pixel", name) for name in METHODS] + [("image", "DP-CLIP")])
def test_averages_are_those_of_the_data_sets(level, method):
    """To what rounding each number to a tenth, and the average once more, allows."""
    rows = [data_set[level][method] for data_set in FACTS["data_sets"].values() if level in data_set]
    average = FACTS["averages"][level]
    assert len(rows) == average["data_sets"]
    for column, published in enumerate(average[method]):
        assert abs(sum(row[column] for row in rows) / len(rows) - published) <= 0.1


def test_sources_that_disagree_stand_side_by_side():
    numbers = published_numbers("SDP", "btad")
    assert numbers["CLIP-AD"] == {"auroc_px": 91.6, "ap_px": 23.8, "auroc_sp": 87.1, "ap_sp": 88.0}
    assert numbers["CLIP-AD (ACD-CLIP's README)"] == {"auroc_px": 93.1, "ap_px": 46.7, "auroc_sp": 85.8, "ap_sp": 85.2}
    assert numbers["AA-CLIP"]["ap_px"] == 52.9
    assert numbers["AA-CLIP (DP-CLIP's repository of 2026-01-20)"] == {"auroc_px": 97.1, "ap_px": 54.0}


def test_what_the_abstract_gains_is_derived_and_says_so(tmp_path):
    numbers, gains = published_numbers("SDP", "mvtec"), FACTS["gains_over_winclip"]
    derived = {name: values for name, values in numbers.items() if "derived" in name}
    base = numbers["WinCLIP (MuSc's README)"]
    for values, name in zip(derived.values(), ("SDP", "SDP+"), strict=True):
        assert values == {key: round(base[key] + gain, 1) for key, gain in gains[name].items()}
    assert not any("derived" in name for name in published_numbers("SDP", "visa"))
    text = write_published(make_run(tmp_path)).read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("| SDP (derived: the gains"))
    assert [cell.strip() for cell in line.strip("|").split("|")][1:] == ["-", "35.9", "-", "75.3", "-", "-", "-"]


def test_averages_and_the_three_data_sets_called_brain_mri_are_said(tmp_path):
    text = write_published(make_run(tmp_path, "brain", "DP-CLIP")).read_text()
    assert "auroc_px of 11" in text
    assert rows_of(text)["DP-CLIP"] == ["94.0", "47.5", "83.8", "86.8"]
    assert "BrainMRI is three data sets in the literature" in text


def test_numbers_by_method_and_measure():
    numbers = published_numbers("SDP", "mvtec")
    assert numbers["CLIP-AD"] == {"auroc_px": 91.2, "ap_px": 36.3, "auroc_sp": 91.3, "ap_sp": 96.3}
    assert numbers["DP-CLIP"]["ap_sp"] == 95.6
    assert set(published_numbers("DP-CLIP", "kvasir")["DP-CLIP"]) == {"auroc_px", "ap_px"}


@pytest.mark.parametrize("method, dataset", [("SDP", "demo"), ("SDP", "isic"), ("saved maps", "mvtec")])
def test_what_was_not_published_is_refused_with_what_was(tmp_path, method, dataset):
    with pytest.raises(UserError, match=r"no published numbers .* are known, but") as caught:
        published_numbers(method, dataset)
    assert "\n" not in str(caught.value)


def test_a_run_as_published_is_set_beside_the_numbers(tmp_path):
    text = write_published(make_run(tmp_path)).read_text()
    assert "NOT COMPARABLE" not in text
    rows = rows_of(text)
    assert rows["measure"] == ["CLIP-AD, published", "this run", "difference"]
    assert rows["auroc_px"] == ["91.2", "90.0", "-1.2"]
    assert rows["ap_px"] == ["36.3", "90.0", "+53.7"]
    assert [name for name in rows if name in METHODS] == METHODS
    assert rows["this run: SDP"] == ["90.0"] * 7
    assert "the paper of DP-CLIP, CLIP-AD on MVTec" in text
    assert "in points over WinCLIP: f1_px +4.2, aupro +10.7" in text
    assert "command: `python test_sdp.py --dataset mvtec`" in text
    assert "commit: 1234567" in text
    assert f"SHA-256 {'ab' * 32}" in text
    assert "checkpoint" not in text


def test_intervals_checkpoint_and_undefined_measures_show(tmp_path):
    mean = {key: None if key == "ap_px" else 0.9 for key in MEASURES}
    found = {"mean": mean, "intervals": {"mean": {"auroc_px": [0.8, 0.95]}}}
    run = make_run(tmp_path, "brain", "DP-CLIP", **found, checkpoint={"path": "image_adapter.pth", "sha256": "cd" * 32})
    text = write_published(run).read_text()
    assert rows_of(text)["auroc_px"] == ["96.9", "90.0 [80.0, 95.0]", "-6.9"]
    assert rows_of(text)["ap_px"] == ["56.4", "-", "-"]
    assert f"checkpoint: image_adapter.pth, SHA-256 {'cd' * 32}" in text
    assert "WinCLIP: f1_px" not in text


BACKBONE = {"name": "ViT-B-16-plus-240", "image_size": 240, "features_list": [3, 6, 9, 12]}


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"weights": {"sha256": "ef" * 32, "tag": None}}, "not known to be those of laion400m_e31"),
        ({"weights": {"sha256": "ef" * 32}}, f"weights (SHA-256 {'ef' * 32}) are not known"),
        ({"backbone": BACKBONE | {"name": "ViT-L-14-336"}}, "the backbone is ViT-L-14-336, that of the authors'"),
        ({"backbone": BACKBONE | {"image_size": 224}}, "the image size is 224"),
        ({"backbone": BACKBONE | {"features_list": [12]}}, "the list of tapped blocks is 12, that of the authors' "),
        ({"classes": {"bottle": {}}}, "1 classes, 467 normal and 1258 anomalous images, published are 15"),
    ],
)
def test_every_difference_is_a_reason(tmp_path, changes, reason):
    run = make_run(tmp_path, **changes)
    reasons = not_comparable(read_run(run), "vit-b-16-plus-240")
    assert len(reasons) == 1
    assert reason in reasons[0]
    assert "**NOT COMPARABLE with the published numbers:**" in write_published(run).read_text()


def test_a_part_of_the_data_set_is_a_reason(tmp_path):
    run = make_run(tmp_path)
    rows = (run / "scores.csv").read_text().splitlines()
    (run / "scores.csv").write_text("\n".join(rows[:-10]))
    (reason,) = not_comparable(read_run(run), "vit-b-16-plus-240")
    assert "467 normal and 1248 anomalous images, published are 15 classes, 467 normal and 1258" in reason


def test_demonstration_weights_are_called_out(tmp_path):
    demo = PRESETS["demo"]
    weights = {"path": demo.pretrained, "sha256": sha256_of(demo.pretrained), "tag": None}
    text = write_published(make_run(tmp_path, weights=weights)).read_text()
    assert "**NOT COMPARABLE" in text
    assert "DEMONSTRATION MODEL" in text


def test_other_fidelity_and_own_prompts_are_remarked(tmp_path):
    run = make_run(tmp_path, fidelity={"name": "corrected"}, arguments={"prompts": "medical"})
    text = write_published(run).read_text()
    assert "fidelity is corrected; the published numbers were made with the released code" in text
    assert "the medical prompts are this project's own" in text


def test_the_command_line_works_from_a_finished_folder(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    evaluate.main(["--published", str(run)])
    assert f"written to {run / 'published.md'}" in capsys.readouterr().out
    with pytest.raises(UserError, match="is no folder of a run"):
        evaluate.main(["--published", str(tmp_path / "nowhere")])
