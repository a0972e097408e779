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
        "backbone": {
            "name": preset.model,
            "image_size": preset.image_size,
            "features_list": list(preset.features_list),
        },
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
    assert text.isascii()
    assert facts == FACTS


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
    assert rows["this run: SDP"] == ["90.0"] * 4
    assert "the paper of DP-CLIP, CLIP-AD on MVTec" in text
    assert "in points over WinCLIP: f1_px +4.2, aupro +10.7" in text
    assert "command: `python test_sdp.py --dataset mvtec`" in text
    assert "commit: 1234567" in text
    assert f"SHA-256 {'ab' * 32}" in text
    assert "checkpoint" not in text


def test_intervals_checkpoint_and_undefined_measures_show(tmp_path):
    mean = {key: None if key == "ap_px" else 0.9 for key in MEASURES}
    run = make_run(
        tmp_path,
        "brain",
        "DP-CLIP",
        mean=mean,
        intervals={"mean": {"auroc_px": [0.8, 0.95]}},
        checkpoint={"path": "image_adapter.pth", "sha256": "cd" * 32},
    )
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
