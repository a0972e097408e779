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

from engine.exporting import ExportedModel, trace
from engine.onnx_predictor import ExportRecord, OnnxDetector, write_model
from models.dual_path import encode_dual_path
from models.fidelity import Fidelity
from models.sdp import SDP
from tests.random_weights import random_backbone
from utils.errors import UserError

NAME = "object"


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
    path, names = args.folder / "model.onnx", [NAME] * args.batch_size
    backbone = random_backbone(args.model, args.folder, args.image_size)
    backbone.clip.transformer = None  # the text tower, for its memory
    text = F.normalize(torch.randn(backbone.clip.visual.proj.shape[1], 2), dim=0)  # which no sentence is encoded for
    detector = SDP(backbone, {NAME: text}, Fidelity.named("corrected"), smoothing=8.0)
    reduced = replace(detector, backbone=replace(detector.backbone, precision="bf16"))
    program = trace(ExportedModel(detector, NAME, "normalised", None), args.image_size, opset=20)
    record = ExportRecord(origin={}, notes=[], calibration=None, input="normalised", one_by_one=False)
    program.model.metadata_props.update(record.metadata())
    write_model(path, program.model_proto.SerializeToString())
    del program
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
    right = next(iter(maps.values()))
    first = next(iter(seconds.values()))
    rows = [
        (way, value / args.batch_size, first / value, cosine(maps[way], right), difference(maps[way], right))
        for way, value in seconds.items()
    ]
    tokens = cosine(*(tokens_of(one, images) for one in (detector, reduced)))
    print(f"{torch.get_num_threads()} threads; mean cosine of PyTorch's tokens in bf16 and fp32: {tokens:.5f}\n")
    columns = {"": "", "seconds an image": ".3f", "times as fast as the first": ".2f"}
    print_table(columns | {"cosine of maps": ".6f", "largest difference": ".1e"}, rows)
