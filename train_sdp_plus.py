"""Train SDP+'s linear adapters on data sets with masks.

    python train_sdp_plus.py --train_dataset visa --train_dataset_dir data/visa --save_path results/on_visa
    python train_sdp_plus.py --train_dataset visa --train_dataset_dir data/visa --save_path results/on_visa --resume
    python train_sdp_plus.py --train_dataset visa --seeds 0 1 2 --save_path results/on_visa
    python train_sdp_plus.py --train_dataset demo --model demo --save_path results/on_demo   # in a minute
    bash train_SDP_plus.sh                  # with the paper's settings, on VisA and on MVTec

Expect of the try on the demo set a loss of 5.44 in the first epoch and 3.24 in the fifth, to some hundredths on other
processors. Time, memory and disk of the others stand at the top of train_SDP_plus.sh.
Leaves a checkpoint epoch_N.pth for test_sdp_plus.py, curves of loss and validation, and train.log in --save_path; of
several seeds, in a folder seed_N of it each.
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and leave checkpoints and curves."""
    from engine.training_options import SDPPlusTrainingOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(SDPPlusTrainingOptions, __doc__, arguments)
    from engine.sdp_plus_training import SDPPlusTraining  # only now, as PyTorch takes seconds to import
    from engine.training import train

    train(options, SDPPlusTraining)


if __name__ == "__main__":
    run(main, parallel=True)
