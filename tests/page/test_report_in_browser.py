"""report.html in a headless Chromium; skipped where there is no Chromium with its driver, or no selenium."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.browser import chromium
from tests.report_pages import NASTY, class_result, write_page
from utils.measures.bootstrap import Bootstrap

webdriver = pytest.importorskip("selenium.webdriver")
keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

LABELS, SCORES = [0, 0, 0, 1, 1, 1], [0.1, 0.8, 0.2, 0.9, 0.3, 1.0]  # 1 and 4 are the wrong ones
browser = pytest.fixture(chromium, scope="module")


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Callable]:
    """Writes a page and opens it; at the end, nothing may have gone wrong on it."""

    def open_page(*results, **options) -> "Shown":
        browser.get(write_page(tmp_path, results, **options).as_uri())
        return Shown(browser)

    yield open_page
    assert browser.get_log("browser") == []


class Shown:
    """What a user sees and does."""

    def __init__(self, browser) -> None:
        self.browser = browser

    def one(self, selector: str):
        return self.browser.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.browser.find_elements("css selector", selector)]

    @property
    def names(self) -> list[str]:
        return [Path(name).stem for name in self.texts("#images td.name")]

    @property
    def counts(self) -> list[str]:
        return self.texts("#counts td")

    def header(self, title: str):
        return next(e for e in self.browser.find_elements("css selector", "th button") if e.text.startswith(title))

    def choose(self, menu: str, text: str) -> None:
        options = self.browser.find_elements("css selector", f"{menu} option")
        next(option for option in options if option.text == text).click()

    def set(self, slider: str, value: float) -> None:
        """Move a slider, and wait until the page has followed."""
        self.browser.execute_async_script(
            "const [id, value, done] = arguments; const slider = document.querySelector(id); slider.value = value;"
            "slider.dispatchEvent(new Event('input', {bubbles: true}));"
            "requestAnimationFrame(() => requestAnimationFrame(done));",
            slider,
            value,
        )

    def press(self, key: str) -> None:
        webdriver.ActionChains(self.browser).send_keys(key).perform()

    def opacity(self, selector: str) -> float:
        return float(self.one(selector).value_of_css_property("opacity"))


def test_the_worst_misses_come_first(opened):
    shown = opened(class_result("bolt", LABELS, SCORES))
    assert shown.names == ["1", "4", "2", "0", "3", "5"]  # then by their distance from the threshold
    assert shown.texts("#images tbody tr:first-child td")[2:5] == ["normal", "false positive", "33.3 %"]
    assert len(shown.texts(".curve.chosen")) == 2
    assert shown.texts("#measures td") == ["bolt", "-", "88.9"]


def test_threshold_starts_at_the_best_f1_and_counts_follow_it(opened):
    shown = opened(class_result("bolt", LABELS, SCORES))
    assert shown.one("#threshold-value").get_attribute("value") == "0.3"
    assert shown.counts == ["3 TP", "0 FN", "1 FP", "2 TN"]
    shown.set("#threshold", 0.85)
    assert shown.counts == ["2 TP", "1 FN", "0 FP", "3 TN"]
    assert shown.texts("#rates b") == ["100.0 %", "66.7 %", "0.0 %", "80.0 %"]
    assert shown.texts(".chip.wrong") == ["false negative"]
    shown.set("#threshold-value", 2)
    assert shown.counts == ["0 TP", "3 FN", "0 FP", "3 TN"]
    assert shown.texts("#rates b") == ["-", "0.0 %", "0.0 %", "0.0 %"]


def test_slider_moves_by_the_keyboard(opened):
    shown = opened(class_result("bolt", LABELS, SCORES))
    shown.one("#threshold").send_keys(keys.END)
    shown.set("#opacity", 100)  # which waits
    assert shown.counts == ["0 TP", "3 FN", "0 FP", "3 TN"]


def test_a_click_on_the_histogram_sets_the_threshold(opened):
    shown = opened(class_result("bolt", LABELS, SCORES))
    shown.one("#histogram .plot").click()  # in the middle
    shown.set("#opacity", 100)  # which waits
    assert float(shown.one("#threshold-value").get_attribute("value")) == pytest.approx(0.55, abs=0.01)
    assert shown.counts == ["2 TP", "1 FN", "1 FP", "2 TN"]


def test_columns_sort_both_ways(opened):
    shown = opened(class_result("bolt", LABELS, SCORES))
    shown.header("Score").click()
    assert shown.names == ["5", "3", "1", "4", "2", "0"]
    assert shown.one("th[aria-sort]").get_attribute("aria-sort") == "descending"
    shown.header("Score").click()
    assert shown.names == ["0", "2", "4", "1", "3", "5"]
    shown.header("Name").send_keys(keys.ENTER)
    assert shown.names == ["0", "1", "2", "3", "4", "5"]


def test_filters_by_class_outcome_and_name(opened):
    shown = opened(class_result("bolt", LABELS, SCORES), class_result("nut", [0, 1], [0.2, 0.9]))
    assert len(shown.names) == 8
    assert shown.texts(".curve.chosen") == []
    shown.choose("#outcome", "all errors")
    assert shown.names == ["1"]
    shown.choose("#class", "nut")
    assert shown.names == []
    assert shown.counts == ["1 TP", "0 FN", "0 FP", "1 TN"]
    shown.choose("#outcome", "true positive")
    assert shown.names == ["1"]
    shown.choose("#outcome", "all")
    shown.one("#query").send_keys("NUT/0")
    assert shown.names == ["0"]
    assert shown.one("#found").text == "1 of 8 images"
    next(link for link in shown.browser.find_elements("css selector", "#measures .link")).click()
    assert shown.one("#class").get_attribute("value") == "0"


def test_opacity_and_ground_truth(opened):
    shown = opened(class_result("bolt", LABELS, SCORES))
    assert shown.opacity("#images .heat") == 1
    sliders = shown.browser.find_elements("css selector", "input[type=range]")
    assert {slider.value_of_css_property("padding-left") for slider in sliders} == {"0px"}  # of which 100 is the end
    shown.set("#opacity", 25)
    assert shown.opacity("#images .heat") == 0.25
    assert shown.one("#images .outline").is_displayed()
    shown.one("#controls .truth").click()
    assert not shown.one("#images .outline").is_displayed()


def test_a_click_shows_an_image_large(opened):
    shown = opened(class_result("bolt", LABELS, SCORES))
    shown.one(".thumb").click()
    assert shown.one("#viewer-name").text == "bolt/1.png"
    picture = shown.one("#viewer .picture").rect
    assert picture["width"] > 300
    assert shown.browser.execute_script("return document.querySelector('#viewer img').naturalWidth") == 48
    shown.set("#viewer-opacity", 50)
    assert shown.opacity("#images .heat") == shown.opacity("#viewer .heat") == 0.5
    shown.press(keys.ARROW_RIGHT)
    assert shown.one("#viewer-name").text == "bolt/4.png"
    shown.press(keys.END)
    assert shown.one("#viewer-name").text == "bolt/5.png"
    shown.one("#viewer-previous").click()
    shown.one("#viewer-next").click()  # which is disabled then, and would take the keys with it
    shown.press(keys.ARROW_LEFT)
    assert shown.one("#viewer-name").text == "bolt/3.png"
    shown.press(keys.ESCAPE)
    assert not shown.one("#viewer").is_displayed()
    shown.press("/")
    shown.press("5")
    assert shown.names == ["5"]


def test_every_number_says_what_it_means_and_every_colour_what_it_stands_for(opened):
    results = class_result("bolt", LABELS, SCORES), class_result("nut", [0, 1], [0.2, 0.9])
    shown = opened(*results)
    cells = shown.browser.find_elements("css selector", "#measures td.number, #images td.number, #rates span")
    assert len(cells) > 30
    assert all(len(cell.get_attribute("title")) > 20 for cell in cells)
    legend = " ".join(shown.one(".colours").text.split())
    assert legend == "Colours of a map: its class's median its class's highest score ground truth"
    shown.choose("#class", "nut")
    low, high = re.findall(r"[\d.]{4,}", shown.one(".colours").text)
    assert 0 < float(low) < float(high) < 1
    alone = opened(class_result("photos", [None] * 2, [0.1, 0.5]))
    assert "truth" not in alone.one(".colours").text


def test_intervals_stand_behind_the_measures(opened):
    result = class_result("bolt", LABELS, SCORES)
    drawn = replace(result, draws={"auroc_sp": np.linspace(0.8, 1, 201)})
    shown = opened(drawn, bootstrap=Bootstrap(201, 90.0))
    assert shown.texts("#measures td") == ["bolt", "-", "88.9 [81.0, 99.0]"]


def test_kinds_of_anomaly_are_folded_below_the_measures(opened):
    result = class_result("bolt", [0, 1, 1], [0.1, 0.9, 0.5])
    kinds = {
        "hole": {"images": 1, "auroc_px": None, "auroc_sp": 1.0},
        "<b>cut": {"images": 1, "auroc_px": 0.5, "auroc_sp": 0.25},
    }
    page = opened(replace(result, kinds=kinds), class_result("nut", [0, 1], [0.1, 0.9]))
    assert not page.one("#kinds").is_displayed()
    page.one("#kinds-section summary").click()
    assert page.texts("#kinds tbody tr") == ["bolt hole 1 - 100.0", "bolt <b>cut 1 50.0 25.0"]
    without = opened(class_result("nut", [0, 1], [0.1, 0.9]))
    assert not without.one("#kinds-section").is_displayed()


def test_without_labels_predictions_are_counted_from_the_calibrated_threshold(opened):
    result = class_result("photos", [None] * 3, [0.1, 0.5, 0.6])
    shown = opened(result, threshold=0.4, more=[{"p_value": value} for value in (0.5, 0.011, 0.02)])
    assert shown.counts == ["2", "1"]
    assert shown.names == ["2", "1", "0"]
    assert shown.texts("#images tbody tr:first-child td")[2:] == ["anomalous", "0.6000", "0.5000", "0.2500", "0.020"]
    assert shown.one(".calibrated-line")
    assert not shown.one("#best").is_displayed()
    shown.set("#threshold", 0.55)
    assert shown.counts == ["1", "2"]
    shown.one("#calibrated").click()
    shown.set("#opacity", 100)
    assert shown.counts == ["2", "1"]
    assert not any(box.is_displayed() for box in shown.browser.find_elements("css selector", ".truth"))


def test_a_calibrated_threshold_is_to_be_exceeded_and_files_are_linked(opened, tmp_path):
    result = class_result("photos", [None] * 2, [0, 0.5])
    shown = opened(result, threshold=0, more=[{"href": "a%3Ab.png"}, {"href": "b.png"}])
    assert shown.counts == ["1", "1"]
    assert shown.one("#start").text == "Calibrated threshold: 0"
    hint = shown.header("Score").find_element("xpath", "..").get_attribute("title")
    assert "in standard deviations of the normal images" in hint
    links = [link.get_attribute("href") for link in shown.browser.find_elements("css selector", "#images a")]
    assert links == [f"{tmp_path.as_uri()}/b.png", f"{tmp_path.as_uri()}/a%3Ab.png"]
    shown.one(".thumb").click()
    assert shown.one("#viewer-file").get_attribute("href") == links[0]
    assert not shown.one("#unread-section").is_displayed()


def test_what_could_not_be_read_is_counted_above_and_listed_with_the_reason(opened):
    shown = opened(class_result("photos", [None] * 2, [0, 0.5]), unread={"broken.png": "it is cut short"})
    assert shown.one("#summary").text == "2 images of 1 class: 2 unlabelled; 1 not predicted, see below"
    assert shown.texts("#unread td") == ["broken.png", "it is cut short"]


@pytest.mark.parametrize("label", [None, 0, 1])
def test_one_image_is_enough(opened, label):
    shown = opened(class_result("photo", [label], [0.5]))
    assert shown.names == ["0"]
    assert shown.texts("#measures td") == ["photo", "-", "-"]
    assert shown.texts("#notes li") == ["a remark", "photo: no image measures: a label is missing"]
    assert shown.texts("#curves figure") == []


def test_names_are_shown_as_they_are_and_run_nothing(opened):
    shown = opened(class_result(NASTY, LABELS, SCORES), title="harmless")
    assert shown.browser.title == "harmless"
    assert shown.texts("#images td.name")[0].startswith("</script><img src=x")
    shown.one(".thumb").click()
    assert shown.one("#viewer-name").text.startswith("</script><img src=x")


def test_a_thousand_images_come_in_pages(opened):
    shown = opened(class_result("x", [0, 1] * 500, [i % 7 for i in range(1000)]))
    assert len(shown.names) == 50
    assert shown.one("#page").text == "1 of 20"
    first = shown.names
    shown.one("#next").click()
    assert shown.one("#page").text == "2 of 20"
    assert not set(first) & set(shown.names)


def test_nothing_is_wider_than_a_narrow_window(opened):
    shown = opened(class_result("bolt" * 20, LABELS, SCORES), class_result("nut", [0, 1, None], [0.2, 0.9, 0.5]))
    window = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    shown.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    try:
        assert shown.browser.execute_script("return document.documentElement.scrollWidth") <= 400
        shown.choose("#class", "nut")
        legend = shown.one("p.colours > span")
        assert len(legend.text.splitlines()) == 1 and legend.rect["height"] < 30  # its bar between its two numbers
        shown.choose("#class", "all")
        facts = shown.browser.find_elements("css selector", "#images tbody tr:first-child td")
        assert all(fact.rect["x"] >= 0 and fact.rect["x"] + fact.rect["width"] <= 400 for fact in facts)
    finally:
        shown.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
