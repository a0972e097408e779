"""A data set under two protocols: what each entry point takes, and that no figures of the two are mixed."""

import json
from pathlib import Path

import numpy as np
import pytest

import doctor
import evaluate
import test_sdp
from data.few_shot import main as few_shot
from datasets.registry import get_spec, get_specs
from engine.earlier_results import folder_name
from engine.training_options import SDPPlusTrainingOptions
from tests import small_data
from utils.arguments import parse
from utils.errors import UserError

DEMO = ["--model", "demo", "--num_workers", "0"]


@pytest.fixture(scope="module")
def kolektor(tmp_path_factory) -> Path:
    """Two parts of two images each, one of them with a bright square in its lowest strip."""
    root, rng = tmp_path_factory.mktemp("data") / "ksdd", np.random.default_rng(0)
    for part in ("kos01", "kos02"):
        for number in (0, 1):
            image, mask = rng.integers(60, 120, (90, 30), dtype=np.uint8), np.zeros((90, 30), np.uint8)
            if (part, number) == ("kos02", 1):
                image[70:85, 5:25], mask[70:85, 5:25] = 250, 255
            small_data.write(root / part / f"Part{number}.jpg", image)
            small_data.write(root / part / f"Part{number}_label.bmp", mask)
    return root


def run(root: Path, out: Path, *options: str) -> dict:
    test_sdp.main(["--dataset", "ksdd", "--data_path", str(root), *DEMO, "--save_path", str(out), *options])
    return json.loads((out / "results.json").read_text())


def test_a_run_says_its_protocol_and_is_not_replaced_by_one_of_another(kolektor, tmp_path):
    whole = run(kolektor, tmp_path)
    assert (whole["protocol"], whole["arguments"]["protocol"]) == ("whole", "whole")
    assert whole["classes"]["ksdd"]["images"] == 4
    assert "protocol whole" in (tmp_path / "results.md").read_text()
    assert run(kolektor, tmp_path, "--protocol", "whole")["mean"] == whole["mean"]
    with pytest.raises(UserError, match=r"other settings, protocol \(whole there, strips here\)"):
        run(kolektor, tmp_path, "--protocol", "strips")
    strips = run(kolektor, tmp_path, "--protocol", "strips", "--overwrite")
    assert strips["classes"]["ksdd"]["images"] == 12
    assert "protocol strips; 1 of 1 classes, 12 of 1197 images" in (tmp_path / "results.md").read_text()


def test_saved_maps_are_measured_and_compared_under_their_protocol(kolektor, tmp_path):
    runs = [tmp_path / name for name in ("whole", "strips", "measured")]
    run(kolektor, runs[0])
    run(kolektor, runs[1], "--protocol", "strips", "--save_maps")
    maps = ["--maps", str(runs[1] / "maps"), "--dataset", "ksdd", "--data_path", str(kolektor), "--protocol", "strips"]
    evaluate.main([*maps, "--num_workers", "0", "--save_path", str(runs[2])])
    assert json.loads((runs[2] / "results.json").read_text())["protocol"] == "strips"
    compared = ["--save_path", str(tmp_path / "compared"), "--num_workers", "0", "--bootstrap", "5"]
    evaluate.main(["--compare", str(runs[1]), str(runs[2]), *compared])
    text = (tmp_path / "compared" / "compare.md").read_text()
    assert "A: SDP on ksdd (strips)" in text
    assert "| auroc_px |" in " ".join(text.split())
    with pytest.raises(UserError, match="the images differ"):
        evaluate.main(["--compare", str(runs[0]), str(runs[1]), *compared, "--overwrite"])


def test_doctor_and_draws_take_the_protocol(kolektor, tmp_path, capsys):
    out = tmp_path / "drawn.jsonl"
    few_shot(["--dataset", "ksdd", "--root", str(kolektor), "--protocol", "strips", "--shot", "2", "--out", str(out)])
    assert "strips/" in out.read_text()
    doctor.main([*DEMO, "--dataset", "ksdd", "--data_path", str(kolektor), "--protocol", "strips"])
    assert "11 of 1143 normal images" in capsys.readouterr().out


def test_the_results_of_protocols_have_folders_of_their_own():
    assert [folder_name(get_spec("ksdd", name), None) for name in (None, "strips")] == ["ksdd", "ksdd-strips"]
    assert folder_name(get_spec("folder"), Path("/my/screws")) == "folder/screws"


def test_each_of_several_data_sets_takes_the_protocol_that_it_has():
    specs = get_specs(("mvtec", "SDD", "ad2"), ("private", "strips"))
    assert [spec.label for spec in specs] == ["mvtec", "ksdd-strips", "mvtec_ad2-private"]
    assert [spec.label for spec in get_specs(("ksdd", "mvtec_ad2"))] == ["ksdd", "mvtec_ad2"]
    assert specs[1].published != get_spec("ksdd").published


@pytest.mark.parametrize(
    ("names", "protocols", "said"),
    [
        (["ksdd"], ["drawn"], "--protocol drawn is not one of ksdd's protocols: whole, strips"),
        (["mvtec"], ["strips"], "--protocol strips is not one of mvtec's protocols: none to choose from"),
        (["mvtec", "ksdd"], ["whole", "strips"], "--protocol names whole and strips, both of ksdd: take one"),
    ],
)
def test_a_protocol_that_no_data_set_has_is_refused(names, protocols, said):
    with pytest.raises(UserError) as refused:
        get_specs(names, protocols)
    assert str(refused.value) == said


def test_trainings_have_it_for_both_of_their_data_sets(capsys):
    given = ["--train_dataset", "ksdd", "--train_protocol", "strips", "--save_path", "out"]
    assert parse(SDPPlusTrainingOptions, "", given).train_protocol == ("strips",)
    with pytest.raises(SystemExit):
        parse(SDPPlusTrainingOptions, "", [*given, "--test_protocol", "strips"])
    assert "--test_protocol goes with --test_dataset" in capsys.readouterr().err
