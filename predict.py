"""Find anomalies in photographs of your own, with a threshold if there are normal ones.

    python predict.py my_photos --object "metal nut"
    python predict.py my_photos 'more/**/*.png' --object "metal nut" --normal_dir good_ones
    python predict.py data/demo/wood/test --normal_dir data/demo/wood/train/good --object wood \\
        --model demo --smoothing 2          # expect "32 images predicted, 21 of them anomalous; 0 could not be"
    python predict.py inbox --watch         # goes on with images that come, each answered by a line of JSON
    bash predict.sh my_photos               # with settings to edit

Leaves report.html, scores.csv, scores.jsonl and overlays/ in results/predict, or in --save_path; the exit code is 1 if
an image could not be read. Of images that come one by one, with --watch or -, the lines are printed, and files are left
only in --save_path.
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, and say what was found; 1 if an image could not be read."""
    from engine.prediction_options import PredictionOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(PredictionOptions, __doc__, arguments)
    from engine.prediction import predict  # only now, as PyTorch takes seconds to import

    return predict(options)


if __name__ == "__main__":
    run(main, parallel=True)
