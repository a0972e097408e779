"""What a reproduction plans, leaves out, runs, goes on with, and says of what failed."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.image_set import ImageSet
from datasets.meta import Entry
from datasets.registry import get_spec
from engine import reproduction
from engine.data_sets import read_test_split
from engine.reproduction_options import ReproductionOptions
from engine.reproduction_plan import Part, parts_of
from engine.reproduction_speed import PAGE, TESTS, TRAININGS, Speed, kind_of, measure
from tests import small_data
from utils.arguments import options_from, parse
from utils.errors import UserError
from utils.files import sha256_of

PROGRAMS = {f"test_{key}.py": kind for key, kind in TESTS.items()}
PROGRAMS |= {f"train_{key}.py": kind for key, (_, kind) in TRAININGS.items()}


def options(*names: str, **given) -> ReproductionOptions:
    return options_from(ReproductionOptions, {"dataset": names, "model": ["vit-l-14-336"], **given})


def image_set(name: str, classes: tuple[str, ...] = ("a", "b")) -> ImageSet:
    """Two normal and two anomalous images of each class, one of the latter without a mask."""
    kinds = [(0, ""), (0, ""), (1, "mask.png"), (1, "")]
    entries = [Entry(f"{one}/{i}.png", mask, one, "", kind) for one in classes for i, (kind, mask) in enumerate(kinds)]
    return ImageSet(get_spec(name), Path("data", name), entries)


def plan(*names: str, **given) -> tuple[dict[str, Part], list[str]]:
    parts, left_out = parts_of(options(*names, **given), [image_set(name) for name in names])
    return {part.name: part for part in parts}, left_out


def test_adapters_are_tested_on_what_they_were_not_trained_on():
    parts, left_out = plan("mvtec", "visa", "isic", tables=["sdp_plus", "dp_clip"], seeds=[111, 112])
    found = {name: [images.spec.name for images in part.data_sets] for name, part in parts.items()}
    assert found == {
        "training of SDP+ on visa, vit-l-14-336": ["visa"],
        "tests of SDP+ on visa, vit-l-14-336": ["mvtec", "isic"],
        "training of SDP+ on mvtec, vit-l-14-336": ["mvtec"],
        "tests of SDP+ on mvtec, vit-l-14-336": ["visa"],
        **{
            f"{what} of DP-CLIP on visa, vit-l-14-336, seed {seed}": data_sets
            for seed in (111, 112)
            for what, data_sets in (("training", ["visa"]), ("tests", ["mvtec", "isic"]))
        },
    }
    assert left_out == ["DP-CLIP on visa: it is what DP-CLIP is trained on"]
    assert len({part.folder for part in parts.values()}) == len(parts)
    for training, tests in zip([*parts.values()][::2], [*parts.values()][1::2], strict=True):
        assert training.checkpoint == tests.checkpoint
        assert training.checkpoint.parent == training.folder


def test_without_what_is_trained_on_its_tests_are_left_out_in_a_sentence():
    parts, left_out = plan("mvtec", "isic", tables=["sdp_plus"])
    assert not parts
    assert left_out[0] == "SDP+ on mvtec: visa, to train on, is not among the data sets"


def test_the_ablation_is_of_each_baseline_and_each_part():
    parts, _ = plan("mvtec", tables=["ablation"], model=["vit-b-16-plus-240"])
    without = [f"without_{part}" for part in ("surgery", "staging", "redundancy_removal")]
    assert [part.folder.name for part in parts.values()] == ["corrected", "baseline_plain", "baseline_text", *without]


@pytest.mark.parametrize("model", ["vit-l-14-336", "vit-b-16-plus-240", "demo"])
def test_every_command_is_one_that_its_program_takes(model):
    parts, _ = plan("mvtec", "visa", "demo", model=[model], precision="bf16")
    assert {part.program for part in parts.values()} == PROGRAMS.keys()
    for part in parts.values():
        program, *arguments = part.arguments()
        parsed = parse(PROGRAMS[program], None, arguments)
        assert parsed.resume
        assert parsed.model == model
        assert parsed.precision == "bf16"
        assert part.folder in (parsed.save_path, parsed.save_path.parent)
        for name, value in part.options.items():
            given = getattr(parsed, name)
            assert (list(given) if isinstance(given, tuple) else given) == value
    whole = "SDP corrected, vit-b-16-plus-240"
    assert (whole in parts) == (model == "vit-b-16-plus-240")  # whose other tests are in released fidelity


def test_the_demo_sets_classes_are_trained_on_or_tested_on():
    parts, _ = plan("demo", model=["demo"], tables=["sdp_plus"])
    training, tests = (part.options for part in parts.values())
    assert not {*training["train_classes"]} & {*tests["classes"]}
    classes = (*training["train_classes"], *tests["classes"])
    parts, _ = parts_of(options("demo", tables=["sdp_plus"]), [image_set("demo", classes)])
    assert [part.images_of(part.data_sets[0]) for part in parts] == [5 * 3, 5 * 4]  # those with ground truth; all


def test_processes_share_a_training_so_that_its_batch_stays_the_papers():
    parts, _ = plan("mvtec", "visa", nproc=4)
    shared = {(p.program, p.processes, p.options.get("batch_size")) for p in parts.values()}
    assert {one for one in shared if one[0].startswith("train")} == {
        ("train_sdp_plus.py", 4, 2),
        ("train_dp_clip.py", 1, 3),
    }
    assert {one[1] for one in shared if one[0].startswith("test")} == {4}


def finish(part: Part, data_set: ImageSet, **others) -> None:
    folder = part.folder / data_set.spec.name
    folder.mkdir(parents=True, exist_ok=True)
    content = {"classes": {}, "finished": True, "images": 8, "arguments": {**part.options, "seed": 42}}
    if part.checkpoint is not None:
        content["checkpoint"] = {"sha256": sha256_of(part.checkpoint)}
    (folder / "results.json").write_text(json.dumps(content | others))


@pytest.mark.parametrize(
    "others", [{"finished": False}, {"images": 7}, {"arguments": {"bootstrap": 1000}}, {"checkpoint": {"sha256": "0"}}]
)
def test_what_is_done_is_left_out_and_nothing_else(others, tmp_path):
    parts, _ = plan("mvtec", "visa", "isic", tables=["sdp_plus"], save_path=str(tmp_path), bootstrap=50)
    training, tests, *_ = parts.values()
    training.folder.mkdir(parents=True)
    assert training.todo() == [*training.data_sets]
    training.checkpoint.write_bytes(b"trained")
    assert training.todo() == []
    mvtec, isic = tests.data_sets
    finish(tests, mvtec)
    assert tests.todo() == [isic]
    arguments = tests.arguments()
    named = arguments[arguments.index("--dataset") + 1 : arguments.index("--model")]
    assert named == ["isic", "--data_path", "data/isic"]
    assert arguments[arguments.index("--save_path") + 1] == str(tests.folder / "isic")
    finish(tests, isic, **others)
    assert tests.todo() == [isic]
    finish(tests, isic)
    assert tests.todo() == []
    (tests.folder / "isic" / "results.json").write_text("{")  # damaged
    assert tests.todo() == [isic]


def test_estimates_are_of_what_is_to_be_done():
    parts, _ = plan("mvtec", "visa", tables=["sdp_plus"])
    training, tests, *_ = parts.values()
    speed = Speed(start=10, image=2, step=3, image_bytes=100, run_bytes=7)
    assert speed.of(training) == (10 + 6 * 2 + 5 * 6 * 3, 6 * 100 + 7)
    speed = replace(speed, step=0, image_bytes=PAGE, run_bytes=0)
    assert speed.of(tests) == (10 + 8 * 2, PAGE)


@pytest.fixture
def demo(tmp_path) -> Path:
    """A data set in the demo's name, with one class to train on and one to be tested on."""
    return small_data.make(tmp_path / "demo", ("gear", "wood"))


