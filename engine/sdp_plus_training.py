"""Training of SDP+'s linear adapters, on patch tokens, with a validation after each checkpoint."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data_sets import evaluation_loader
from engine.detectors import METHODS
from engine.evaluation import evaluate
from engine.options import resolve
from engine.origin import describe, made_with, notes_on, run_on
from engine.tiling import tiling_of
from engine.tokens import TokenBatch, token_source
from engine.training import Training
from engine.training_options import SDPPlusTrainingOptions
from models.adapter_checkpoint import SDP_PLUS
from models.backbone import Backbone
from models.fidelity import Fidelity
from models.sdp import LinearAdapters, adapters_for, training_loss
from utils.distributed import is_main, sum_over_processes
from utils.results import Measures, mean_result, results_table, write_results
from utils.runtime import Stopwatch

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class SDPPlusTraining(Training):
    """The training of linear adapters."""

    key = "sdp_plus"
    method = SDP_PLUS

    options: SDPPlusTrainingOptions
    trained: LinearAdapters

    def __post_init__(self) -> None:
        super().__post_init__()
        # Compiled, what is done at every pixel is a few loops, not some thirty.
        self.loss_of = torch.compile(self._loss) if self.backbone.compile else self._loss

    def begin(self) -> None:
        digests = self.fingerprints["sha256"]
        self.tokens = token_source(self.options, self.backbone, self.fidelity, self.images, digests)

    def _loss(self, tokens: Tensor, text: Tensor, masks: Tensor) -> Tensor:
        return training_loss(self.trained(tokens, text), masks, self.upsampling)

    @staticmethod
    def untrained(options: SDPPlusTrainingOptions, backbone: Backbone, fidelity: Fidelity) -> LinearAdapters:
        return adapters_for(backbone)

    def batches(self, epoch: int, order: Sequence[int]) -> Iterable[TokenBatch]:
        return self.tokens(order)

    def forward_backward(self, batch: TokenBatch | None, share: float, part: float) -> dict[str, float] | None:
        loss = torch.zeros((), device=self.text.device)
        if batch is not None:
            loss = self.loss_of(batch.tokens, self.text[batch.indices], batch.masks)
            if not loss.isfinite():
                return None
            (share * part * loss).backward()
        return {"loss": sum_over_processes(part * loss.detach()).item()}

    def validate(self, epoch: int) -> Measures | None:
        """Write all measures to validation/epoch_N, and give their means; of several processes, the main one does."""
        if self.validation is None:
            return None
        images, text = self.validation
        method = METHODS[self.key]()
        own = resolve(self.options, images.spec, **method.defaults(images.spec))
        detector = method.detector(own, self.backbone, self.fidelity, self.trained, text)
        loader = evaluation_loader(images, self.backbone, own)
        device, entries = self.backbone.device, images.entries
        tiles = {"tiling": tiling_of(own), "batch_size": own.batch_size}
        results = list(evaluate(detector, loader, entries, device=device, stopwatch=Stopwatch(), **tiles))
        if not is_main():
            return {}
        title = f"{SDP_PLUS} on {images.spec.name} after epoch {epoch}"
        described = describe(own, self.backbone, self.fidelity, None)
        of = {"dataset": images.spec.name, "protocol": images.spec.protocol}
        about = {"method": SDP_PLUS, **of, "epoch": epoch, **described}
        said = {"made_with": made_with(described), "notes": notes_on(images.spec.name, described)}
        folder = self.options.save_path / "validation" / f"epoch_{epoch}"
        run = run_on(images, folder=folder, title=title, description=about, device=device, **said)
        logger.info("%s\n%s\n%s", title, results_table(results), "\n".join(run.notes_on(results)))
        write_results(run, results)
        return mean_result(results).measures
