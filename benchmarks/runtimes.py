"""Times SDP by PyTorch, onnxruntime and OpenVINO on a CPU, in float32 and bfloat16, and says how far maps differ.

    python benchmarks/runtimes.py                                              # ViT-B-16-plus-240, 240 px
    python benchmarks/runtimes.py --model ViT-L-14-336 --image_size 518 --repeats 3

All have the same random weights and images. Needs the packages of requirements-extras.txt.
"""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from harness import Options, benchmark, difference, medians, print_table
from torch import Tensor

from engine.exporting import export
from engine.onnx_predictor import OnnxDetector
from engine.predicting import Predictor
from engine.prediction_options import ExportOptions, PredictionOptions
from models.dual_path import encode_dual_path
from models.sdp import SDP
from tests.random_weights import save_random_weights
from utils.errors import UserError


def tokens_of(detector: SDP, images: Tensor) -> Tensor:
    """The surgery path's tokens of all taps [taps, B, 1+N, D]."""
    backbone = detector.backbone
    options = {"shared_buffers": False, "with_ori": False}
    with torch.inference_mode():
        taps = backbone.run_image_tower(encode_dual_path, images, backbone.features_list, **options)
    return torch.stack([tap.surgery.float() for tap in taps])


def cosine(first: Tensor, second: Tensor) -> float:
    """The mean cosine of the vectors that two tensors hold in their last axis."""
    return float(F.cosine_similarity(first, second, dim=-1).mean())


@benchmark(model="ViT-B-16-plus-240", image_size=240, batch_size=1, repeats=5)
def main(args: Options) -> None:
    given = {"model": args.model, "image_size": args.image_size, "cache_dir": args.folder}
    given["pretrained"] = str(save_random_weights(args.model, args.folder / "random.safetensors"))
    path = args.folder / "model.onnx"
    export(ExportOptions(output=path, input="normalised", **given))
    predictor = Predictor(PredictionOptions(inputs=(), device="cpu", **given))
    detector, names = predictor.detector, [predictor.options.object] * args.batch_size
    reduced = replace(detector, backbone=replace(detector.backbone, precision="bf16"))
    detectors = {"PyTorch fp32": detector, "PyTorch bf16": reduced}
    for runtime, precision in (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")):
        try:
            detectors[f"{runtime} {precision}"] = OnnxDetector.load(path, runtime, precision)
        except UserError as error:
            print(f"{runtime}: {error}")
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size)
    ways = {way: partial(one.predict, images, names) for way, one in detectors.items()}
    maps = {way: predict().maps.flatten(1) for way, predict in ways.items()}
    seconds = medians(ways, args.repeats)
    right, first = maps["PyTorch fp32"], seconds["PyTorch fp32"]
    rows = [
        (way, value / args.batch_size, first / value, cosine(maps[way], right), difference(maps[way], right))
        for way, value in seconds.items()
    ]
    tokens = cosine(*(tokens_of(one, images) for one in (detector, reduced)))
    print(f"{torch.get_num_threads()} threads; mean cosine of PyTorch's tokens in bf16 and fp32: {tokens:.5f}\n")
    columns = {"": "", "seconds an image": ".3f", "times as fast as the first": ".2f"}
    print_table(columns | {"cosine of maps": ".6f", "largest difference": ".1e"}, rows)
