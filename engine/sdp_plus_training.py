"""Training of SDP+'s linear adapters, on patch tokens, with a validation after each checkpoint."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.image_set import ImageSet
from engine.data_sets import evaluation_loader, read_training_sets, read_validation_set
from engine.detectors import METHODS
from engine.evaluation import evaluate
from engine.loading import backbone_from_options, class_texts, find_device, image_texts
from engine.options import SDPPlusTrainingOptions, resolve
from engine.tokens import TokenBatch, TokenSource, token_source
from engine.training import Training
from models.adapter_checkpoint import SDP_PLUS
from models.fidelity import Fidelity
from models.sdp_plus import LinearAdapters, adapters_for, training_loss
from utils.distributed import is_main, sum_over_processes
from utils.results import Measures, mean_result, results_table, write_results
from utils.runtime import Stopwatch, seed_everything

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class SDPPlusTraining(Training):
    """The training of linear adapters."""

    method = SDP_PLUS
    file = "epoch_{}.pth"

    options: SDPPlusTrainingOptions
    trained: LinearAdapters
    tokens: TokenSource
    validation: tuple[ImageSet, Mapping[str, Tensor]] | None = None  # and text features [D, 2] of its classes

    @classmethod
    def prepare(cls, options: SDPPlusTrainingOptions) -> "SDPPlusTraining":
        method, fidelity = METHODS["sdp_plus"](), Fidelity.named(options.fidelity)
        images = read_training_sets(options)
        held_out = read_validation_set(options, images)
        backbone = backbone_from_options(options, fidelity, find_device(options.device))
        text = image_texts(options, method, backbone, images)
        seed_everything(options.seed)  # before images are encoded: it also keeps convolutions in float32
        return cls(
            options=options,
            backbone=backbone,
            fidelity=fidelity,
            images=images,
            text=text,
            tokens=token_source(options, backbone, fidelity, images),
            trained=adapters_for(backbone),
            validation=held_out and (held_out, class_texts(options, method, backbone, held_out)),
        )

    def batches(self, epoch: int, order: Sequence[int]) -> Iterable[TokenBatch]:
        return self.tokens.batches(order, self.options.batch_size)

    def forward_backward(self, batch: TokenBatch | None, share: float, part: float) -> dict[str, float] | None:
        loss = torch.zeros((), device=self.text.device)
        if batch is not None:
            logits = self.trained(batch.tokens, self.text[batch.indices])
            loss = training_loss(logits, batch.masks, self.upsampling)
            if not loss.isfinite():
                return None
            (share * part * loss).backward()
        return {"loss": sum_over_processes(part * loss.detach()).item()}

    def validate(self, epoch: int) -> Measures | None:
        """Write all measures to validation/epoch_N, and give their means; of several processes, the main one does."""
        if self.validation is None:
            return None
        images, text = self.validation
        method = METHODS["sdp_plus"]()
        own = resolve(self.options, images.spec, **method.defaults(images.spec))
        detector = method.detector(own, self.backbone, self.fidelity, self.trained, text)
        loader = evaluation_loader(images, self.backbone, own, own.seed)
        with logging_redirect_tqdm():
            device = self.backbone.device
            results = list(evaluate(detector, loader, images.entries, device=device, stopwatch=Stopwatch()))
        if not is_main():
            return {}
        title = f"{SDP_PLUS} on {images.spec.name} after epoch {epoch}"
        logger.info("%s\n%s", title, results_table(results))
        description = {"method": SDP_PLUS, "dataset": images.spec.name, "epoch": epoch}
        write_results(self.options.save_path / "validation" / f"epoch_{epoch}", title, results, description)
        return mean_result(results).measures
