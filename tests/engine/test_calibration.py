"""Calibration: the promise kept by brute force, thresholds and p-values that agree, files that fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.calibration import IMAGES, Calibration, conformal_quantile, p_value, read_calibration
from utils.errors import UserError

ORIGIN = {"method": "sdp", "weights_sha256": "0" * 64}


def calibration(text_prob, map_max, rate) -> Calibration:
    return Calibration(list(text_prob), list(map_max), rate, ORIGIN)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(-1, 6), st.integers(1, 99))
def test_the_quantile_is_exceeded_exactly_where_the_p_value_is_small(values, value, percent):
    rate = percent / 100
    if rate * (len(values) + 1) < 1:
        with pytest.raises(ValueError, match="too few"):
            conformal_quantile(values, rate)
    else:
        assert (value > conformal_quantile(values, rate)) == (p_value(values, value) <= rate)


def test_p_values_count_the_images_that_look_as_anomalous():
    assert p_value([1, 2, 3, 4], 0) == 1
    assert p_value([1, 2, 3, 4], 3) == 3 / 5
    assert p_value([1, 2, 3, 4], 5) == 1 / 5


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.31])
def test_of_exchangeable_images_no_more_than_promised_are_called_anomalous(rate):
    """Every image in turn stands apart from the rest; the two scores go together, or against each other."""
    rng = np.random.default_rng(0)
    for correlation in (1, -1, 0.5):
        text = rng.normal(size=60)
        maps = correlation * text + np.sqrt(1 - correlation**2) * rng.normal(size=60)
        alarms, marked = 0, 0
        for left_out in range(60):
            made = calibration(np.delete(text, left_out), np.delete(maps, left_out), rate)
            alarms += made.score(text[left_out], maps[left_out]) > 0
            marked += maps[left_out] > made.pixel_threshold
        assert alarms <= rate * 60
        assert rate * 60 - 1 <= marked <= rate * 60  # the pixel threshold wastes nothing


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=15),
    st.tuples(st.integers(-1, 5), st.integers(-1, 5)),
    st.integers(1, 99),
)
def test_the_score_is_positive_exactly_where_the_p_value_is_within_the_promise(normal, image, percent):
    made = calibration(*zip(*normal, strict=True), percent / 100)
    assert (made.score(*image) > 0) == (made.p_value(*image) <= made.promised_rate + 1e-12)
    assert made.pixel_threshold <= made.map_threshold


def test_few_images_promise_what_they_can():
    made = calibration(range(10), range(10), rate=0.05)
    assert made.promised_rate == pytest.approx(2 / 11)
    assert "needs 39 normal images or more; with 10 no less than 18.2 % can be promised" in made.shortcoming
    assert made.text_threshold == 9
    exact = calibration(range(39), range(39), rate=0.05)
    assert (exact.promised_rate, exact.shortcoming) == (0.05, None)


def test_the_colours_leave_calm_images_alone():
    made = calibration(np.zeros(21), np.arange(21.0), rate=0.1)
    assert made.scale.low == 10
    assert made.scale.low < made.pixel_threshold <= (made.scale.low + made.scale.high) / 2


def test_a_saved_calibration_is_read_again(tmp_path):
    made = calibration([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], rate=0.4)
    made.save(tmp_path / "calibration.json")
    assert read_calibration(tmp_path / "calibration.json", ORIGIN) == made
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert content["pixel_threshold"] == made.pixel_threshold
    with pytest.raises(UserError, match="was made with method sdp, and this run has sdp_plus"):
        read_calibration(tmp_path / "calibration.json", ORIGIN | {"method": "sdp_plus"})


def test_the_models_config_is_compared_where_it_is_recorded(tmp_path):
    """Earlier versions did not record it."""
    path, here = tmp_path / "calibration.json", ORIGIN | {"config_sha256": "1" * 64}
    made = calibration([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], rate=0.4)
    made.save(path)
    assert read_calibration(path, here) == made
    replace(made, origin=here).save(path)
    assert read_calibration(path, here).origin == here
    with pytest.raises(UserError, match="was made with config_sha256 111"):
        read_calibration(path, here | {"config_sha256": "2" * 64})


@pytest.mark.parametrize("recorded", [True, False])
def test_a_calibration_agrees_with_another_of_its_images_and_rate(recorded):
    images = {IMAGES: ["1" * 64, "2" * 64]}
    made = replace(calibration([0.1, 0.2], [1.0, 2.0], rate=0.4), origin=ORIGIN | images if recorded else ORIGIN)
    again = replace(made, text_prob=[0.100001, 0.200001], origin=ORIGIN | images)
    assert made.agrees_with(again)
    assert made.agrees_with(replace(again, text_prob=[0.3, 0.2])) == recorded
    assert made.agrees_with(replace(again, origin=ORIGIN)) == (not recorded)
    assert not made.agrees_with(replace(again, rate=0.5))
    more = {"text_prob": [0.1, 0.2, 0.2], "map_max": [1.0, 2.0, 2.0]}
    assert not made.agrees_with(replace(again, **more, origin=ORIGIN | {IMAGES: ["1" * 64]}))


@pytest.mark.parametrize(
    "change",
    [
        {"map_max": [1.0]},
        {"map_max": [1.0, 2.0]},
        {"text_prob": [0.1, 0.2, "0.3"]},
        {"map_max": "no"},
        {"rate": 0},
        {"rate": "often"},
        {"text_prob": [0.1, float("nan"), 0.3]},
        {"origin": None},
    ],
)
def test_a_damaged_calibration_is_one_sentence(tmp_path, change):
    path = tmp_path / "calibration.json"
    calibration([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], rate=0.4).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"calibration\.json") as caught:
        read_calibration(path, ORIGIN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"[]", b"{", None])
def test_what_is_no_calibration_is_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(UserError, match=r"--calibration .*c\.json"):
        read_calibration(tmp_path / "c.json", ORIGIN)
