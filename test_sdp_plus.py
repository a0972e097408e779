"""Test SDP+, CLIP-AD with trained adapters, on one data set or several.

    python test_sdp_plus.py --checkpoint results/sdp_plus_training/on_visa/epoch_5.pth --dataset mvtec
    bash test_SDP_plus.sh                   # with the paper's settings, on every data set that is there

Leaves results.md, results.json, scores.csv, report.html and test.log in results/sdp_plus/MODEL/NAME, or in --save_path.
"""

from collections.abc import Sequence
from pathlib import Path

from engine.options import DEFAULT_MODEL, FIDELITY, MODEL, PROMPTS, ClipAdOptions, TestOptions
from models.fidelity import FidelityName
from models.representative import RepVec
from utils.arguments import option, parse, required
from utils.errors import run


class SDPPlusOptions(TestOptions, ClipAdOptions):
    """What SDP+ is tested with."""

    checkpoint: tuple[Path, ...] = required(
        "trained adapters, of train_sdp_plus.py, of the authors, or safetensors: one for all data sets or one for each",
        metavar="FILE",
    )
    model: str | None = option(MODEL.format(f"the checkpoint's, else {DEFAULT_MODEL}"))
    prompts: str | None = option(PROMPTS.format("the checkpoint's, else those of the data set's domain"))
    rep_vec: RepVec | None = option("how a state's sentences become one vector; default: the checkpoint's, else mean")
    fidelity: FidelityName | None = option(FIDELITY.format("the checkpoint's"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the test and write its results."""
    options = parse(SDPPlusOptions, __doc__, arguments)
    from engine.testing import test  # only now, as PyTorch takes seconds to import

    test(options, "sdp_plus")


if __name__ == "__main__":
    run(main, parallel=True)
