"""Pages of made-up images for the tests of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from page.page import PAGE, HtmlReport
from utils.evaluation_types import ClassResult, ImageMap, ImageScore
from utils.measures.bootstrap import Bootstrap
from utils.measures.ranking import ranking_measures
from utils.results import Run

NASTY = "</script><img src=x onerror=\"document.title='broken in'\">'&<!--\u2028"


@dataclass(frozen=True)
class Sample:
    img_path: str
    mask_path: str
    cls_name: str
    anomaly: int | None
    specie_name: str = ""


def to_picture(seen: ImageMap) -> np.ndarray:
    return (255 * seen.image).byte().permute(1, 2, 0).numpy()


def class_result(name: str, labels: Sequence[int | None], scores: Sequence[float]) -> ClassResult:
    images = [
        ImageScore(f"{name}/{i}.png", name, label, float(score), 0.5, 0.25)
        for i, (label, score) in enumerate(zip(labels, scores, strict=True))
    ]
    parts = [np.array([s for label, s in zip(labels, scores, strict=True) if label == kind]) for kind in (0, 1)]
    auroc = ranking_measures(*parts)["auroc"]
    notes = [] if auroc is not None else ["no image measures: a label is missing"]
    return ClassResult(name, images, {"auroc_px": None, "auroc_sp": auroc}, notes)


def add_images(report: HtmlReport, result: ClassResult, *, size: int = 48, noise: bool = False) -> None:
    """Give the report a picture and a map of each image of a class; the anomalous have a mask."""
    rng = np.random.default_rng(0)
    for image in result.images:
        mask = None if image.label is None else np.zeros((size, size), bool)
        if image.label == 1:
            mask[8:20, 8:16] = True
        pixels = rng.random((3, size, size), np.float32) if noise else np.full((3, size, size), 0.5, np.float32)
        anomaly_map = cv2.GaussianBlur(rng.random((size, size), np.float32), (0, 0), 4)
        sample = Sample(image.image_path, "", image.class_name, image.label)
        report.image(ImageMap(sample, torch.from_numpy(pixels), anomaly_map, mask, 0.5))


def write_page(
    folder: Path,
    results: Sequence[ClassResult],
    *,
    title: str = "A page",
    threshold: float | None = None,
    bootstrap: Bootstrap | None = None,
    more: Sequence[dict] = (),
    unread: Mapping[str, str] | None = None,
    **options,
) -> Path:
    run = Run(
        folder=folder,
        title=title,
        images=sum(len(result.images) for result in results),
        classes=len(results),
        description={"note": NASTY},
        notes=["a remark"],
        bootstrap=bootstrap,
    )
    report = HtmlReport(run, to_picture, threshold)
    report.unread = unread or {}
    for result in results:
        add_images(report, result, **options)
        report.class_done(result, more)
    report.finish()
    return folder / PAGE
