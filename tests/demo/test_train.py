"""The demonstration model: its files are whole, it finds defects it was not trained on, its training runs."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from datasets.transforms import image_transform, mask_transform, normalised, resize_rgb
from demo import train
from demo.draw import image_rng
from demo.network import Captions, go_on
from demo.render import CLASSES, DEFECTS, render
from models.backbone import load_backbone
from models.fidelity import Fidelity
from models.presets import PRESETS
from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.sdp import SDP
from models.text import class_text_features
from tests.plain_baselines import baseline_aurocs
from utils.errors import UserError
from utils.measures.ranking import ranking_measures

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "pretrained_models" / "demo"


def _backbone(model: Path, weights: Path, image_size: int):
    return load_backbone(
        model=str(model),
        pretrained=str(weights),
        image_size=image_size,
        features_list=None,
        fidelity=Fidelity.named("corrected"),
        device=torch.device("cpu"),
        precision="fp32",
    )


def test_the_files_are_those_of_the_manifest_and_small():
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    assert sums.keys() == {"demo.json", "demo.safetensors"}
    for name, digest in sums.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 10e6


def test_it_finds_defects_where_grey_values_and_edges_do_not():
    preset = PRESETS["demo"]
    size = preset.image_size
    backbone = _backbone(preset.model, preset.pretrained, size)
    choice = RepVecChoice("mean", 0.5, 15)
    prompts = read_prompts("industrial")
    text = {name: class_text_features(backbone, prompts, name, choice, None) for name in CLASSES}
    detector = SDP(backbone, text, Fidelity.named("corrected"), smoothing=2.0)
    pixel, image, baselines = [], [], []
    for name in CLASSES:
        kinds = [*((defect, 0) for defect in DEFECTS[name]), *(("good", k) for k in range(4))]
        paths = {f"{name}/test/{kind}/{k}.png": [kind] * (kind != "good") for kind, k in kinds}
        drawn = [render(name, defects, image_rng(11, path)) for path, defects in paths.items()]
        images = [Image.fromarray(picture) for _, picture, _ in drawn]
        masks = [mask_transform(mask, (size, size)).numpy() for *_, mask in drawn]
        batch = normalised(torch.stack([image_transform(image, size) for image in images]))
        found = detector.predict(batch, [name] * len(drawn))
        maps, anomalous = found.maps.numpy(), np.stack(masks)
        pixel.append(ranking_measures(maps[~anomalous], maps[anomalous])["auroc"])
        scores = detector.image_scores(found.text_prob.numpy(), maps.max((1, 2)), maps.min((1, 2)))
        faulty = np.array([*map(bool, paths.values())])
        image.append(ranking_measures(scores[~faulty], scores[faulty])["auroc"])
        baselines.append(list(baseline_aurocs([resize_rgb(image, size) for image in images], masks).values()))
    assert np.mean(pixel) > 0.9
    assert np.mean(pixel) > np.mean(baselines, axis=0).max() + 0.1
    assert np.mean(image) > 0.8


@pytest.fixture(scope="module")
def tiny_training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    config = json.loads((FOLDER / "demo.json").read_text())
    config["vision_cfg"] |= {"image_size": 32, "width": 64, "head_width": 32}
    config["text_cfg"] |= {"width": 32, "heads": 2, "layers": 1}
    (folder / "demo.json").write_text(json.dumps(config))
    options = {"output": folder, "config": folder / "demo.json", "steps": 2}
    options |= {"pairs": 8, "batch": 4, "validation_pairs": 46, "threads": 1}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    train.main(arguments)
    return folder


def test_training_writes_weights_that_load_and_a_record_of_every_step(tiny_training):
    backbone = _backbone(tiny_training / "demo.json", tiny_training / "demo.safetensors", 32)
    assert all(torch.isfinite(value).all() for value in backbone.clip.state_dict().values())
    with (tiny_training / "loss.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert 0 <= float(rows[-1]["pixel_auroc"]) <= 1
    assert Image.open(tiny_training / "loss.png").size == (960, 540)


def test_a_training_goes_on_from_weights(tiny_training, tmp_path):
    start = tiny_training / "demo.safetensors"
    options = ["--start", str(start), "--config", str(tiny_training / "demo.json"), "--output", str(tmp_path)]
    options += ["--steps", "1", "--pairs", "8", "--batch", "4", "--validation_pairs", "46", "--threads", "1"]
    train.main([*options, "--lr", "1e-12"])
    before, after = load_file(start), load_file(tmp_path / "demo.safetensors")
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name


def test_weights_of_other_captions_are_refused(tiny_training):
    captions = Captions(read_prompts("industrial"), 32)
    captions.ids = captions.ids[1:]
    with pytest.raises(UserError, match="was trained on other captions"):
        go_on(torch.nn.Module(), captions, tiny_training / "demo.safetensors")


def test_a_learning_rate_that_is_too_large_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main(["--lr", "1e300", "--output", str(tmp_path), "--steps", "1", "--pairs", "1", "--batch", "1"])
    assert "error: --lr 1e+300 is more than 1" in capsys.readouterr().err


def test_words_that_no_caption_held_have_zero_embeddings(tiny_training):
    backbone = _backbone(tiny_training / "demo.json", tiny_training / "demo.safetensors", 32)
    ids = open_clip.tokenize(["damaged zebra"])[0, 1:3].tolist()
    lengths = backbone.clip.token_embedding.weight[ids].norm(dim=1)
    assert lengths[0] > 0
    assert lengths[1] == 0


def test_more_sentences_than_there_are_is_refused():
    captions = Captions(read_prompts("industrial"), 32)
    with pytest.raises(UserError, match="--sentences 2147483647: there are only"):
        captions.draw("wood", 2147483647, np.random.default_rng(0))
