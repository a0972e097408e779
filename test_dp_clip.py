"""Test DP-CLIP on one data set or several, after one epoch of a training or several.

    python test_dp_clip.py --checkpoint results/dp_clip_training/on_visa/image_adapter.pth --dataset mvtec btad
    python test_dp_clip.py --checkpoint results/dp_clip_training/on_visa/image_adapter_*.pth --dataset mvtec
    python test_dp_clip.py --checkpoint results/dp_clip_training/on_visa --dataset mvtec  # its last epoch, all seeds
    bash test_DP_CLIP.sh                    # with the paper's settings, on every data set that is there

Expect on five classes of the demo set, trained on the others by demo.sh: auroc_px 97.4, ap_px 60.7, auroc_sp 93.8,
ap_sp 96.7. Time, memory and published numbers stand at the top of test_DP_CLIP.sh.
Leaves results.md, results.json, scores.csv and report.html in results/dp_clip/MODEL/NAME, or in --save_path: with
several data sets in a folder each, with several epochs in those of an epoch each; summary.md sets them side by side.
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests and write their results."""
    from engine.testing_options import DPClipOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(DPClipOptions, __doc__, arguments)
    from engine.testing import test  # only now, as PyTorch takes seconds to import

    return test(options, "dp_clip")


if __name__ == "__main__":
    run(main, parallel=True)
