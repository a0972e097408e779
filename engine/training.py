"""Train what a method trains: epochs of steps with checkpoints after some of them, and going on with a stopped run."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from data.masks import vanishing
from datasets.image_set import ImageSet
from datasets.loader import Batch, epoch_order, in_batches
from engine.data_sets import check_phrases
from engine.detectors import METHODS
from engine.loading import backbone_from_options, find_device, with_precision
from engine.options import OF_A_DETECTOR, named_backbone, resolve
from engine.resuming import FREE, earlier_state, refuse_changes
from engine.tokens import TokenBatch
from engine.training_options import TrainingOptions, ValidationOptions
from engine.training_sets import Fingerprints, fingerprints, read_training_sets, read_validation_set
from models.adapter_checkpoint import FILES, KEYS
from models.anomaly_map import adapter_upsampling
from models.backbone import Backbone
from models.checkpoints import load_into, save_checkpoint
from models.fidelity import Fidelity
from models.prompts import read_prompts
from models.text import discard_text_tower
from utils.arguments import plain_record
from utils.distributed import from_main, is_main, sum_gradients, world_size
from utils.epochs import TrainingLog
from utils.errors import UserError
from utils.results import Measures
from utils.runtime import locked, progress, random_states, restore_random_states, seed_everything, start_log

logger = logging.getLogger(__name__)

STATE = "last.pth"  # in --save_path: what `--resume` needs
# What a checkpoint records one by one.
ONE_BY_ONE = ("train_dataset", "train_protocol", "train_classes", "shot", "fidelity", "seed")
# Options that name what it records by its content.
RECORDED = ("model", "pretrained", "prompts", "phrases", "train_meta")


@dataclass(kw_only=True, eq=False)
class Training(ABC):
    """A method's part of a training: what is trained, its batches, and the two halves of its steps."""

    key: ClassVar[str]  # of the method in `METHODS`
    method: ClassVar[str]  # its name in checkpoints
    newest_file: ClassVar[str | None] = None  # one more name, of the newest epoch's checkpoint
    optimizer_key: ClassVar[str] = "optimizer"  # where in a state file the optimiser's state is
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)  # of Adam
    nearest_masks: ClassVar[bool] = False  # whether masks are resized by the nearest neighbour
    remedy: ClassVar[str] = "choose a smaller --learning_rate"  # against a loss that is not finite

    options: TrainingOptions  # resolved
    backbone: Backbone
    fidelity: Fidelity
    images: Sequence[ImageSet]  # of the data sets to train on, n in all
    fingerprints: Fingerprints  # theirs
    text: Tensor  # text features of every image's class [n, D, 2]
    trained: nn.Module  # what is optimised
    validation: tuple[ImageSet, Mapping[str, Tensor]] | None = None  # text features [D, 2] of its classes
    prompts: Mapping[str, Any] = field(default_factory=dict)  # ensembles that the texts are of, by name, for the record
    accumulate: int = field(default=1, init=False)  # batches a step; the last step of an epoch may have fewer
    epoch: int = field(default=0, init=False)  # the last that is done

    def __post_init__(self) -> None:
        self.log = TrainingLog([], [])
        self.optimizer = torch.optim.Adam(self.trained.parameters(), self.options.learning_rate, self.betas, fused=True)
        self.upsampling = adapter_upsampling(self.backbone)

    @classmethod
    def prepare(cls, options: TrainingOptions) -> "Training":
        """Read and load what resolved options name, and make what is to be trained."""
        method = METHODS[cls.key]()
        fidelity = Fidelity.named(options.fidelity, method.system)
        images = read_training_sets(options)
        known = fingerprints(images)
        held_out = read_validation_set(options, known) if isinstance(options, ValidationOptions) else None
        check_phrases(options, filter(None, (*images, held_out)))
        backbone = backbone_from_options(options, fidelity, find_device(options.device))
        for part in images if is_main() else ():
            for sentence in vanishing(part, backbone.image_size, nearest=cls.nearest_masks):
                logger.warning("%s", sentence)
        seed_everything(options.seed)  # before images are encoded: it also keeps convolutions in float32
        trained = cls.untrained(options, backbone, fidelity)  # a mistake in its form is told before texts are encoded
        texts = [(part, method.class_texts(options, backbone, part)) for part in images]
        text = torch.stack([of_classes[entry.cls_name] for part, of_classes in texts for entry in part.entries])
        names = (resolve(options, part.spec, **method.defaults(part.spec)).prompts for part in images)
        prompts = {name: read_prompts(name).record() for name in dict.fromkeys(names)}
        validation = held_out and (held_out, method.class_texts(options, backbone, held_out))
        discard_text_tower(backbone)
        parts = {"text": text, "trained": trained, "validation": validation, "prompts": prompts}
        return cls(options=options, backbone=backbone, fidelity=fidelity, images=images, fingerprints=known, **parts)

    @staticmethod
    @abstractmethod
    def untrained(options: TrainingOptions, backbone: Backbone, fidelity: Fidelity) -> nn.Module:
        """Make what is to be trained."""

    def begin(self) -> None:  # noqa: B027 - most have nothing to do
        """Prepare what the epochs to come need, once it is known that they may go on."""

    @abstractmethod
    def batches(self, epoch: int, order: Sequence[int]) -> Iterable[Batch | TokenBatch]:
        """Load the images with the indices `order`, as this epoch takes them."""

    @abstractmethod
    def forward_backward(self, batch: Any, share: float, part: float) -> dict[str, float] | None:
        """Add a batch's gradients to those that are there.

        Args:
            batch: one of `batches`; None where other processes have images left and this one has none.
            share: what the gradients are multiplied by.
            part: what share of the batch's images these are; those of other processes are the rest.

        Returns:
            The loss of the whole batch and its parts; None where that of these images is not finite, and no gradient
            was added.
        """

    def step(self) -> None:
        """Move the parameters along the gradients that were added up."""
        sum_gradients(self.trained.parameters())
        self.optimizer.step()
        self.optimizer.zero_grad()

    def checkpoint(self, epoch: int, **entries: Any) -> dict[str, Any]:
        """Collect what a test needs of an epoch: the authors' form and a `Record`; `entries` are the method's own."""
        arguments = recorded_arguments(self.options)
        record = {name: arguments.pop(name) for name in ONE_BY_ONE}
        record["training"] = {name: value for name, value in arguments.items() if name not in {*FREE, *RECORDED}}
        of_detector = {name: arguments[name] for name in OF_A_DETECTOR if name in arguments}  # None is left open
        record |= {"options": named_backbone(self.options) | of_detector, "prompts": self.prompts}
        record |= {"images": self.fingerprints, "method": self.method, "backbone": self.backbone.record}
        called = {"described": METHODS[self.key]().described, "called": self.options.obj_name}
        record["phrases"] = [part.phrases(**called) for part in self.images]
        record["mask_thresholds"] = [part.spec.mask_threshold for part in self.images]
        return {"epoch": epoch, KEYS[self.method]: self.trained.state_dict(), **entries, **record}

    def state_dict(self) -> dict[str, Any]:
        """Collect what a resumed training needs of the optimisation beside the checkpoint."""
        return {self.optimizer_key: self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Go on from a checkpoint and what `state_dict` gave, both read from `path`."""
        load_into(self.trained, state[KEYS[self.method]], path, "the adapters in training")
        self.optimizer.load_state_dict(state[self.optimizer_key])

    def doubts(self, epoch: int) -> Iterable[str]:
        """Say what the losses of an epoch show to go wrong, a sentence each."""
        return ()

    def validate(self, epoch: int) -> Measures | None:
        """Measure what is trained after an epoch; None if there is nothing to validate on."""
        return None

    @property
    def last_good(self) -> str:
        """Say what is left of a training that cannot go on."""
        found = f"epoch {self.epoch} is the last good one, in {self.options.save_path / STATE}"
        return found if self.epoch else "no epoch was finished"

    @property
    def sizes(self) -> list[Sequence[int]]:
        """Count the images, of all processes together, in the batches of each step of an epoch."""
        batches = in_batches(range(len(self.text)), self.options.batch_size * world_size())
        return in_batches([len(batch) for batch in batches], self.accumulate)

    def steps(self, epoch: int) -> Iterator[dict[str, float]]:
        """Take the steps of an epoch, and give the loss of each and its parts, the mean over its batches."""
        shuffled = not self.fidelity.unshuffled_training
        batches = iter(self.batches(epoch, epoch_order(len(self.text), self.options.seed, epoch, shuffled=shuffled)))
        for step, sizes in enumerate(self.sizes, start=1):
            losses: list[dict[str, float]] = []
            for size in sizes:
                batch = next(batches, None)  # of several processes, the last batch may have no image for this one
                part = 0.0 if batch is None else len(batch.indices) / size
                found = self.forward_backward(batch, 1 / len(sizes), part)
                if found is None:
                    number = (epoch - 1) * len(self.sizes) + step
                    paths = [one.root / entry.img_path for one in self.images for entry in one.entries]
                    files = ", ".join(str(paths[index]) for index in batch.indices)
                    raise UserError(
                        f"the loss of step {number} is not finite, on {files}: {self.remedy}, and with --precision "
                        f"fp16 or bf16 try fp32; {self.last_good}"
                    )
                losses.append(found)
            self.step()
            yield {name: sum(one[name] for one in losses) / len(losses) for name in found}


def train(options: TrainingOptions, kind: type[Training]) -> None:
    """Train, and leave checkpoints and curves in `--save_path`, of several seeds each in a folder `seed_N` of it."""
    options = resolve(options)
    seeds = list(dict.fromkeys(options.seeds or (options.seed,)))
    folders = {seed: options.save_path / (f"seed_{seed}" if len(seeds) > 1 else "") for seed in seeds}
    for place, (seed, folder) in enumerate(folders.items()):
        with locked(folder):  # no other run may write to it meanwhile
            for later in [*folders.values()][place:]:  # before any work
                if is_main() and not options.resume and (later / STATE).exists():
                    raise UserError(
                        f"{later} holds a training already: go on with it by --resume, choose another --save_path, or "
                        "delete it"
                    )
            _train(replace(options, seed=seed, seeds=None, save_path=folder), kind)
    if len(seeds) > 1:
        logger.info("test all seeds with --checkpoint %s", options.save_path)


def _train(options: TrainingOptions, kind: type[Training]) -> None:
    state_file = options.save_path / STATE
    start_log(options.save_path / "train.log", append=options.resume)
    options = with_precision(options, find_device(options.device))
    arguments = recorded_arguments(options)
    state = from_main(lambda: earlier_state(arguments, state_file, kind.method) if state_file.exists() else None)
    training = kind.prepare(options)
    if state is not None:
        _restore(training, state, state_file)
    _run_epochs(training, arguments)


def recorded_arguments(options: TrainingOptions) -> dict[str, Any]:
    """Give the options as a checkpoint holds them; the batch size is that of all processes together."""
    return plain_record(options) | {"batch_size": options.batch_size * world_size()}


def _restore(training: Training, state: Mapping[str, Any], path: Path) -> None:
    try:
        refuse_changes(state, training.checkpoint(training.epoch), path)
        training.restore(state, path)
        restore_random_states(state["random_states"])
        training.log, training.epoch = TrainingLog(**state["log"]), int(state["epoch"])
    except torch.OutOfMemoryError:  # a RuntimeError, but not the file's fault
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(f"{path} is no state to resume from ({reason}): start over without it") from error
    logger.info("going on after epoch %d", training.epoch)


def _run_epochs(training: Training, arguments: Mapping[str, Any]) -> None:
    options, log = training.options, training.log
    parameters = sum(parameter.numel() for parameter in training.trained.parameters())
    about = f"training {parameters} parameters on {len(training.text)} images for {options.epochs} epochs"
    logger.info("%s, in %s fidelity, by seed %d", about, options.fidelity, options.seed)
    newest = options.save_path / (training.newest_file or STATE)
    training.begin()
    for epoch in range(training.epoch + 1, options.epochs + 1):
        is_last = epoch == options.epochs
        bar = progress(training.steps(epoch), total=len(training.sizes), unit="step", desc=f"epoch {epoch}")
        for losses in bar:
            log.steps.append({"step": len(log.steps) + 1, "epoch": epoch, **losses})
            bar.set_postfix_str(f"loss {losses['loss']:.3f}")
        if is_last or epoch % options.print_freq == 0:
            means = ", ".join(f"{name} {log.epoch_mean(epoch, name):.4f}" for name in losses)
            rate = training.optimizer.param_groups[0]["lr"]
            logger.info("epoch %d of %d: %s; learning rate %g", epoch, options.epochs, means, rate)
        for sentence in training.doubts(epoch):
            logger.warning("%s", sentence)
        if not all(parameter.isfinite().all() for parameter in training.trained.parameters()):
            what = f"after epoch {epoch} the trained parameters are not finite"
            raise UserError(f"{what}: {training.remedy}; {training.last_good}")
        checkpoint = training.checkpoint(epoch)
        if is_last or epoch % options.save_freq == 0:
            newest = options.save_path / FILES[training.method].format(epoch)
            save_checkpoint(newest, checkpoint)
            if (measures := training.validate(epoch)) is not None:
                log.validations.append({"epoch": epoch, **measures})
        if training.newest_file is not None:
            newest = options.save_path / training.newest_file
            save_checkpoint(newest, checkpoint)
        log.write(options.save_path)  # before the state: a run that goes on after this epoch does not write it again
        rest = {"random_states": random_states(), "arguments": arguments, "log": vars(log)}
        save_checkpoint(options.save_path / STATE, checkpoint | training.state_dict() | rest)
        training.epoch = epoch
    logger.info("the curves are in %s", options.save_path)
    logger.info("test with --checkpoint %s", newest)
