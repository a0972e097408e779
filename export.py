"""Export a detector as ONNX, for onnxruntime, OpenVINO and others; it says images' maps, probabilities and p-values.

    python export.py --object "metal nut" --output nut.onnx --calibration results/nuts/calibration.json
    python export.py --object "metal nut" --output nut.onnx --verify my_photos     # and compare it with PyTorch
    python predict.py my_photos --runtime onnxruntime --onnx nut.onnx
    python export.py --object wood --model demo --output results/wood.onnx --verify data/demo/wood/test   # to try it

Expect of the last "wrote results/wood.onnx, 3.9 MiB", in some seconds, and differences of a few millionths.
Needs the packages of requirements-extras.txt. The exit code is 1 if --verify finds that results differ.
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and compare if that is asked for; 1 if the results differ."""
    from engine.prediction_options import ExportOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(ExportOptions, __doc__, arguments)
    from engine.exporting import export  # only now, as PyTorch takes seconds to import

    return export(options)


if __name__ == "__main__":
    run(main)
