"""A checkpoint says itself what it was trained with, so that `--checkpoint FILE` alone is right."""

import json
from pathlib import Path

import pytest
import torch

import models.backbone
import models.prompts
import predict
import test_dp_clip
import test_sdp_plus
import train_dp_clip
import train_sdp_plus
from engine.detectors import METHODS
from models.prompts import read_prompts
from utils.errors import UserError

PROMPTS = {"normal": ["{}"], "anomalous": ["broken {}"], "templates": ["a photo of a {}."]}
SDP_PLUS = ["--rep_vec", "pca", "--smoothing", "3", "--obj_name", "thing"]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "mine.json"
    path.write_text(json.dumps(PROMPTS))
    return path


@pytest.fixture(scope="module")
def trained(bolts, model, prompts, tmp_path_factory) -> dict[str, Path]:
    """Method -> a checkpoint of it, trained with options that are no program's defaults."""
    folder = tmp_path_factory.mktemp("trained")
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), "--num_workers", "0", "--epochs", "1"]
    common = [*data, *model, "--prompts", str(prompts), "--features_list", "2", "4", "6", "7"]
    common += ["--image_size", "96", "--cache_dir", str(folder / "cache")]
    train_dp_clip.main([*common, "--save_path", str(folder / "dp_clip")])
    train_sdp_plus.main([*common, *SDP_PLUS, "--save_path", str(folder / "sdp_plus")])
    return {"dp_clip": folder / "dp_clip" / "image_adapter.pth", "sdp_plus": folder / "sdp_plus" / "epoch_1.pth"}


def evaluate(method: str, cogs: Path, checkpoint: Path, out: Path, *more: str) -> dict:
    main = {"dp_clip": test_dp_clip, "sdp_plus": test_sdp_plus}[method].main
    data = ["--dataset", "mvtec", "--data_path", str(cogs), "--num_workers", "0", "--checkpoint", str(checkpoint)]
    main([*data, "--save_path", str(out), "--cache_dir", str(out / "cache"), "--no_report", *more])
    return json.loads((out / "results.json").read_text()) if (out / "results.json").exists() else {}


@pytest.mark.parametrize("method", ["dp_clip", "sdp_plus"])
def test_the_checkpoint_alone_gives_the_figures_of_its_training(method, trained, cogs, model, prompts, tmp_path):
    alone = evaluate(method, cogs, trained[method], tmp_path / "alone")
    own = SDP_PLUS if method == "sdp_plus" else []
    same = [*model, "--prompts", str(prompts), "--features_list", "2", "4", "6", "7", "--image_size", "96", *own]
    told = evaluate(method, cogs, trained[method], tmp_path / "told", *same)
    assert alone["mean"] == told["mean"]
    scores = [(tmp_path / run / "scores.csv").read_text() for run in ("alone", "told")]
    assert scores[0] == scores[1]
    assert "is used with" not in (tmp_path / "alone" / "test.log").read_text()
    assert "is used with" not in (tmp_path / "told" / "test.log").read_text()
    assert alone["checkpoint"]["prompts"][str(prompts)]["sha256"] == read_prompts(str(prompts)).sha256
    if method == "sdp_plus":
        arguments = alone["arguments"]
        assert [arguments[key] for key in ("rep_vec", "smoothing", "obj_name")] == ["pca", 3.0, "thing"]


@pytest.mark.parametrize("change", [None, {"templates": ["another photo of a {}."]}])
def test_sentences_that_are_gone_or_changed_are_the_checkpoints(trained, cogs, prompts, tmp_path, change):
    before = evaluate("dp_clip", cogs, trained["dp_clip"], tmp_path / "before")
    text = prompts.read_text()
    try:
        prompts.unlink() if change is None else prompts.write_text(json.dumps(PROMPTS | change))
        after = evaluate("dp_clip", cogs, trained["dp_clip"], tmp_path / "after")
    finally:
        prompts.write_text(text)
    assert after["mean"] == before["mean"]
    sentences = Path(after["arguments"]["prompts"])
    assert sentences.parent == tmp_path / "after" / "cache" / "prompts"
    assert read_prompts(str(sentences)) == read_prompts(str(prompts))


@pytest.mark.parametrize(
    ("method", "more", "said"),
    [
        ("dp_clip", ["--prompts", "industrial"], "was trained with the prompts {prompts}, and is used with others"),
        ("sdp_plus", ["--prompts", "medical"], "was trained with the prompts {prompts}, and is used with others"),
        ("sdp_plus", ["--rep_vec", "mean"], "was trained with --rep_vec pca, and is used with mean"),
        ("sdp_plus", ["--smoothing", "1"], "was trained with --smoothing 3.0, and is used with 1.0"),
        ("sdp_plus", ["--obj_name", "cog"], "was trained with --obj_name thing, and is used with cog"),
        ("dp_clip", ["--obj_name", "cog"], "was trained with --obj_name not given, and is used with cog"),
        ("dp_clip", ["--image_size", "64"], "was trained with image_size 96, and is used with 64"),
        ("dp_clip", ["--fidelity", "corrected"], "was trained with --fidelity released, and is used with corrected"),
    ],
)
def test_an_option_that_says_otherwise_is_warned_of(method, more, said, trained, cogs, prompts, tmp_path):
    evaluate(method, cogs, trained[method], tmp_path, *more)
    log = (tmp_path / "test.log").read_text()
    assert log.count(f"WARNING {trained[method]} {said.format(prompts=prompts)}") == 1
    assert log.count("is used with") == 1


