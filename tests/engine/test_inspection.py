"""What the page of app.py is answered, without the page: the detector's own results, by detectors that are kept."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from demo.draw import draw_examples
from engine import inspection
from engine.detector import Detector
from engine.inspection import COLUMNS, Findings, Inspector
from engine.prediction_options import PageOptions
from tests.random_weights import save_random_adapters
from utils.arguments import options_from
from utils.errors import UserError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> tuple[list[str], tuple[str, ...]]:
    """A washer that is broken, one that is scratched and one that is sound; and sound ones to calibrate on."""
    pictures, name, normal = next(draw_examples(tmp_path_factory.mktemp("examples")))
    assert name == "washer"
    return [*map(str, pictures)], tuple(map(str, normal))


@pytest.fixture
def inspector(cache) -> Inspector:
    return make(cache)


def make(cache: Path, **options: object) -> Inspector:
    return Inspector(options_from(PageOptions, {"object": "washer", "device": "cpu", "cache_dir": cache, **options}))


def columns(found: Findings, name: str) -> list[object]:
    return [row[COLUMNS.index(name)] for row in found.rows]


@pytest.mark.parametrize("memory", [False, True])
def test_the_answers_are_the_detectors(inspector, cache, pictures, memory):
    paths, normal = pictures
    found = inspector.inspect(paths, replace(inspector.first, normal=normal, rate=0.2, memory=memory))
    detector = Detector("sdp", backbone="demo", object="washer", smoothing=2, device="cpu", cache_dir=cache)
    detector.calibrate(normal, 0.2, memory=memory)
    results = detector(paths)
    assert columns(found, "picture") == [Path(path).name for path in paths]
    assert columns(found, "verdict") == ["anomalous", "anomalous", "normal"]
    assert columns(found, "score") == [round(result.score, 4) for result in results]
    assert columns(found, "p-value") == [round(result.p_value, 4) for result in results]
    assert columns(found, "regions") == [len(result.regions) for result in results]
    assert found.verdict.startswith("2 of 3 are anomalous (")
    assert found.notes == []
    for view, result in zip(found.views, results, strict=True):
        np.testing.assert_array_equal(view.shown(), np.asarray(result.show()))
        np.testing.assert_array_equal(view.shown(0), view.picture)


def test_regions_are_outlined_where_they_are_on_a_picture_that_is_shown_smaller(inspector, pictures, tmp_path):
    with Image.open(pictures[0][0]) as picture:
        picture.resize((2048, 1024)).save(tmp_path / "wide.png")
    choice = replace(inspector.first, normal=pictures[1], rate=0.2)
    (view,) = inspector.inspect([str(tmp_path / "wide.png")], choice).views
    assert view.picture.shape == (512, 1024, 3)
    detector, _ = inspector.detector(choice)
    regions = detector(tmp_path / "wide.png").regions
    for (outline, label), region in zip(view.outlines(), regions, strict=True):
        rows, across = np.nonzero(outline)
        assert outline.shape == (512, 1024)
        wanted = [region[side] / 2 for side in ("x", "y", "width", "height")]
        assert [across.min(), rows.min(), np.ptp(across), np.ptp(rows)] == pytest.approx(wanted, abs=6)
        assert f"{region['area']} px" in label


def test_without_normal_pictures_there_is_no_verdict(inspector, pictures):
    found = inspector.inspect(pictures[0], inspector.first)
    assert found.verdict.startswith("No verdict without normal pictures, but maps and scores (")
    assert columns(found, "p-value") == [None] * 3
    assert [view.outlines() for view in found.views] == [[]] * 3


def test_what_cannot_be_read_is_a_sentence_beside_the_others_results(cache, pictures, tmp_path):
    inspector, advanced = make(cache, max_pixels=256 * 256), []
    (tmp_path / "broken.png").write_bytes(Path(pictures[0][0]).read_bytes()[:500])
    Image.new("RGB", (300, 300)).save(tmp_path / "huge.png")
    cv2.imwrite(str(tmp_path / "dark.tiff"), np.full((40, 40), 900, np.uint16))
    paths = [str(tmp_path / "broken.png"), pictures[0][0], str(tmp_path / "huge.png"), str(tmp_path / "dark.tiff")]
    for _ in range(2):  # the second time, too
        found = inspector.inspect(paths, inspector.first, lambda: advanced.append(1))
        assert columns(found, "verdict") == ["not read", "no verdict", "not read", "no verdict"]
        dark, broken, huge = found.notes
        assert dark.startswith("images of 16 bits have values from 900 to 900, and 0 to 65535 are shown as black")
        assert broken.startswith("cannot read the image broken.png: ")
        assert huge == "cannot read the image huge.png: it has 300 x 300 pixels, more than --max_pixels 65536"
    assert len(advanced) == 8
    assert inspector.inspect(paths[:1], inspector.first).verdict == "It could not be read"
    with pytest.raises(UserError, match="there are no pictures: upload one or several"):
        inspector.inspect([], inspector.first)


def test_too_few_normal_pictures_are_warned_of_each_time(inspector, pictures):
    choice = replace(inspector.first, normal=(*pictures[1][:3], "gone.png"))
    for _ in range(2):
        notes = inspector.inspect(pictures[0], choice).notes
        assert "left out of the calibration: there is no image gone.png" in notes
        assert any("with 3 no less than 50.0 % can be promised" in note for note in notes)


def test_weights_are_loaded_once_and_detectors_kept(inspector, pictures, monkeypatch):
    loaded, load = [], inspection.backbone_from_options
    monkeypatch.setattr(inspection, "backbone_from_options", lambda *given: loaded.append(given) or load(*given))
    first = inspector.detector(inspector.first)
    inspector.inspect(pictures[0], inspector.first)
    assert inspector.detector(inspector.first) is first
    other, _ = inspector.detector(replace(inspector.first, object="gear"))
    assert other.predictor.backbone is first[0].predictor.backbone
    assert len(loaded) == 1


def test_adapters_are_taken_with_a_method_that_has_them(inspector, tmp_path):
    backbone = inspector.detector(inspector.first)[0].predictor.backbone
    path = save_random_adapters("sdp_plus", backbone, tmp_path / "plus.pth")
    chosen = replace(inspector.first, checkpoint=str(path))
    with pytest.raises(UserError, match="--method sdp takes no --checkpoint"):
        inspector.detector(chosen)
    assert inspector.detector(replace(chosen, method="sdp_plus"))[0].predictor.checkpoint.path == path
    assert inspector.detector(replace(chosen, method="sdp_plus", model=""))[0].predictor.backbone is backbone


def test_options_of_the_command_line_hold_unless_the_page_has_the_choice(cache, pictures):
    inspector = make(cache, image_size=64, smoothing=3, tile=96, normal_dir=Path(pictures[1][0]).parent)
    detector, _ = inspector.detector(inspector.first)
    assert (detector.options.tile, detector.options.smoothing, detector.options.image_size) == (96, 3, 64)
    assert detector.calibration is not None
    with pytest.raises(UserError, match="--normal_memory compares patches of whole images: leave out --tile"):
        inspector.detector(replace(inspector.first, memory=True))
    with pytest.raises(UserError, match="--method sdp_plus needs trained adapters"):
        inspector.detector(replace(make(cache).first, method="sdp_plus"))
