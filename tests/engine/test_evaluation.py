"""The evaluation loop, with a detector whose maps are known."""

import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from engine import class_maps, evaluation
from engine.evaluation import evaluate
from tests.report_pages import Sample
from utils.errors import UserError
from utils.evaluation_types import ClassMaps, ClassResult, ImageMap, Prediction, Writer
from utils.measures.bootstrap import Bootstrap
from utils.runtime import Stopwatch

SIZE = 8


@dataclass(frozen=True)
class Batch:
    indices: range
    images: torch.Tensor
    masks: torch.Tensor
    has_mask: torch.Tensor


class FirstChannel:
    """Takes the image's first channel for its map, and the second's mean for its probability."""

    def predict(self, images: torch.Tensor, class_names: Sequence[str]) -> Prediction:
        assert len(images) == len(class_names)
        return Prediction(maps=images[:, 0].clone(), text_prob=images[:, 1].mean(dim=(1, 2)))

    def image_scores(self, text_prob: np.ndarray, map_max: np.ndarray, map_min: np.ndarray) -> np.ndarray:
        return text_prob + map_max - map_min


def make_samples(kinds: dict[str, str]) -> list[Sample]:
    """Samples of classes given by letters: normal, anomalous with mask, without (x), unlabelled (?)."""
    samples = []
    for name, letters in kinds.items():
        for i, letter in enumerate(letters):
            mask_path = f"{name}/{i}_mask.png" if letter == "a" else ""
            anomaly = {"n": 0, "a": 1, "x": 1, "?": None}[letter]
            samples.append(Sample(f"{name}/{i}.png", mask_path, name, anomaly))
    return samples


