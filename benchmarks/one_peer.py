"""One of the two programs that `peers.py` compares, in a process and an environment of its own.

    python one_peer.py anomalib predict FOLDER "$(date +%s.%N)" 8      # or ours
    python one_peer.py anomalib measure FOLDER 0

FOLDER holds what `peers.prepare` writes. Prints what was found as a line of JSON.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

VALUES = ("pixel AUROC", "pixel F1-max", "PRO", "image AUROC", "image F1-max")
Model = Callable[[torch.Tensor], Any]
Measures = list[Callable[[], Sequence[float]]]  # which give one after another `VALUES`


def our_model(model: str, weights: str, phrase: str) -> Model:
    """Build SDP as Python users do, its sentences encoded and not read from a cache."""
    import harness  # noqa: F401 - which puts the project on the path

    from engine.detector import Detector

    with TemporaryDirectory() as cache:
        sdp = Detector("sdp", object=phrase, backbone=model, pretrained=weights, cache_dir=cache).predictor.detector
    (name,) = sdp.text_features
    return lambda images: sdp.predict(images, [name] * len(images))


def our_measures(maps: np.ndarray, masks: np.ndarray) -> Measures:
    """All at once, AP among them, as pixels are sorted once."""
    from measures import MEASURES, ours

    return [lambda: itemgetter(*VALUES)(dict(zip(MEASURES, ours(maps, masks), strict=True)))]


def anomalib_model(model: str, weights: str, phrase: str) -> Model:
    """Build zero-shot WinCLIP; open_clip loads a file named in the place of a published tag."""
    from anomalib.models.image.winclip import torch_model

    torch_model.BACKBONE, torch_model.PRETRAINED = model, weights
    return torch_model.WinClipModel(phrase).eval()


def anomalib_measures(maps: np.ndarray, masks: np.ndarray) -> Measures:
    """Each metric by itself, all maps in one batch."""
    from anomalib.data import ImageBatch
    from anomalib.metrics import AUPRO, AUROC, F1Max

    given = {"anomaly_map": torch.from_numpy(maps), "gt_mask": torch.from_numpy(masks)}
    given |= {"pred_score": given["anomaly_map"].amax((1, 2)), "gt_label": given["gt_mask"].any(2).any(1)}
    batch = ImageBatch(image=torch.zeros(()).expand(len(maps), 3, *maps.shape[1:]), **given)

    def measure(kind: type, fields: list[str]) -> list[float]:
        metric = kind(fields=fields)
        metric.update(batch)
        return [float(metric.compute())]

    pixels, images = [*given][:2], [*given][2:]
    kinds = ((AUROC, pixels), (F1Max, pixels), (AUPRO, pixels), (AUROC, images), (F1Max, images))
    return [partial(measure, *kind) for kind in kinds]


def cost(wall: float = 0.0, processor: float = 0.0) -> np.ndarray:
    """Wall and processor seconds since those given, and this process's peak memory in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
    return np.array((time.time() - wall, time.process_time() - processor, peak))


def main(program: str, task: str, folder: Path, began: float, size: int = 1) -> dict[str, Any]:
    """Predict all pictures in batches of `size`, after a single one, or measure the maps; the process `began` then."""
    build, measures = {"ours": (our_model, our_measures), "anomalib": (anomalib_model, anomalib_measures)}[program]
    packages = ("torch", "open_clip_torch", "numpy", *(["anomalib"] if program == "anomalib" else []))
    said: dict[str, Any] = {"packages": {name: version(name) for name in packages}, "threads": torch.get_num_threads()}
    if task == "predict":
        model = build(**json.loads((folder / "inputs.json").read_text()))
        said["set-up"] = [*cost(began)]
        images = torch.from_numpy(np.load(folder / "images.npy"))
        model(images[:1])
        start = cost()
        for batch in images.split(size):
            model(batch)
        said["task"] = [*(cost(*start[:2]) / (len(images), len(images), 1))]
    else:
        ways = measures(np.load(folder / "maps.npy"), np.load(folder / "masks.npy"))
        times = [cost()]
        said["values"] = []
        for way in ways:
            said["values"] += way()
            times.append(cost())
        said["each"] = [*np.diff(times, axis=0)[:, 1]]
        said["task"] = [*cost(*times[0][:2])]
    return said


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:3], Path(sys.argv[3]), float(sys.argv[4]), *map(int, sys.argv[5:]))))