def test_another_domains_sentences_are_that_domains(bolts, cogs, model, tmp_path, monkeypatch):
    """Prompts that a training left open stay open: each data set's are its domain's, as the training had them."""
    data = ["--train_dataset", "mvtec", "--train_dataset_dir", str(bolts), "--num_workers", "0", "--epochs", "1"]
    cache = ["--cache_dir", str(tmp_path / "cache")]
    train_sdp_plus.main([*data, *model, *cache, "--save_path", str(tmp_path / "run")])
    checkpoint = tmp_path / "run" / "epoch_1.pth"
    meta = tmp_path / "mine.jsonl"
    meta.write_text('{"image_path": "cog/test/good/000.png", "label": 0, "class_name": "brain"}\n')
    results = evaluate("sdp_plus", cogs, checkpoint, tmp_path / "a", "--dataset", "brainmri", "--meta", str(meta))
    assert results["arguments"]["prompts"] == "medical"
    before = evaluate("sdp_plus", cogs, checkpoint, tmp_path / "b")
    assert before["arguments"]["prompts"] == "industrial"
    for run in ("a", "b"):
        assert "is used with" not in (tmp_path / run / "test.log").read_text()
    evaluate("sdp_plus", cogs, checkpoint, tmp_path / "c", "--prompts", "medical")
    assert "was trained with the prompts industrial" in (tmp_path / "c" / "test.log").read_text()
    monkeypatch.setattr(models.prompts, "PROMPT_FOLDER", tmp_path / "later")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "industrial.json").write_text(json.dumps(PROMPTS))
    after = evaluate("sdp_plus", cogs, checkpoint, tmp_path / "d")
    assert after["mean"] == before["mean"]
    assert Path(after["arguments"]["prompts"]).parent == tmp_path / "d" / "cache" / "prompts"
    assert "is used with" not in (tmp_path / "d" / "test.log").read_text()


@pytest.mark.parametrize("method", ["dp_clip", "sdp_plus"])
def test_a_wrong_backbone_is_said_first(method, trained, cogs, model, tmp_path):
    said = rf"was trained with {model[1]}; give --model {model[1]}, or leave the option out"
    with pytest.raises(UserError, match=said):
        evaluate(method, cogs, trained[method], tmp_path, "--model", "demo")


def edited(path: Path, **others) -> dict:
    """A checkpoint's content with other entries, and without its digest."""
    content = torch.load(path, weights_only=True)
    return {key: value for key, value in content.items() if key != "digest"} | others


def test_a_wrong_backbone_is_said_before_its_weights_are_looked_for(trained, cogs, monkeypatch, tmp_path):
    monkeypatch.setattr(models.backbone, "find_weights", lambda *_: pytest.fail("they were looked for"))
    with pytest.raises(UserError, match=r"was trained with .*; give --model"):
        evaluate("sdp_plus", cogs, trained["sdp_plus"], tmp_path, "--model", "vit-l-14-336")
    path = tmp_path / "authors.pth"
    torch.save({"linear_layers": {"fc.0.weight": torch.zeros(640, 896)}}, path)
    with pytest.raises(UserError, match=f"{path} does not fit vit-l-14-336; give --model vit-b-16-plus-240"):
        evaluate("sdp_plus", cogs, path, tmp_path)


@pytest.mark.parametrize("name", ["model", "pretrained"])
def test_a_file_of_the_training_that_is_gone_is_said_with_the_checkpoint(name, trained, cogs, tmp_path):
    content = edited(trained["dp_clip"])
    gone = tmp_path / "gone.json"
    torch.save(content | {"options": content["options"] | {name: str(gone)}}, tmp_path / "moved.pth")
    said = rf"moved\.pth was trained with {gone}, which is gone; give --{name} and its copy"
    with pytest.raises(UserError, match=said):
        evaluate("dp_clip", cogs, tmp_path / "moved.pth", tmp_path / "out")


