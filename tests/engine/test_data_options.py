"""The command-line options that choose a data set, and how it is read."""

import unicodedata

import pytest

import test_sdp
from datasets.registry import get_spec
from engine.data_sets import read_test_split
from engine.evaluation_options import EvaluationOptions
from engine.options import DataSetsOptions
from engine.saved_runs import ground_truth_of, read_run
from tests.builder_data import mvtec_class
from utils.arguments import parse
from utils.background import free_cores


def parsed(*arguments):
    return parse(DataSetsOptions, None, arguments)


@pytest.mark.parametrize(
    ("cores", "processes", "readers"),
    [(1, "1", 0), (2, "1", 1), (12, "1", 11), (64, "1", 16), (32, "4", 7), (4, "8", 0)],
)
def test_every_core_but_the_main_processes_own_reads_ahead(cores, processes, readers, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert free_cores() == readers


@pytest.mark.parametrize(("called", "name"), [("mvtec", "mvtec"), ("VisA", "visa"), ("ClinicDB", "cvc_clinicdb")])
def test_a_data_set_may_be_called_as_in_either_paper(called, name):
    assert parsed("--dataset", called).dataset == (name,)


@pytest.mark.parametrize("called", ["", "imagenet"])
def test_an_unknown_data_set_is_refused_with_those_that_are_known(called, capsys):
    with pytest.raises(SystemExit):
        parsed("--dataset", called)
    said = capsys.readouterr().err
    assert "argument --dataset: invalid choice" in said
    assert "kvasir" in said


def test_a_test_split_that_is_not_the_published_one_is_warned_of(bottle, warnings_of):
    root = bottle.parent
    read_test_split(get_spec("folder"), root)
    read_test_split(get_spec("brainmri"), root, root / "meta.json")
    assert warnings_of() == ""  # a list of one's own may have whatever it likes
    read_test_split(get_spec("brainmri"), root)
    assert f"{root} has a partial or different test split: 1 of 1 classes, " in warnings_of()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_classes_are_found_in_either_form_of_unicode(tmp_path, form):
    name = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], "Gerät")
    for each in (name, "nut"):
        mvtec_class(tmp_path / each)
    images = read_test_split(get_spec("folder"), tmp_path, None, [unicodedata.normalize(form, "Gerät")])
    assert {entry.cls_name for entry in images.entries} == {name}


def test_a_comparison_takes_the_threshold_that_a_run_had_unless_it_is_given(cogs, model, cache, tmp_path):
    out = tmp_path / "out"
    where = ["--dataset", "mvtec", "--data_path", str(cogs), "--save_path", str(out), "--num_workers", "0"]
    test_sdp.main([*where, *model, "--cache_dir", str(cache), "--no_report", "--mask_threshold", "100"])
    for given, threshold in (((), 100), (("--mask_threshold", "0"), 0)):
        options = parse(EvaluationOptions, None, ["--compare", str(out), str(out), *given])
        assert ground_truth_of(read_run(out), options).spec.mask_threshold == threshold


def test_patterns_without_images_to_find_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse(EvaluationOptions, None, ["--compare", "a", "b", "--normal", "*.png"])
    assert "--normal goes with --maps" in capsys.readouterr().err
