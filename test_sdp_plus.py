"""Test SDP+, CLIP-AD with trained adapters, on one data set or several.

    python test_sdp_plus.py --checkpoint results/sdp_plus_training/on_visa/epoch_5.pth --dataset mvtec
    python test_sdp_plus.py --checkpoint results/sdp_plus_training/on_visa --dataset mvtec  # its last epoch, all seeds
    bash test_SDP_plus.sh                   # with the paper's settings, on every data set that is there

Expect on five classes of the demo set, trained on the others by demo.sh: auroc_px 96.4, ap_px 56.5, auroc_sp 94.0,
ap_sp 96.8. Time, memory and published numbers stand at the top of test_SDP_plus.sh.
Leaves results.md, results.json, scores.csv, report.html and test.log in results/sdp_plus/MODEL/NAME, or in --save_path.
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test and write its results."""
    from engine.testing_options import SDPPlusOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(SDPPlusOptions, __doc__, arguments)
    from engine.testing import test  # only now, as PyTorch takes seconds to import

    return test(options, "sdp_plus")


if __name__ == "__main__":
    run(main, parallel=True)