@pytest.mark.parametrize("method", ["dp_clip", "sdp_plus"])
def test_a_copy_of_the_config_is_the_same_model(method, trained, cogs, model, tmp_path):
    """And one of other settings under the same name is another."""
    before = evaluate(method, cogs, trained[method], tmp_path / "before")
    config = json.loads(Path(model[1]).read_text())
    (tmp_path / "copy.json").write_text(json.dumps({"model_cfg": config}))
    after = evaluate(method, cogs, trained[method], tmp_path / "after", "--model", str(tmp_path / "copy.json"))
    assert after["mean"] == before["mean"]
    assert after["backbone"]["image_size"] == 96
    assert "is used with" not in (tmp_path / "after" / "test.log").read_text()
    text = Path(model[1]).read_text()
    config["vision_cfg"]["head_width"] *= 2
    try:
        Path(model[1]).write_text(json.dumps(config))
        evaluate(method, cogs, trained[method], tmp_path / "other")
    finally:
        Path(model[1]).write_text(text)
    log = (tmp_path / "other" / "test.log").read_text()
    assert log.count("is used with") == log.count("was trained with config_sha256") == 1


@pytest.mark.parametrize("method", ["dp_clip", "sdp_plus"])
def test_predictions_take_what_the_checkpoint_was_trained_with(method, trained, bolts, tmp_path):
    checkpoint, phrase = trained[method], {"dp_clip": "object", "sdp_plus": "thing"}[method]
    photographs = [str(bolts / "bolt" / "test" / "good"), "--method", method, "--checkpoint", str(checkpoint)]
    photographs += ["--num_workers", "0", "--cache_dir", str(tmp_path / "cache")]
    predict.main([*photographs, "--save_path", str(tmp_path / "alone")])
    settings = json.loads((tmp_path / "alone" / "predict.json").read_text())
    assert settings["features_list"] == [2, 4, 6, 7]
    assert settings["image_size"] == 96
    assert settings["phrases"] == [phrase]
    content = torch.load(checkpoint, weights_only=True)
    assert settings["config_sha256"] == content["backbone"]["config_sha256"]
    assert settings["prompts_sha256"] == next(iter(content["prompts"].values()))["sha256"]
    assert "is used with" not in (tmp_path / "alone" / "predict.log").read_text()
    assert f"<title>{METHODS[method]().name}: {phrase}" in (tmp_path / "alone" / "report.html").read_text()
    predict.main([*photographs, "--save_path", str(tmp_path / "told"), "--object", "bolt"])
    log = (tmp_path / "told" / "predict.log").read_text()
    assert ("was trained with --obj_name thing, and is used with bolt" in log) == (method == "sdp_plus")


def test_checkpoints_trained_otherwise_are_not_tested_together(trained, cogs, tmp_path):
    content = edited(trained["dp_clip"])
    torch.save(content | {"epoch": 2, "options": content["options"] | {"obj_name": "bolt"}}, tmp_path / "other.pth")
    both = [str(trained["dp_clip"]), str(tmp_path / "other.pth")]
    with pytest.raises(UserError, match=r"were trained with different --obj_name"):
        evaluate("dp_clip", cogs, trained["dp_clip"], tmp_path / "out", "--checkpoint", *both)


def test_a_file_without_a_record_is_tested_together_with_one_that_has_one(trained, cogs, tmp_path):
    """As the first epochs of a training that an earlier version began, and the authors' files, have none."""
    content = edited(trained["dp_clip"])
    early = {key: content[key] for key in ("epoch", "image_adapter", "settings", "backbone")}
    torch.save(early, tmp_path / "early.pth")
    torch.save(content | {"epoch": 2}, tmp_path / "late.pth")
    both = [str(tmp_path / f"{name}.pth") for name in ("early", "late")]
    evaluate("dp_clip", cogs, trained["dp_clip"], tmp_path / "out", "--checkpoint", *both)
    found = json.loads((tmp_path / "out" / "epoch_2" / "results.json").read_text())
    alone = evaluate("dp_clip", cogs, trained["dp_clip"], tmp_path / "alone")
    assert found["mean"] == alone["mean"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("options", ["model"]),
        ("options", {"model": 3}),
        *(
            ("options", {"model": "demo", "pretrained": None, "prompts": None, "obj_name": None, name: value})
            for name, value in {
                "rep_vec": "median",
                "smoothing": "much",
                "dbscan_eps": float("inf"),
                "dbscan_min_samples": 2.5,
                "obj_name": ["thing"],
            }.items()
        ),
        ("train_classes", 3),
        ("shot", "few"),
        ("prompts", "industrial"),
        ("prompts", {"mine": {"normal": ["{}"], "anomalous": [3], "templates": ["{}"]}}),
        ("prompts", {"mine": 3}),
        ("backbone", {"name": "tiny", "image_size": 64, "features_list": 3}),
        ("backbone", 3),
    ],
)
def test_a_record_of_another_form_is_one_sentence(key, value, trained, cogs, tmp_path):
    path = tmp_path / "odd.pth"
    torch.save(edited(trained["dp_clip"], **{key: value}), path)
    with pytest.raises(UserError, match=f"{path}"):
        evaluate("dp_clip", cogs, path, tmp_path / "out")
