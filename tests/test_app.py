"""app.py as a user starts it, and its page in a browser, from the upload to the verdict.

CLIP_AD_SCREENSHOT=docs/app.png python -m pytest tests/test_app.py -k example -n 0    # takes the picture in the docs
"""

import io
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import app
from demo.draw import draw_examples
from engine import app_page, installation
from engine.prediction_options import PageOptions
from tests.browser import chromium
from tests.forked import free_port
from utils.arguments import options_from
from utils.errors import UserError

browser = pytest.fixture(chromium, scope="module")
PATIENCE = 120  # seconds


@pytest.mark.parametrize("host, reason", [("127.0.0.1", "Address already in use"), ("no such host", "")])
def test_a_port_in_use_and_a_host_that_is_none_are_one_sentence(host, reason):
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--host {host} --port {port}: {reason}.*; choose another") as caught:
            app.main(["--host", host, "--port", str(port)])
    assert "\n" not in str(caught.value)


def test_a_missing_gradio_is_one_sentence(monkeypatch):
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="the page needs gradio: pip install -r requirements-extras"):
        app.main([])


def test_what_is_wrong_with_the_options_is_said_before_there_is_a_page(tmp_path):
    pytest.importorskip("gradio")
    with pytest.raises(UserError, match=r"there is no .*gone\.pth"):
        app.main(["--method", "sdp_plus", "--checkpoint", str(tmp_path / "gone.pth"), "--port", str(free_port())])


class Page:
    """What a user sees and does."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get(address)
        self.wait(lambda: self.all("#inspect"))

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        return " ".join(element.text for element in self.all(selector))

    def wait(self, happens: Any) -> None:
        ui = pytest.importorskip("selenium.webdriver.support.ui")
        stale = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException
        ui.WebDriverWait(self.browser, PATIENCE, ignored_exceptions=[stale]).until(lambda _: happens())

    def upload(self, place: str, paths: Sequence[Path]) -> None:
        self.all(f"{place} input[type=file]")[0].send_keys("\n".join(map(str, paths)))
        self.wait(lambda: all(path.stem in self.text(place) for path in paths))

    def size_of_picture(self) -> list[int]:
        script = "const one = document.querySelector('#large img'); return [one.naturalWidth, one.naturalHeight]"
        return self.browser.execute_script(script)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> app_page.Example:
    return next(draw_examples(tmp_path_factory.mktemp("examples")))


@pytest.fixture(scope="module")
def address(drawn, tmp_path_factory) -> Iterator[str]:
    """The page with an example, as it is served."""
    pytest.importorskip("gradio")
    from engine.inspection import Inspector

    options = options_from(PageOptions, {"device": "cpu", "cache_dir": tmp_path_factory.mktemp("cache")})
    page = app_page.build_page(Inspector(options), [drawn])
    app_page.launch(page, "127.0.0.1", free_port(), drawn[0][0].parent)
    yield page.local_url
    page.close()


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    """The page in a browser, of which nothing may go wrong and nothing be asked of other machines."""
    shown = Page(browser, address)
    yield shown
    script = "return performance.getEntriesByType('resource').map(one => one.name)"
    assert [name for name in browser.execute_script(script) if not name.startswith((address, "data:", "blob:"))] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_from_an_upload_to_the_verdict(page, drawn):
    page.upload("#pictures", drawn[0])
    page.upload("#normal", drawn[2])
    page.all("#object textarea, #object input")[0].send_keys("washer")
    page.all("#inspect")[0].click()
    page.wait(lambda: "are anomalous" in page.text("#verdict"))
    assert page.text("#verdict").startswith("2 of 3 are anomalous (")
    assert "a false-alarm rate of 0.05 needs 39 normal images" in page.text("#notes")
    page.wait(lambda: page.size_of_picture() == [256, 256])
    assert "washer_broken_0.png: anomalous" in page.text("#large")
    assert "1: peak" in page.text("#large")
    page.wait(lambda: "washer_good_0.png" in page.text("#table"))
    page.all("#gallery button.thumbnail-item, #gallery .gallery-item button")[2].click()
    page.wait(lambda: "washer_good_0.png: normal" in page.text("#large"))


def test_an_example_is_inspected_by_a_click(page):
    next(one for one in page.all(".gallery-item") if one.text == "washer").click()
    page.wait(lambda: page.text("#verdict").startswith("2 of 3 are anomalous ("))
    assert page.text("#notes") == ""
    page.wait(lambda: "washer_good_0.png" in page.text("#table"))
    if path := os.environ.get("CLIP_AD_SCREENSHOT"):
        page.browser.set_window_size(1300, 1330)
        page.browser.execute_async_script("scrollTo(0, 0); setTimeout(arguments[0], 5000)")
        Image.open(io.BytesIO(page.browser.get_screenshot_as_png())).quantize(255).save(path, optimize=True)


def test_a_broken_file_is_one_sentence(page, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    page.upload("#pictures", [tmp_path / "broken.png"])
    page.all("#inspect")[0].click()
    page.wait(lambda: page.text("#verdict") == "It could not be read")
    assert page.text("#notes") == "broken.png is not an image, or of a kind that cannot be read"


def test_a_question_without_a_picture_is_one_sentence(page):
    page.all("#inspect")[0].click()
    page.wait(lambda: "there are no pictures: upload one or several" in page.text("body"))
