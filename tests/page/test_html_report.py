"""What stands in report.html; test_report_in_browser.py is about what it does."""

import base64
import hashlib
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from page import page as html_report
from page import thumbnails
from page.page import HtmlReport
from tests.report_pages import NASTY, Sample, add_images, class_result, to_picture, write_page
from utils.errors import UserError
from utils.evaluation_types import ImageMap, ImageScore
from utils.results import Run


class Page(HTMLParser):
    """The elements of a page, and the text of those that the tests look at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.open = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = dict(attrs).get("type", tag) if tag == "script" else tag

    def handle_data(self, data):
        if self.open in ("title", "style", "module", "application/json", "pre", "h1") and data.strip():
            self.texts[self.open] = self.texts.get(self.open, "") + data

    def handle_endtag(self, tag):
        self.open = ""

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self) -> dict:
        return json.loads(self.texts["application/json"])


def report_of(folder: Path, images: int, classes: int = 1, picture: Callable = to_picture) -> HtmlReport:
    return HtmlReport(Run(folder=folder, title="", images=images, classes=classes, description={}), picture)


def test_page_holds_every_image_with_its_scores_and_pictures(tmp_path):
    results = [class_result("bolt", [0, 1, None], [0.25, 1.5, 0.5]), class_result("nut", [0, 1], [0.5, 0.75])]
    data = Page(write_page(tmp_path, results)).data
    assert [c["name"] for c in data["classes"]] == ["bolt", "nut"]
    assert data["threshold"] is None
    assert data["mean"] == {"auroc_px": None, "auroc_sp": 1.0}
    row = data["images"][1]
    assert row.items() >= ImageScore("bolt/1.png", "bolt", 1, 1.5, 0.5, 0.25)._asdict().items()
    assert "p_value" not in row
    pictures = [image["picture"] for image in data["images"]]
    for picture in pictures:
        for kind in ("image", "heat"):
            assert Image.open(io.BytesIO(base64.b64decode(picture[kind]))).size == (48, 48)
    assert pictures[0]["outline"] == ""
    assert pictures[1]["outline"].startswith("M")
    assert pictures[2]["outline"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_curves_stand_beside_the_measures_and_are_absent_where_those_are_undefined(tmp_path):
    results = [class_result("bolt", [0, 1, 0], [0, 2, 1]), class_result("nut", [1, 1], [0.5, 0.75])]
    first, second = Page(write_page(tmp_path, results)).data["classes"]
    assert first["image_curves"]["roc"] == [[0, 0, 0.5, 1], [0, 1, 1, 1]]
    assert first["image_curves"]["pro"] is None
    assert first["pixel_curves"] is None
    assert second["image_curves"] is None
    assert second["notes"] == ["no image measures: a label is missing"]


def test_images_know_how_wrongly_they_are_ranked(tmp_path):
    result = class_result("bolt", [0, 0, 1, 1, None], [0, 2, 1, 3, 2.5])
    rows = Page(write_page(tmp_path, [result])).data["images"]
    assert [row["misranked"] for row in rows] == [0, 0.5, 0.5, 0, None]


def test_predictions_have_p_values_and_a_threshold(tmp_path):
    result = class_result("photos", [None, None], [0.25, 0.5])
    path = write_page(tmp_path, [result], threshold=0.4, more=[{"p_value": 0.5}, {"p_value": 0.01}])
    data = Page(path).data
    assert data["threshold"] == 0.4
    assert [row["p_value"] for row in data["images"]] == [0.5, 0.01]


def test_names_cannot_leave_their_place(tmp_path):
    name = NASTY + "\udc80"  # the last as of a file name that is not valid UTF-8
    path = write_page(tmp_path, [class_result(name, [0, 1], [0, 1])], title=NASTY)
    page = Page(path)
    assert page.texts["title"] == page.texts["h1"] == NASTY
    assert json.loads(page.texts["pre"]) == {"note": NASTY}
    assert page.data["classes"][0]["name"] == name
    assert page.data["images"][0]["image_path"] == f"{name}/0.png"
    assert not page.named("img")
    assert len(page.named("script")) == 2


def test_page_asks_for_nothing_and_runs_its_own_script_only(tmp_path):
    page = Page(write_page(tmp_path, [class_result("bolt", [0, 1], [0, 1])]))
    sources = [attributes[key] for _, attributes in page.tags for key in ("src", "href", "action") if key in attributes]
    assert sources == ["data:,"]
    assert "@import" not in page.texts["style"]
    assert "url(" not in page.texts["style"]
    policy = next(m["content"] for m in page.named("meta") if "http-equiv" in m)
    digests = (hashlib.sha256(page.texts[kind].encode()).digest() for kind in ("style", "module"))
    style, script = (f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    rest = [f"style-src {style}", f"script-src {script}"]
    assert policy.split("; ") == ["default-src 'none'", "img-src data:", *rest]
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on") or key == "style"]


def test_a_thousand_images_of_noise_stay_below_30_mb(tmp_path):
    labels, scores = [0, 1] * 500, np.linspace(0, 1, 1000)
    results = [class_result("x", labels, scores)]
    path = write_page(tmp_path, results, size=256, noise=True)
    assert path.stat().st_size < 30e6
    assert all("picture" in row for row in Page(path).data["images"])


def test_speckled_masks_and_maps_of_noise_take_their_share_of_30_mb(tmp_path):
    """Of the page with the most pictures, some, which may take no more than their part of its bytes."""
    rng, shown, most = np.random.default_rng(0), 20, thumbnails.MAX_PICTURES
    page, result = report_of(tmp_path, most), class_result("x", [1] * shown, range(shown))
    for image in result.images:
        pixels, scores = torch.from_numpy(rng.random((3, 200, 200), np.float32)), rng.random((200, 200), np.float32)
        sample = Sample(image.image_path, "", image.class_name, image.label)
        page.image(ImageMap(sample, pixels, scores, scores < 0.3, 0.5))
    page.class_done(result)
    assert sum(map(len, page.rows)) < 29e6 * shown / most
    assert all(json.loads(row)["picture"]["outline"] for row in page.rows)


def test_too_many_images_leave_pictures_to_those_ranked_worst(tmp_path, monkeypatch):
    monkeypatch.setattr(html_report, "MAX_PICTURES", 4)
    wrong = class_result("x", [0, 0, 0, 1, 1, 1], [0, 5, 1, 6, 2, 7])  # of which 1 and 4 are misranked
    unlabelled = class_result("y", [None] * 6, range(6))
    rows = Page(write_page(tmp_path, [wrong, unlabelled])).data["images"]
    assert [i for i, row in enumerate(rows) if "picture" in row] == [1, 4, 10, 11]


def test_pictures_are_smaller_the_more_there_are():
    sides = [thumbnails.limits(images)[0] for images in (1, 100, 1000, 100_000)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == max(thumbnails.IMAGE_SIDES)
    assert sides[-1] >= min(thumbnails.IMAGE_SIDES)


def test_pictures_of_the_next_class_may_come_before_a_class_is_measured(tmp_path):
    x, y, rows = class_result("x", [0, 1], [0, 1]), class_result("y", [1, 1], [2, 3]), []
    for early in (False, True):
        report = report_of(tmp_path, images=4, classes=2)
        add_images(report, x)
        if early:
            add_images(report, y, size=40)
        report.class_done(x)
        if not early:
            add_images(report, y, size=40)
        report.class_done(y)
        rows.append(report.rows)
    assert rows[0] == rows[1]
    assert len({json.loads(row)["picture"]["heat"] for row in rows[0]}) == 4


def test_as_many_pictures_as_scores_are_needed(tmp_path):
    report = report_of(tmp_path, 2)
    with pytest.raises(ValueError):
        report.class_done(class_result("x", [0, 1], [0, 1]))


def test_a_picture_that_cannot_be_made_is_told_and_concerns_its_own_class_alone(tmp_path):
    """Also where it is noticed when images of the next class are there already."""
    results = [class_result(name, [0, 1], [0, 1]) for name in "xyz"]

    def unreadable(image: ImageMap) -> np.ndarray:
        if image.sample.img_path in ("y/1.png", "z/0.png", "z/1.png"):
            raise UserError(f"cannot read {image.sample.img_path}")
        return to_picture(image)

    report = report_of(tmp_path, 6, 3, unreadable)
    report.most = 100  # noticed late
    for result in results:
        add_images(report, result)
    report.class_done(results[0])
    with pytest.raises(UserError, match=r"cannot read y/1\.png"):
        report.class_done(results[1])
    report.finish()
    data = Page(tmp_path / "report.html").data
    assert [image["image_path"] for image in data["images"]] == ["x/0.png", "x/1.png"]


def test_a_picture_that_cannot_be_made_is_told_before_many_more_are_taken(tmp_path):
    def unreadable(image: ImageMap) -> np.ndarray:
        raise UserError(f"cannot read {image.sample.img_path}")

    report = report_of(tmp_path, 100, 1, unreadable)
    with pytest.raises(UserError, match=r"cannot read x/0\.png"):
        add_images(report, class_result("x", [0] * 100, range(100)))
    assert len(report.thumbnails) == report.most + 1
