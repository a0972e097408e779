"""Train DP-CLIP's image adapter on one data set with masks or several.

    python train_dp_clip.py --train_dataset visa --train_dataset_dir data/visa --save_path results/on_visa
    python train_dp_clip.py --train_dataset visa --train_dataset_dir data/visa --save_path results/on_visa --resume
    python train_dp_clip.py --train_dataset visa --seeds 0 1 2 --save_path results/on_visa
    python train_dp_clip.py --train_dataset demo --model demo --prompts industrial --epochs 5 --save_path results/demo
    bash train_DP_CLIP.sh                   # with the paper's settings, on VisA

Expect of the try on the demo set, of some minutes, a loss of 5.85 in the first epoch and 3.66 in the fifth, to some
hundredths on other processors. Time and memory of the others stand at the top of train_DP_CLIP.sh.
Leaves checkpoints image_adapter_N.pth for test_dp_clip.py, the last as image_adapter.pth, the curves of the loss and
train.log in --save_path; of several seeds, in a folder seed_N of it each.
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and leave checkpoints and curves."""
    from engine.training_options import DPClipTrainingOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(DPClipTrainingOptions, __doc__, arguments)
    from engine.dp_clip_training import DPClipTraining  # only now, as PyTorch takes seconds to import
    from engine.training import train

    train(options, DPClipTraining)


if __name__ == "__main__":
    run(main, parallel=True)
