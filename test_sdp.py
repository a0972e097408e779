"""Test SDP, CLIP-AD without training, on one data set or several.

    python test_sdp.py --dataset mvtec --data_path data/mvtec
    python test_sdp.py --dataset mvtec visa --data_path data/mvtec data/visa --save_path results/sdp
    python test_sdp.py --dataset demo --model demo   # expect auroc_px 95.2, ap_px 54.8, auroc_sp 92.5, ap_sp 96.2
    bash test_SDP.sh                        # with the paper's settings, on every data set that is there

Time, memory and published numbers stand at the top of test_SDP.sh.
Leaves results.md, results.json, scores.csv, report.html and test.log in results/sdp/MODEL/NAME, or in --save_path.
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test and write its results."""
    from engine.testing_options import SDPOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(SDPOptions, __doc__, arguments)
    from engine.testing import test  # only now, as PyTorch takes seconds to import
    from engine.variants import sdp_variant

    return test(options, *sdp_variant(options))


if __name__ == "__main__":
    run(main, parallel=True)
