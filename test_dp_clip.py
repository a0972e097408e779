"""Test DP-CLIP on one data set or several, after one epoch of a training or several.

    python test_dp_clip.py --checkpoint results/dp_clip_training/on_visa/image_adapter.pth --dataset mvtec btad
    python test_dp_clip.py --checkpoint results/dp_clip_training/on_visa/image_adapter_*.pth --dataset mvtec
    bash test_DP_CLIP.sh                    # with the paper's settings, on every data set that is there

Leaves results.md, results.json, scores.csv and report.html in results/dp_clip/MODEL/NAME, or in --save_path: with
several data sets in a folder each, with several epochs in those of an epoch each; summary.md sets them side by side.
"""

from collections.abc import Sequence
from pathlib import Path

from datasets.registry import Domain
from engine.options import DEFAULT_MODEL, FIDELITY, MODEL, PROMPTS, AdapterOptions, TestOptions
from models.fidelity import FidelityName
from utils.arguments import Seed, option, parse, required
from utils.errors import run


class DPClipOptions(TestOptions, AdapterOptions):
    """What DP-CLIP is tested with."""

    checkpoint: tuple[Path, ...] = required(
        "image adapters, of train_dp_clip.py or of the authors; several epochs of one give a curve", metavar="FILE"
    )
    domain: Domain | None = option("how maps are smoothed and images scored; default: by the data set")
    model: str | None = option(MODEL.format(f"the checkpoint's, else {DEFAULT_MODEL}"))
    fidelity: FidelityName | None = option(FIDELITY.format("the checkpoint's"))
    prompts: str | None = option(PROMPTS.format("the checkpoint's, else dp_clip"))
    seed: Seed = 111


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tests and write their results."""
    options = parse(DPClipOptions, __doc__, arguments)
    from engine.testing import test  # only now, as PyTorch takes seconds to import

    test(options, "dp_clip")


if __name__ == "__main__":
    run(main, parallel=True)
