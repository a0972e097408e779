"""`--submission`: the files, their form and size, and the threshold that they are marked by."""

import json
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

import engine.options
import test_sdp
from datasets.meta import Entry
from engine.submission import SubmissionWriter
from tests import small_data
from utils.arguments import parse
from utils.errors import UserError
from utils.evaluation_types import ClassMaps

PRIVATE = ["--dataset", "mvtec_ad2", "--protocol", "private", "--model", "demo", "--num_workers", "0"]
NAMES = ["test_private/000_regular", "test_private/001_regular", "test_private_mixed/000_mixed"]


@pytest.fixture
def data(tmp_path) -> Path:
    """A class of three normal images to validate on and three unlabelled ones, 90 x 70 pixels."""
    rng, root = np.random.default_rng(0), tmp_path / "ad2"
    for name in [*(f"validation/good/{i:03}_regular" for i in range(3)), *NAMES]:
        small_data.write(root / "can" / f"{name}.png", rng.integers(60, 120, (70, 90, 3), dtype=np.uint8))
    return root


def run(data: Path, out: Path, *options: str) -> dict:
    test_sdp.main([*PRIVATE, "--data_path", str(data), "--save_path", str(out), "--submission", *options])
    return json.loads((out / "results.json").read_text())


def submitted(out: Path, folder: str, suffix: str) -> list[str]:
    top = out / "submission" / folder
    return sorted(path.relative_to(top / "can").as_posix().removesuffix(suffix) for path in top.rglob("*.*"))


def test_the_unlabelled_images_have_maps_and_marks_at_their_own_size(data, tmp_path):
    out = tmp_path / "out"
    results = run(data, out, "--save_maps")
    assert set(results["mean"].values()) == {None}
    assert submitted(out, "anomaly_images", ".tiff") == submitted(out, "anomaly_images_thresholded", ".png") == NAMES
    normal = [np.load(path).max() for path in (out / "maps" / "can" / "validation").rglob("*.npy")]
    for name in NAMES:
        scores = tifffile.imread(out / "submission" / "anomaly_images" / "can" / f"{name}.tiff")
        own = cv2.resize(np.load(out / "maps" / "can" / f"{name}.png.npy"), (90, 70), interpolation=cv2.INTER_LINEAR)
        assert (scores.dtype, scores.shape) == (np.float16, (70, 90))
        assert (scores == own.astype(np.float16)).all()
        with Image.open(out / "submission" / "anomaly_images_thresholded" / "can" / f"{name}.png") as image:
            assert image.mode == "L"
            assert (np.asarray(image) == 255 * (own > max(normal))).all()  # the least rate of three images: 1 in 4


def test_a_threshold_may_be_given(data, tmp_path):
    run(data, tmp_path / "all", "--submission_threshold", "-100")
    marked = tmp_path / "all" / "submission" / "anomaly_images_thresholded" / "can" / f"{NAMES[0]}.png"
    assert np.asarray(Image.open(marked)).min() == 255
    with pytest.raises(UserError, match="other settings, submission_threshold"):
        run(data, tmp_path / "all")
    with pytest.raises(SystemExit):
        parse(engine.options.TestOptions, "", ["--dataset", "mvtec_ad2", "--submission_threshold", "1"])


def test_a_run_goes_on_to_write_what_is_wanted_now_or_gone(data, tmp_path):
    out = tmp_path / "out"
    test_sdp.main([*PRIVATE, "--data_path", str(data), "--save_path", str(out)])
    assert not (out / "submission").exists()
    run(data, out, "--resume")
    (out / "submission" / "anomaly_images" / "can" / f"{NAMES[1]}.tiff").unlink()
    run(data, out, "--resume")
    assert submitted(out, "anomaly_images", ".tiff") == NAMES


def test_what_there_is_nothing_to_submit_of_or_to_mark_by_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="has no unlabelled images"):
        other = ["--dataset", "mvtec", "--data_path", str(small_data.make(tmp_path / "mvtec")), "--model", "demo"]
        test_sdp.main([*other, "--save_path", str(tmp_path / "no"), "--num_workers", "0", "--submission"])
    for path in (data / "can" / "validation" / "good").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="can has no normal images to threshold by: give --submission_threshold"):
        run(data, tmp_path / "out")


def test_a_run_that_is_stopped_does_not_write_a_class_to_its_end(data, tmp_path, monkeypatch):
    """As the maps are written in threads, which the process waits for at its end."""
    begun, told, written = threading.Event(), threading.Event(), []

    def slowly(*_: object) -> None:
        begun.set()
        assert told.wait(60)
        written.append(1)

    monkeypatch.setattr(tifffile, "imwrite", slowly)
    entries = [Entry(f"can/{NAMES[0]}.png", "", "can", "", None)] * 100
    maps = ClassMaps(entries, np.zeros((100, 8, 8), np.float32), None, None, None, None, None)
    writer = SubmissionWriter(tmp_path / "out", root=data, threshold=0.0)
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(writer.class_maps, maps, np.zeros(100))
        assert begun.wait(60)
        stopped = pool.submit(writer.finish)
        while not writer.pool._shutdown:
            time.sleep(0.01)
        told.set()
        stopped.result(60)
        count = len(written)
        # What was in the pool's queue is cancelled, what was not yet is refused.
        assert isinstance(writing.exception(60), CancelledError | RuntimeError)
    assert len(written) == count < 100
