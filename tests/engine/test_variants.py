"""The baselines and ablations of test_sdp.py against plain implementations, and what a run with one leaves."""

import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F

import test_sdp
from engine.detectors import Method
from engine.testing_options import SDPOptions
from engine.variants import sdp_variant
from models.fidelity import Fidelity
from tests import tiny_clip
from tests.compare import ROUNDING, relative_error
from tests.plain_sdp import plain_dual_path, plain_patch_embeddings, plain_token_scores
from utils.arguments import options_from
from utils.errors import UserError

PIXELS = ("auroc_px", "f1_px", "ap_px", "aupro")
VARIANTS = {
    "baseline_plain": ["--baseline", "plain"],
    "baseline_text": ["--baseline", "text"],
    "sdp_without_surgery": ["--without", "surgery"],
    "sdp_without_staging_redundancy_removal": ["--without", "redundancy_removal", "staging"],
}


def of(**options) -> tuple[str, Method]:
    return sdp_variant(options_from(SDPOptions, {"dataset": ["mvtec"], "fidelity": "corrected", **options}))


def predict(backbone, text, **options):
    _, method = of(**options)
    settings = Mock(smoothing=0)
    detector = method.detector(settings, backbone, Fidelity.named("corrected"), None, {"bottle": text})
    return detector.predict(tiny_clip.images(), ["bottle"] * 2)


def pixels(scores: torch.Tensor) -> torch.Tensor:
    return F.interpolate(scores.unflatten(1, (12, 12))[:, None], size=96, mode="bilinear", align_corners=False)[:, 0]


@pytest.fixture
def text(golden) -> torch.Tensor:
    return torch.from_numpy(golden["text_mean_mvtec_bottle"])


@pytest.mark.parametrize(
    ("without", "stages", "taken"),
    [(["surgery"], 4, "ori"), (["staging"], 1, "surgery"), (["redundancy_removal"], 4, "surgery")],
)
def test_maps_without_a_part_are_those_of_a_plain_implementation(backbone, text, without, stages, taken):
    visual, whole = backbone.clip.visual, predict(backbone, text)
    with torch.inference_mode():
        taps = plain_dual_path(visual, tiny_clip.images(), tiny_clip.FEATURES_LIST, stages)
        own = [surgery if taken == "surgery" else visual.ln_post(ori) @ visual.proj for ori, surgery in taps]
        expected = pixels(plain_token_scores(own, text, redundancy_removal="redundancy_removal" not in without))
    found = predict(backbone, text, without=without)
    assert relative_error(found.maps, expected) < ROUNDING
    assert relative_error(found.maps, whole.maps) > 0.1
    assert relative_error(found.text_prob, whole.text_prob) < ROUNDING


def test_plain_clip_compares_the_last_blocks_patches_with_the_text(backbone, text):
    with torch.inference_mode():
        patches = F.normalize(plain_patch_embeddings(backbone.clip.visual, tiny_clip.images()), dim=-1)
        image = F.normalize(backbone.clip.visual(tiny_clip.images()), dim=-1)
        expected, of_image = ((100 * one @ text).softmax(dim=-1)[..., 1] for one in (patches, image))
    found = predict(backbone, text, baseline="plain")
    assert relative_error(found.maps, pixels(expected)) < ROUNDING
    assert relative_error(found.text_prob, of_image) < ROUNDING
    assert relative_error(predict(backbone, text, baseline="text").text_prob, of_image) < ROUNDING


@pytest.mark.parametrize("folder", VARIANTS)
def test_a_variants_results_say_what_they_are_and_never_replace_the_methods(
    folder, bolts, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = ["--dataset", "mvtec", "--data_path", str(bolts), *model, "--num_workers", "0", "--no_report"]
    given += ["--cache_dir", "cache"]
    test_sdp.main(given)
    before = Path("results/sdp/tiny/mvtec/scores.csv").read_bytes()
    test_sdp.main([*given, *VARIANTS[folder]])
    out = Path("results", folder, "tiny", "mvtec")
    content = json.loads((out / "results.json").read_text())
    assert content["method"] != "SDP"
    assert content["variant"] in content["notes"]
    assert f"- {content['variant']}" in (out / "results.md").read_text()
    name, *values = VARIANTS[folder]
    assert content["arguments"][name.removeprefix("--")] in (values, *values)
    is_baseline, has_maps = "baseline" in folder, folder != "baseline_text"
    assert content["backbone"]["features_list"] == ([8] if is_baseline else [2, 4, 6, 8])
    assert [content["mean"][key] is not None for key in (*PIXELS, "auroc_sp")] == [has_maps] * 4 + [True]
    assert Path("results/sdp/tiny/mvtec/scores.csv").read_bytes() == before
    with pytest.raises(UserError, match=r"results/sdp/tiny/mvtec holds results of other settings, method \(SDP there"):
        test_sdp.main([*given, *VARIANTS[folder], "--resume", "--save_path", "results/sdp/tiny/mvtec"])


def test_image_probabilities_alone_are_the_scores_and_the_table_says_why_pixels_are_not_measured(
    bolts, model, tmp_path
):
    given = ["--dataset", "mvtec", "--data_path", str(bolts), *model, "--num_workers", "0", "--baseline", "text"]
    test_sdp.main([*given, "--save_path", str(tmp_path), "--cache_dir", str(tmp_path / "cache"), "--bootstrap", "20"])
    rows = [line.split(",") for line in (tmp_path / "scores.csv").read_text().splitlines()[1:]]
    assert all(row[3] == row[4] for row in rows)
    table = (tmp_path / "results.md").read_text()
    assert re.search(r"^\| mean +(\| +- ){4}\| +\d", table, re.MULTILINE)
    assert "bolt: no pixel measures: the image's probability alone is measured, and there are no maps" in table
    assert "no mask with an anomalous pixel" not in table
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "plain", "without": ["staging"]}, "give one of them"),
        ({"without": ["surgery", "staging"]}, "leave out staging"),
        ({"without": ["staging"], "fidelity": "released"}, "give --fidelity corrected"),
        ({"without": ["staging"], "fidelity": None, "model": "vit-b-16-plus-240"}, "give --fidelity corrected"),
        ({"without": ["surgery"], "shots": [1]}, "--shots does not go with --without"),
        ({"baseline": "plain", "features_list": [3]}, "--features_list does not go with --baseline plain"),
        ({"baseline": "text", "smoothing": 0}, "--smoothing does not go with --baseline text"),
        ({"baseline": "text", "save_maps": True}, "--save_maps does not go with --baseline text"),
    ],
)
def test_what_means_nothing_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        of(**options)