def make_images(samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(len(samples), 3, SIZE, SIZE, generator=generator)
    masks = torch.zeros(len(samples), SIZE, SIZE, dtype=torch.bool)
    for i, sample in enumerate(samples):
        if sample.mask_path:
            masks[i, 2 : 3 + i % 4, 3:6] = True
    has_mask = torch.tensor([bool(sample.mask_path) or sample.anomaly == 0 for sample in samples])
    return images, masks, has_mask


def run(samples, batch_size=3, detector=None, **options):
    tensors = make_images(samples)
    batches = [
        Batch(range(len(samples))[i : i + batch_size], *(tensor[i : i + batch_size] for tensor in tensors))
        for i in range(0, len(samples), batch_size)
    ]
    common = {"device": torch.device("cpu"), "stopwatch": Stopwatch()}
    return evaluate(detector or FirstChannel(), batches, samples, **common, **options), tensors


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_measures_are_those_of_each_class_whatever_the_batch(batch_size):
    samples = make_samples({"bolt": "nnaaa", "nut": "na"})
    results, (images, masks, _) = run(samples, batch_size)
    assert [result.name for result in results] == ["bolt", "nut"]
    for result, part in zip(results, (slice(0, 5), slice(5, 7)), strict=True):
        truth, scores = masks[part].numpy().ravel(), images[part, 0].numpy().ravel()
        assert result.measures["auroc_px"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
        assert result.measures["ap_px"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
        labels = [sample.anomaly for sample in samples[part]]
        image_scores = [image.score for image in result.images]
        assert result.measures["auroc_sp"] == pytest.approx(roc_auc_score(labels, image_scores), abs=1e-12)
        assert result.notes == []


def test_rows_hold_each_images_scores():
    samples = make_samples({"bolt": "na?"})
    (result,), (images, _, _) = run(samples)
    for image, sample, pixels in zip(result.images, samples, images, strict=True):
        assert (image.image_path, image.class_name, image.label) == (sample.img_path, "bolt", sample.anomaly)
        assert image.map_max == pytest.approx(pixels[0].max().item())
        assert image.text_prob == pytest.approx(pixels[1].mean().item())
        assert image.score == pytest.approx(image.text_prob + image.map_max - pixels[0].min().item())


def test_undefined_measures_are_none_and_a_note_says_why():
    results, _ = run(make_samples({"no_masks": "nxx", "only_bad": "aa", "unlabelled": "???", "good": "nn"}))
    by_name = {result.name: result for result in results}
    assert by_name["no_masks"].measures["auroc_px"] is None
    assert by_name["no_masks"].measures["auroc_sp"] is not None
    assert any("no pixel measures" in note for note in by_name["no_masks"].notes)
    assert by_name["only_bad"].measures["auroc_px"] is not None
    assert by_name["only_bad"].measures["auroc_sp"] is None
    assert any("labelled normal" in note for note in by_name["only_bad"].notes)
    assert set(by_name["unlabelled"].measures.values()) == {None}
    assert set(by_name["good"].measures.values()) == {None}


def test_images_without_a_known_mask_stay_out_of_the_pixel_measures():
    samples = make_samples({"bolt": "naxa"})
    (result,), (images, masks, has_mask) = run(samples)
    truth, scores = masks[has_mask].numpy().ravel(), images[has_mask, 0].numpy().ravel()
    assert result.measures["auroc_px"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert any(note.startswith("1 image") for note in result.notes)


def test_defects_whose_masks_are_empty_at_the_size_of_the_maps_are_told(caplog):
    samples = make_samples({"bolt": "naxa", "nut": "na"})
    images, masks, has_mask = make_images(samples)
    masks[3] = False
    batch = Batch(range(6), images, masks, has_mask)
    results = evaluate(FirstChannel(), [batch], samples, device=torch.device("cpu"), stopwatch=Stopwatch())
    said = "masks of which nothing is left at 8 x 8 px, so that these defects count as normal (1): bolt/3_mask.png"
    assert [said in result.notes for result in results] == [True, False]
    assert [record.getMessage() for record in caplog.records] == [said]


def test_writers_see_every_map_before_the_measures_use_them_up():
    samples = make_samples({"bolt": "nna", "nut": "aa"})
    maps: dict[str, np.ndarray] = {}
    groups: list[tuple] = []
    results: list[ClassResult] = []

    class Keep(Writer):
        needs_images = needs_maps = True

        def image(self, image: ImageMap) -> None:
            maps[image.sample.img_path] = image.anomaly_map.copy()

        def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
            groups.append((maps.samples[0].cls_name, maps.maps.copy(), maps.masks.copy(), scores.copy()))

        def class_done(self, result: ClassResult) -> None:
            results.append(result)

    found, (images, masks, _) = run(samples, writers=[Keep()])
    assert results == found
    assert list(maps) == [sample.img_path for sample in samples]
    for sample, pixels in zip(samples, images, strict=True):
        np.testing.assert_array_equal(maps[sample.img_path], pixels[0])
    assert [group[0] for group in groups] == ["bolt", "nut"]
    np.testing.assert_array_equal(groups[0][1], images[:3, 0])
    np.testing.assert_array_equal(groups[1][2], masks[3:])


def test_legacy_pro_is_a_column_of_its_own():
    with_column, _ = run(make_samples({"bolt": "na"}), legacy_pro=True)
    without, _ = run(make_samples({"bolt": "na"}))
    assert with_column[0].measures["aupro_200"] is not None
    assert "aupro_200" not in without[0].measures
    assert with_column[0].measures["aupro"] == without[0].measures["aupro"]


def test_draws_of_a_class_depend_on_no_other_class():
    both, _ = run(make_samples({"bolt": "nnaaa", "nut": "nnaa"}), bootstrap=Bootstrap(20))
    alone, _ = run(make_samples({"bolt": "nnaaa"}), bootstrap=Bootstrap(20))
    assert alone[0].measures == both[0].measures
    assert list(alone[0].draws) == list(both[0].draws) == list(alone[0].measures)
    for key, values in alone[0].draws.items():
        assert values.shape == (20,)
        np.testing.assert_array_equal(values, both[0].draws[key])
    assert not np.array_equal(both[0].draws["auroc_px"], both[1].draws["auroc_px"])


def test_scores_known_beforehand_take_the_place_of_the_detectors():
    samples = make_samples({"bolt": "nnaa"})
    known = {sample.img_path: float(i) for i, sample in enumerate(samples)}
    (result,), _ = run(samples, image_scores=known)
    assert [image.score for image in result.images] == [0, 1, 2, 3]
    assert result.measures["auroc_sp"] == 1


def test_a_detector_without_probabilities_has_none_in_its_rows():
    class MapsAlone(FirstChannel):
        def predict(self, images, class_names):
            return Prediction(maps=images[:, 0].clone(), text_prob=None)

        def image_scores(self, text_prob, map_max, map_min):
            assert np.isnan(text_prob).all()
            return map_max

    (result,), (images, _, _) = run(make_samples({"bolt": "na"}), detector=MapsAlone())
    assert [image.text_prob for image in result.images] == [None, None]
    assert [image.score for image in result.images] == images[:, 0].amax((1, 2)).tolist()


def test_a_map_of_another_size_than_its_mask_is_refused_with_the_image():
    class Shrinking(FirstChannel):
        def predict(self, images, class_names):
            prediction = super().predict(images, class_names)
            size = 1 if len(images) < 3 else SIZE  # one that would be spread over the whole map
            return Prediction(prediction.maps[:, :size, :size], prediction.text_prob)

    with pytest.raises(UserError, match=r"bolt/3\.png is 1 x 1 pixels high and wide, its mask 8 x 8"):
        run(make_samples({"bolt": "nnaa"}), detector=Shrinking())


def test_masks_of_several_sizes_are_kept_without_the_batch_that_they_came_in():
    samples, seen = make_samples({"bolt": "naa"}), []
    masks = [torch.ones(1, *shape, dtype=torch.bool) for shape in ((8, 8), (12, 5), (7, 9))]
    batches = [Batch([i], torch.ones(1, 2, *mask.shape[1:]), mask, [True]) for i, mask in enumerate(masks)]

    class Watching(Writer):
        needs_maps = True

        def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
            seen.extend(maps.masks)

    options = {"device": torch.device("cpu"), "stopwatch": Stopwatch(), "writers": [Watching()]}
    evaluate(FirstChannel(), batches, samples, **options)
    assert [mask.shape for mask in seen] == [(8, 8), (12, 5), (7, 9)]
    assert not any(np.shares_memory(one, mask.numpy()) for one, mask in zip(seen, masks, strict=True))


@pytest.mark.parametrize("bootstrap", [None, Bootstrap(20)])
def test_maps_of_several_sizes_in_a_class_are_measured_pixel_by_pixel(bootstrap):
    samples, rng = make_samples({"bolt": "nnaxa"}), np.random.default_rng(0)
    shapes = [(8, 8), (8, 8), (12, 5), (7, 9), (30, 20)]
    maps = [rng.random(shape, np.float32) for shape in shapes]
    masks = [np.zeros(shape, bool) for shape in shapes]
    for mask in (masks[2], masks[4]):
        mask[2:4, 1:3] = mask[6:, 4] = True
    has_mask = [sample.anomaly == 0 or bool(sample.mask_path) for sample in samples]
    batches = [
        Batch([i], torch.from_numpy(maps[i]).expand(1, 2, -1, -1), torch.from_numpy(masks[i])[None], [has_mask[i]])
        for i in range(len(samples))
    ]
    options = {"device": torch.device("cpu"), "stopwatch": Stopwatch(), "bootstrap": bootstrap}
    (result,) = evaluate(FirstChannel(), batches, samples, **options)
    known = [i for i in range(len(samples)) if has_mask[i]]
    scores, truth = (np.concatenate([one[i].ravel() for i in known]) for one in (maps, masks))
    assert result.measures["auroc_px"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert result.measures["ap_px"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    regions = [(i, *where) for i in (2, 4) for where in ((slice(2, 4), slice(1, 3)), (slice(6, None), 4))]
    overlaps, rates = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        rates.append(np.mean(scores[~truth] >= threshold))
        overlaps.append(np.mean([(maps[i][rows, columns] >= threshold).mean() for i, rows, columns in regions]))
    inside = np.array(rates) < 0.3
    rates, overlaps = np.array(rates)[inside], np.array(overlaps)[inside]
    area = np.trapezoid(np.append(overlaps, overlaps[-1]), np.append(rates, 0.3))
    assert result.measures["aupro"] == pytest.approx(area / 0.3, abs=1e-3)
    assert "the maps are of several sizes: in the pixel measures a larger image counts for more" in result.notes
    if bootstrap:
        assert all(np.isfinite(values).all() for values in result.draws.values())
        assert np.ptp(result.draws["aupro"]) > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused_with_the_image(value):
    class Broken(FirstChannel):
        def predict(self, images, class_names):
            prediction = super().predict(images, class_names)
            prediction.maps[-1, 4, 4] = value
            return prediction

    with pytest.raises(UserError, match=r"bolt/2\.png.*not finite"):
        run(make_samples({"bolt": "nna"}), detector=Broken())


def test_a_class_is_measured_while_the_next_is_predicted(monkeypatch):
    """Each waits for the other, which only works at the same time."""
    predicting, measuring, measure_class, names = threading.Event(), threading.Event(), class_maps.measure_class, []

    def measure(*arguments, **options):
        if not measuring.is_set():
            measuring.set()
            assert predicting.wait(60)
        names.append(threading.current_thread().name)
        return measure_class(*arguments, **options)

    class Waiting(FirstChannel):
        def predict(self, images, class_names):
            if class_names[0] == "nut":
                assert measuring.wait(60)
                predicting.set()
            return super().predict(images, class_names)

    monkeypatch.setattr(class_maps, "measure_class", measure)
    samples = make_samples({"bolt": "na", "nut": "na"})
    found, _ = run(samples, 2, Waiting())
    monkeypatch.undo()
    expected, _ = run(samples, 2)
    assert [result.measures for result in found] == [result.measures for result in expected]
    assert len(names) == 2
    assert threading.main_thread().name not in names


def test_a_class_is_written_between_two_images_of_the_next_once_it_is_measured(monkeypatch):
    """So that a run which is killed has it, however long the next class takes."""
    measured, set_result, written = threading.Event(), Future.set_result, []
    samples = make_samples({"bolt": "na", "nut": "nnna"})
    tensors = make_images(samples)

    def finish(future: Future, result: ClassResult) -> None:
        set_result(future, result)
        measured.set()

    class Watching(Writer):
        def class_done(self, result: ClassResult) -> None:
            written.append(result.name)

    def batches():
        for i in range(len(samples)):
            if i == 3:
                assert measured.wait(60)
            assert written == ["bolt"] or i < 4
            yield Batch([i], *(tensor[i : i + 1] for tensor in tensors))

    monkeypatch.setattr(Future, "set_result", finish)
    common = {"device": torch.device("cpu"), "stopwatch": Stopwatch()}
    evaluate(FirstChannel(), batches(), samples, writers=[Watching()], **common)
    assert written == ["bolt", "nut"]


def test_several_classes_are_measured_at_once_where_there_are_cores_and_written_in_their_order(monkeypatch):
    """The first class's measures wait for the second's."""
    second, measure_class = threading.Event(), class_maps.measure_class

    def measure(rows, *arguments, **options):
        if rows[0].class_name == "bolt":
            assert second.wait(60)
        result = measure_class(rows, *arguments, **options)
        if rows[0].class_name == "nut":
            second.set()
        return result

    class Watching(Writer):
        def class_done(self, result: ClassResult) -> None:
            written.append(result.name)

    samples, written = make_samples(dict.fromkeys(("bolt", "nut", "screw", "washer"), "na")), []
    expected, _ = run(samples, 2)
    monkeypatch.setattr(evaluation, "free_cores", lambda: 3)
    monkeypatch.setattr(class_maps, "measure_class", measure)
    found, _ = run(samples, 2, writers=[Watching()])
    assert [result.measures for result in found] == [result.measures for result in expected]
    assert written == ["bolt", "nut", "screw", "washer"]


def test_large_classes_are_measured_one_by_one(monkeypatch):
    at_work, most, measure_class = [], [], class_maps.measure_class

    def measure(rows, *arguments, **options):
        at_work.append(rows[0].class_name)
        time.sleep(0.01)
        most.append(len(at_work))
        result = measure_class(rows, *arguments, **options)
        at_work.pop()
        return result

    monkeypatch.setattr(evaluation, "free_cores", lambda: 4)
    monkeypatch.setattr(class_maps, "HELD_BYTES", 1000)  # less than two classes of two images here
    monkeypatch.setattr(class_maps, "measure_class", measure)
    run(make_samples(dict.fromkeys(map(str, range(20)), "na")), 2)
    assert set(most) == {1}


def test_maps_are_written_while_the_next_class_is_predicted_where_a_writer_allows_it():
    predicting, written = threading.Event(), []

    class Pictures(Writer):
        needs_maps = maps_in_thread = True

        def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
            assert maps.samples[0].cls_name == "nut" or predicting.wait(60)
            written.append((maps.samples[0].cls_name, maps.maps.copy()))

        def class_done(self, result: ClassResult) -> None:
            assert written[-1][0] == result.name

    class Predicting(FirstChannel):
        def predict(self, images, class_names):
            if class_names[0] == "nut":
                predicting.set()
            return super().predict(images, class_names)

    samples = make_samples({"bolt": "na", "nut": "na"})
    _, (images, *_) = run(samples, 2, Predicting(), writers=[Pictures()])
    for (_, maps), own in zip(written, images.split(2), strict=True):
        np.testing.assert_array_equal(maps, own[:, 0])


def test_maps_of_two_classes_are_held_at_most():
    held, alive = [], []

    class Watching(Writer):
        needs_maps = True

        def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
            alive.append(sum(one() is not None for one in held))
            held.append(weakref.ref(maps.maps))

    run(make_samples(dict.fromkeys(("bolt", "nut", "screw", "washer"), "na")), writers=[Watching()])
    assert alive == [0, 0, 0, 0]  # when the maps of the next one are there


def test_an_error_of_the_measures_ends_the_run_as_it_is(monkeypatch):
    done, seen = [], []

    def fail(rows, *_, **__):
        raise UserError(f"{rows[0].class_name} cannot be measured")

    class Watching(Writer):
        needs_images = True

        def image(self, image: ImageMap) -> None:
            seen.append(image.sample.cls_name)

        def class_done(self, result: ClassResult) -> None:
            done.append(result)

    monkeypatch.setattr(evaluation, "free_cores", lambda: 1)
    monkeypatch.setattr(class_maps, "measure_class", fail)
    with pytest.raises(UserError, match=r"^bolt cannot be measured$"):
        run(make_samples({"bolt": "na", "nut": "na", "screw": "na"}), writers=[Watching()])
    assert not done
    assert "screw" not in seen


def test_no_class_is_written_after_one_that_cannot_be_measured(monkeypatch):
    written, measure_class = [], class_maps.measure_class

    def measure(rows, *arguments, **options):
        if rows[0].class_name == "nut":
            raise UserError("nut cannot be measured")
        return measure_class(rows, *arguments, **options)

    class Watching(Writer):
        def class_done(self, result: ClassResult) -> None:
            written.append(result.name)

    monkeypatch.setattr(evaluation, "free_cores", lambda: 4)
    monkeypatch.setattr(class_maps, "measure_class", measure)
    with pytest.raises(UserError, match=r"^nut cannot be measured$"):
        run(make_samples(dict.fromkeys(("bolt", "nut", "screw", "washer"), "na")), writers=[Watching()])
    assert written == ["bolt"]


def test_an_error_in_a_class_keeps_the_one_before():
    done = []

    class Failing(FirstChannel):
        def predict(self, images, class_names):
            if class_names[0] == "nut":
                raise UserError("nut cannot be predicted")
            return super().predict(images, class_names)

    class Watching(Writer):
        def class_done(self, result: ClassResult) -> None:
            done.append(result.name)

    with pytest.raises(UserError, match=r"^nut cannot be predicted$"):
        run(make_samples({"bolt": "na", "nut": "na"}), 2, Failing(), writers=[Watching()])
    assert done == ["bolt"]


def test_batches_on_their_way_from_a_device_change_nothing(monkeypatch):
    samples = make_samples({"bolt": "nnaaa", "nut": "na"})
    expected, _ = run(samples, 2)
    monkeypatch.setitem(class_maps.AHEAD, "cpu", 2)
    found, _ = run(samples, 2)
    for one, other in zip(found, expected, strict=True):
        assert (one.name, one.images, one.measures) == (other.name, other.images, other.measures)
