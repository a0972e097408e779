"""Predictions of photographs, apart from how they are read and written."""

from types import SimpleNamespace

import torch

from datasets.photographs import Photograph
from engine.predicting import Predictor
from models.tiles import Tiling
from utils.evaluation_types import Prediction


class Black:
    def predict(self, images: torch.Tensor, class_names: list[str]) -> Prediction:
        return Prediction(torch.zeros(len(images), 4, 4), torch.zeros(len(images)))


def test_photographs_that_wait_keep_no_memory_of_their_pixels():
    memory = torch.zeros(100_000, dtype=torch.uint8)  # as what comes from a worker lies in one
    image = memory[: 3 * 4 * 4].reshape(3, 4, 4)
    item = Photograph(image, memory[:12].reshape(2, 2, 3), (8, 8), memory[: 8 * 8 * 3].reshape(8, 8, 3))
    options, device = SimpleNamespace(object="nut", batch_size=2), torch.device("cpu")
    tiling = Tiling(side=4, overlap=0.25, scale=1.0, context=True)
    self = SimpleNamespace(detector=Black(), options=options, device=device, tiling=tiling)
    ((_, found),) = Predictor.predict_items(self, [(0, item)])
    kept = found.photograph
    assert kept.pixels is None
    assert torch.equal(kept.image, image)
    for tensor in (kept.image, kept.picture):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
