"""Options of the backbone and the prompts: devices, presets, overrides, and what is loaded from them."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch

import engine.loading
from datasets.registry import get_spec
from engine.data_sets import read_test_split
from engine.detectors import METHODS
from engine.loading import backbone_from_options, find_device, with_precision
from engine.options import BackboneOptions, ClipAdOptions, PhraseOptions, resolve
from engine.prediction_options import PredictionOptions
from models.fidelity import Fidelity
from models.presets import PRESETS, find_preset
from models.prompts import read_prompts
from models.representative import RepVecChoice
from models.text import class_text_features
from utils.arguments import parse
from utils.errors import UserError

CPU = torch.device("cpu")
CORRECTED = Fidelity.named("corrected")


class Given(BackboneOptions, PhraseOptions, ClipAdOptions):
    """What the command lines here are read into."""


def parsed(*arguments: str) -> Given:
    return parse(Given, None, arguments)


def resolved(*arguments: str) -> Given:
    return resolve(parsed(*arguments))


def backbone_part(args: Given) -> tuple:
    return args.model, args.pretrained, args.image_size, args.features_list, args.fidelity


@pytest.mark.parametrize(
    "name, expected",
    [
        (None, ("ViT-L-14-336", "openai", 518, (6, 12, 18, 24), "corrected")),
        ("vit-l-14-336", ("ViT-L-14-336", "openai", 518, (6, 12, 18, 24), "corrected")),
        ("ViT-L-14-336", ("ViT-L-14-336", "openai", 518, (6, 12, 18, 24), "corrected")),
        ("vit-b-16-plus-240", ("ViT-B-16-plus-240", "laion400m_e31", 240, (3, 6, 9, 12), "released")),
        ("ViT-B-16-plus-240", ("ViT-B-16-plus-240", "laion400m_e31", 240, (3, 6, 9, 12), "released")),
    ],
)
def test_presets_fill_in_what_was_left_open(name, expected):
    assert backbone_part(resolved(*(["--model", name] if name else []))) == expected


@pytest.mark.parametrize("model", ["vit-l-14-336", "demo"])
def test_sentences_are_summed_up_by_their_mean_unless_told_otherwise(model):
    assert resolved("--model", model).rep_vec == "mean"
    assert resolved("--model", model, "--rep_vec", "pca").rep_vec == "pca"


def test_what_the_user_gave_is_kept():
    given = ["--pretrained", "own.pt", "--image_size", "336", "--features_list", "3", "9"]
    for fidelity in ("released", "corrected"):
        args = resolved("--model", "vit-b-16-plus-240", *given, "--fidelity", fidelity)
        assert backbone_part(args) == ("ViT-B-16-plus-240", "own.pt", 336, (3, 9), fidelity)


def test_each_option_is_overridden_alone():
    found = backbone_part(resolved("--image_size", "336"))
    assert found == ("ViT-L-14-336", "openai", 336, (6, 12, 18, 24), "corrected")


def test_a_model_without_a_preset_needs_weights_and_takes_its_own_defaults():
    assert find_preset("ViT-B-32") is None
    with pytest.raises(UserError, match="--model ViT-B-32: say with --pretrained which weights to use"):
        resolved("--model", "ViT-B-32")
    args = resolved("--model", "ViT-B-32", "--pretrained", "laion2b_s34b_b79k")
    assert backbone_part(args) == ("ViT-B-32", "laion2b_s34b_b79k", None, None, "corrected")


def test_presets_cannot_be_changed_by_a_run():
    with pytest.raises(FrozenInstanceError):
        resolved().features_list = (1,)
    with pytest.raises(TypeError):
        PRESETS["another"] = PRESETS["vit-l-14-336"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--image_size", "0"], "'0' is not a whole number from 1"),
        (["--smoothing", "1e300"], "'1e300' is not a number from 0 to 1000"),
        (["--cache_dir", ""], "'' is not a path"),
        (["--model", ""], "'' is not a text of more than space"),
        (["--model=--"], "'--' is no value"),
        (["--features_list", "6", "0"], "'0' is not a whole number from 1"),
        (["--features_list"], "expected at least one argument"),
        (["--fidelity", "exact"], "invalid choice: 'exact'"),
        (["--precision", "fp8"], "invalid choice: 'fp8'"),
        (["--rep_vec", "median"], "invalid choice: 'median'"),
        (["--dbscan_eps", "0"], "'0' is not a number above 0"),
        (["--obj_name", " "], "' ' is not a text in UTF-8, of more than space"),
        (["--dbscan_min_samples", "1.5"], "'1.5' is not a whole number"),
    ],
)
def test_values_out_of_range_are_refused_by_the_parser(capsys, arguments, said):
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


# Devices


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert find_device("auto") == torch.device("cuda")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_cuda_device_must_be_there(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    for name, index in (("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:7", 7), ("cuda:256", 256)):
        if index < count:
            assert find_device(name) == torch.device(name)
        else:
            with pytest.raises(UserError, match=f"--device {name}: this machine has {count} CUDA devices"):
                find_device(name)


@pytest.mark.parametrize(
    "name, said",
    [
        ("gpu", "not a device; use auto, cpu, cuda or cuda:N"),
        ("cuda:x", "not a device; use auto, cpu, cuda or cuda:N"),
        ("", "not a device; use auto, cpu, cuda or cuda:N"),
        ("mps", "only cpu and cuda are supported"),
        ("meta", "only cpu and cuda are supported"),
    ],
)
def test_other_devices_are_refused(name, said):
    with pytest.raises(UserError, match=f"--device {name}: {said}"):
        find_device(name)


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_on_devices_that_compute_in_it(native, chosen, monkeypatch, caplog):
    monkeypatch.setattr(engine.loading, "computes_bfloat16", lambda device: native)
    caplog.set_level("INFO")
    assert with_precision(parsed("--precision", "auto"), CPU).precision == chosen
    assert caplog.messages == [f"--precision auto: the towers are run in {chosen} on this cpu"]
    assert with_precision(parsed("--precision", "fp16"), CPU).precision == "fp16"
    assert with_precision(parsed(), CPU).precision == "fp32"


# From options to a backbone and its text features


@pytest.mark.parametrize("fidelity", ["released", "corrected"])
def test_options_reach_the_backbone(model, monkeypatch, fidelity):
    given = {}
    monkeypatch.setattr(engine.loading, "load_backbone", lambda **options: given.update(options))
    options = ["--image_size", "64", "--features_list", "4", "8", "--precision", "bf16", "--fidelity", fidelity]
    backbone_from_options(resolved(*model, *options, "--compile"), Fidelity.named(fidelity), CPU)
    expected = {"model": model[1], "pretrained": model[3], "image_size": 64, "features_list": (4, 8)}
    run = {"fidelity": Fidelity.named(fidelity), "device": CPU, "precision": "bf16", "compile": True}
    assert given == expected | run


def test_options_reach_the_text_features(model, tmp_path, warnings_of):
    options = ["--prompts", "medical", "--rep_vec", "dbscan", "--dbscan_eps", "1.9", "--dbscan_min_samples", "3"]
    args = resolved(*model, *options, "--cache_dir", str(tmp_path))
    backbone = backbone_from_options(args, CORRECTED, CPU)
    prompts = read_prompts("medical")
    features = METHODS["sdp"]().text_features(args, backbone, {"isic": "skin", "headct": "head ct"})
    assert list(features) == ["isic", "headct"]
    for name, phrase in (("isic", "skin"), ("headct", "head ct")):
        expected = class_text_features(backbone, prompts, phrase, RepVecChoice("dbscan", 1.9, 3), None)
        assert torch.equal(features[name], expected)
    assert len(list((tmp_path / "text").iterdir())) == 2
    assert warnings_of() == ""

    METHODS["sdp"]().text_features(replace(args, dbscan_eps=1e-6, dbscan_min_samples=1000), backbone, {"isic": "skin"})
    assert warnings_of().count("no cluster among 180 sentences") == 1


def test_obj_name_stands_for_every_class(bottle, tmp_path, model, caplog):
    caplog.set_level("INFO")
    args = resolve(parsed(*model, "--obj_name", "part", "--cache_dir", str(tmp_path / "cache")), get_spec("mvtec"))
    images = read_test_split(get_spec("folder"), bottle.parent)
    images = replace(images, entries=[*images.entries, replace(images.entries[0], cls_name="nut")])
    backbone = backbone_from_options(args, CORRECTED, CPU)
    features = METHODS["sdp"]().text_features(args, backbone, images.phrases(called=args.obj_name))
    assert torch.equal(features["bottle"], features["nut"])
    assert len(list(Path(tmp_path, "cache", "text").iterdir())) == 1
    assert "class nut is called 'part' in the prompts" in caplog.text


def test_what_is_left_open_takes_the_data_sets_values_or_those_before_them():
    spec = get_spec("visa")
    args = resolve(parsed("--dbscan_eps", "0.1"), spec)
    assert (args.prompts, args.dbscan_eps, args.dbscan_min_samples) == ("industrial", 0.1, 25)
    assert resolve(parsed(), spec, prompts="dp_clip", fidelity=None).prompts == "dp_clip"
    assert resolve(parsed(), fidelity="released").fidelity == "released"
    assert resolve(resolve(parsed()), spec) == resolve(parsed(), spec)


def test_what_is_on_photographs_is_named_by_one_option(capsys):
    assert parse(PredictionOptions, None, ["here", "--object", "bolt"]).object == "bolt"
    with pytest.raises(SystemExit):
        parse(PredictionOptions, None, ["here", "--object", "bolt", "--obj_name", "nut"])
    assert "unrecognized arguments: --obj_name nut" in capsys.readouterr().err