@pytest.fixture
def small_split(monkeypatch):
    monkeypatch.setattr("engine.reproduction_plan.SPLIT", {"demo": (["gear"], ["wood"])})
    recipes = {"sdp_plus": {"epochs": 1, "batch_size": 8}, "dp_clip": {"epochs": 1, "batch_size": 3}}
    monkeypatch.setattr("engine.reproduction_plan.DEMO_RECIPES", recipes)
    monkeypatch.setattr("engine.reproduction_speed.IMPORT", ["true"])


def test_every_kind_of_part_is_measured(demo, small_split, tmp_path):
    given = options("demo", model=["demo"], rep_vec=["mean"], bootstrap=20, save_path=str(tmp_path / "out"))
    images = read_test_split(get_spec("demo"), demo)
    parts, _ = parts_of(given, [images])
    speeds = measure(parts, images, given)
    assert speeds.keys() == {kind_of(part) for part in parts}
    assert len(speeds) == 5
    for (_, method, trains), speed in speeds.items():
        assert speed.start > 0
        assert (speed.image > 1e-4) == (not trains or method == "sdp_plus")
        assert (speed.step > 0) == (speed.run_bytes > 0) == trains
        assert (speed.image_bytes > 0) == (not trains or method == "sdp_plus")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("computes", [True, False])
def test_what_precision_auto_chooses_is_said_in_the_plan(computes, demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduction, "measure", lambda parts, *_: dict.fromkeys(map(kind_of, parts), SPEED))
    monkeypatch.setattr("engine.loading.computes_bfloat16", lambda _: computes)
    given = {"data_path": [str(demo)], "model": ["demo"], "tables": ["sdp"], "precision": "auto", "plan": True}
    assert reproduction.reproduce(options("demo", **given, save_path=str(tmp_path))) == 0
    assert ("- the towers are run in bf16" in capsys.readouterr().out.splitlines()) == computes


class Programs:
    """Runs the programs in this process; of those that are named, some fail and one is interrupted."""

    def __init__(self, failing: str = "", interrupted: str = "") -> None:
        self.failing, self.interrupted, self.called = failing, interrupted, []

    def __call__(self, command: list[str], processes: int) -> int:
        program = Path(command[0]).stem
        self.called.append(program)
        if program == self.interrupted:
            raise KeyboardInterrupt
        if program == self.failing:
            return 2
        return importlib.import_module(program).main(command[1:]) or 0


def test_what_failed_is_said_the_rest_is_run_and_a_second_run_makes_up_for_it(
    demo, small_split, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(reproduction, "measure", lambda parts, *_: dict.fromkeys(map(kind_of, parts), SPEED))
    given = {"data_path": [str(demo)], "model": ["demo"], "tables": ["sdp_plus", "dp_clip"], "bootstrap": 20}
    given = options("demo", **given, save_path=str(tmp_path / "out"), num_workers=0)

    def reproduced(programs: Programs, **more) -> int:
        monkeypatch.setattr(reproduction, "_launch", programs)
        return reproduction.reproduce(replace(given, **more))

    assert reproduced(Programs(), plan=True) == 0
    assert "| training of SDP+ on demo, demo " in capsys.readouterr().out
    assert not (tmp_path / "out").exists()

    first = Programs(failing="train_sdp_plus")
    assert reproduced(first) == 1
    assert first.called == ["train_sdp_plus", "train_dp_clip", "test_dp_clip"]
    text = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "- missing: training of SDP+ on demo, demo: failed with exit code 2, for the reason above" in text
    assert "- missing: tests of SDP+ on demo, demo: not run, as there is no " in text

    stopped = Programs(interrupted="test_sdp_plus")
    with pytest.raises(KeyboardInterrupt):
        reproduced(stopped)
    assert stopped.called == ["train_sdp_plus", "test_sdp_plus"]
    text = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "- missing: tests of SDP+ on demo, demo: not done yet" in text

    last = Programs()
    assert reproduced(last) == 0
    assert last.called == ["test_sdp_plus"]
    text = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "missing" not in text
    capsys.readouterr()
    assert reproduced(Programs(failing="test_sdp_plus")) == 0
    assert capsys.readouterr().out.count(" done |") == 4


SPEED = Speed(start=1, image=1, image_bytes=1)


def test_a_data_set_that_cannot_be_read_is_left_out(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduction, "measure", lambda parts, *_: dict.fromkeys(map(kind_of, parts), SPEED))
    none, common = tmp_path / "none", {"model": ["demo"], "tables": ["sdp"], "plan": True}
    assert reproduction.reproduce(options("mvtec", "demo", data_path=[str(none), str(demo)], **common)) == 0
    assert f"- left out: mvtec: there is no folder {none}" in capsys.readouterr().out
    with pytest.raises(UserError, match="none of the data sets can be read: mvtec: there is no folder"):
        reproduction.reproduce(options("mvtec", "visa", data_path=[str(none), str(none)], **common))
